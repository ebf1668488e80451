"""The student: for every item, the N items that the teacher would show after it. Serving adds up rows; that is all.

    score(u, i) = Σ_l exp(−λ · age_l) · T[item_l, i]  +  β · log(1 + popularity_i)

T has at most N entries a row. There is no encoder, no feature and no network in it, so it needs no torch: an
item-based neighbourhood model (Deshpande & Karypis 2004) whose similarities are a teacher's scores.

It holds what the platform's own shoppers do, without noise. It belongs to the local layer: it never leaves.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save
from scipy import sparse

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Student:
    """near : T, (I, I) float32, all ≥ 0. log_popularity : (I,) float32. decay : λ > 0. popularity : β ≥ 0."""

    near: sparse.csr_matrix
    log_popularity: Floats
    decay: float
    popularity: float

    def scores(self, items: NDArray[np.int64], ages: NDArray[np.int64]) -> Floats:
        """Return (B, I) for histories as `Split.padded` gives them: (B, L) items, −1 for none, and ages in baskets."""
        real = items >= 0
        weights = np.exp(-self.decay * ages[real]).astype(np.float32)
        events = (np.nonzero(real)[0], items[real])
        recent = sparse.csr_matrix((weights, events), shape=(len(items), self.near.shape[0]))
        scores = (recent @ self.near).toarray()
        if self.popularity > 0:
            scores += self.popularity * self.log_popularity
        return scores

    def to_bytes(self) -> bytes:
        """Return the tables as safetensors: 6 bytes an entry."""
        return save(
            {
                "indptr": self.near.indptr.astype(np.int64),
                "items": self.near.indices.astype(np.int32),
                "values": self.near.data.astype(np.float16),
                "log_popularity": self.log_popularity.astype(np.float32),
            }
        )


def student_from_bytes(data: bytes, decay: float, popularity: float) -> Student:
    """Read what `to_bytes` wrote; raise ValueError for anything else."""
    try:
        parts = load(data)
        width = len(parts["log_popularity"])
        near = sparse.csr_matrix(
            (parts["values"].astype(np.float32), parts["items"], parts["indptr"]), shape=(width, width)
        )
        near.check_format()
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(str(error)) from None
    if not (np.isfinite(near.data).all() and np.isfinite(parts["log_popularity"]).all()):
        raise ValueError("a value is not finite")
    return Student(near, parts["log_popularity"], decay, popularity)
