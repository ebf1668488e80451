"""An approximate index of the items for large catalogues: faiss, inverted lists over half-precision vectors.

It finds *candidates*; their scores are computed exactly afterwards. How many of the exact list it finds is measured on
this catalogue (`clients.serving.recall`) and said when the service starts. Optional: `pip install 'fedcart[index]'`.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.serving.errors import ServingError

PROBES = 48
"""Lists that are looked through for one question."""
_TRAINED_ON = 40
"""Vectors for each list that train the lists."""


def require_faiss() -> ModuleType:
    """Return faiss; raise ServingError where it is not installed."""
    try:
        import faiss
    except ImportError:
        raise ServingError(
            "An approximate index needs faiss: pip install 'fedcart[index]'; or set [serving] index = \"exact\"."
        ) from None
    return faiss


@dataclass(frozen=True, eq=False)
class NearIndex:
    """popular : rows of the most popular items, candidates of every list."""

    index: Any
    popular: NDArray[np.int64]

    def search(
        self, query: NDArray[np.float32], count: int, allowed: NDArray[np.bool_] | None
    ) -> NDArray[np.int64]:
        """Return at most `count` rows with large inner products with `query` (F,), among `allowed` (I,) if given."""
        faiss = require_faiss()
        chosen = {}
        if allowed is not None:
            chosen["sel"] = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        parameters = faiss.SearchParametersIVF(nprobe=PROBES, **chosen)
        faiss.omp_set_num_threads(1)  # of this thread's calls: one question is too little to be shared out
        _, rows = self.index.search(query[None, :], count, params=parameters)
        return rows[0][rows[0] >= 0]


def build_index(vectors: NDArray[np.float32], seed: int = 0) -> Any:
    """Return a faiss index of (I, F) vectors under the inner product."""
    faiss = require_faiss()
    size, width = vectors.shape
    lists = max(1, min(int(4 * math.sqrt(size)), size // _TRAINED_ON))
    index = faiss.index_factory(width, f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.cp.niter = seed + 1, 6
    chosen = np.random.default_rng(seed).choice(size, size=min(size, lists * _TRAINED_ON), replace=False)
    index.train(vectors[np.sort(chosen)])
    index.add(vectors)
    return index


def save_index(index: Any, path: Path) -> None:
    """Write an index whole or not at all; a folder that cannot be written costs the next start its time only."""
    faiss = require_faiss()
    temporary = path.with_suffix(".tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    faiss.write_index(index, str(temporary))
    temporary.replace(path)


def load_index(path: Path, size: int, width: int) -> Any | None:
    """Return the index in a file of this platform's cache; None if it is not there or not of this shape."""
    faiss = require_faiss()
    if not path.exists():
        return None
    try:
        index = faiss.read_index(str(path))
    except RuntimeError:
        return None
    return index if (index.ntotal, index.d) == (size, width) else None
