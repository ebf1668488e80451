"""A public codebook: any item of any catalogue as one of K codes, so that platforms without shared ids can share what
goes with what.

The codebook is made from item text alone (spherical k-means, Dhillon & Modha 2001), hence public; everyone who has the
encoders and the codebook gives an item the same code. Vector-quantised codes in place of ids are VQ-Rec's idea (Hou et
al. 2023). Shapes: I items, F feature width, K codes.
"""

import hashlib

import numpy as np
import torch
from torch.nn.functional import normalize

NO_CODE = -1
"""The code of an item without features."""
_CHUNK = 4096


def make_codebook(features: torch.Tensor, count: int, steps: int = 10) -> torch.Tensor:
    """Return (K, F) unit rows: centres of a public catalogue's (I, F) unit rows, `count` = K or I, the smaller.

    Starts at K different items, drawn by a keyed hash of their number, and takes `steps` rounds of assigning and
    averaging; a centre that loses all items stays where it is. The same features give the same centres.
    """
    known = features[features.norm(dim=-1) > 0]
    if len(known) == 0 or count < 1:
        raise ValueError(
            f"{count} codes from {len(known)} items with features: there must be one of each at least."
        )
    seed = hashlib.shake_256(b"fedcart codebook 1").digest(8)
    order = np.random.default_rng(int.from_bytes(seed, "little")).permutation(len(known))
    centres = normalize(known[torch.from_numpy(order[:count])], dim=-1)
    for _ in range(steps):
        sums = torch.zeros_like(centres).index_add_(0, assign(known, centres), known)
        moved = sums.norm(dim=-1, keepdim=True) > 0
        centres = torch.where(moved, normalize(sums, dim=-1), centres)
    return centres


def assign(features: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    """Return (I,) int64: the nearest centre of each (I, F) row by cosine, the first of equals; `NO_CODE` for a zero row.

    >>> assign(torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]), torch.eye(2)).tolist()
    [0, 1, -1]
    """
    codes = torch.full((len(features),), NO_CODE, dtype=torch.int64)
    for start in range(0, len(features), _CHUNK):
        rows = features[start : start + _CHUNK]
        codes[start : start + _CHUNK] = (
            (rows @ codebook.T).argmax(dim=-1).where(rows.norm(dim=-1) > 0, NO_CODE)
        )
    return codes


def cells(count: int) -> int:
    """Return how many unordered pairs of K codes there are, a code with itself included: K·(K+1)/2."""
    return count * (count + 1) // 2
