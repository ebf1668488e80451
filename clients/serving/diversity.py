"""Maximal marginal relevance (Carbonell & Goldstein 1998): good items that are unlike those before them in the list."""

import numpy as np
from numpy.typing import NDArray


def diversify(
    scores: NDArray[np.float32], vectors: NDArray[np.float32], count: int, diversity: float
) -> NDArray[np.int64]:
    """Return positions (≤ count,) of a pool, in the order of the list.

    Each place takes the candidate with the largest (1 − d) · relevance − d · (largest cosine with what is in the list).
    Relevance is the score scaled to [0, 1] over the pool. With d = 0 the order is the pool's.

    Parameters
    ----------
    scores : (n,), best first. vectors : (n, F) unit rows. diversity : d in [0, 1].
    """
    size = len(scores)
    if diversity == 0 or size == 0:
        return np.arange(min(count, size))
    spread = float(scores[0] - scores[-1])
    relevance = (scores - scores[-1]) / spread if spread > 0 else np.ones(size, dtype=np.float32)
    nearest = np.full(size, -1.0, dtype=np.float32)
    left = np.ones(size, dtype=bool)
    chosen: list[int] = []
    while len(chosen) < min(count, size):
        penalty = nearest if chosen else np.zeros(size, dtype=np.float32)
        value = np.where(left, (1 - diversity) * relevance - diversity * penalty, -np.inf)
        at = int(value.argmax())
        chosen.append(at)
        left[at] = False
        nearest = np.maximum(nearest, vectors @ vectors[at])
    return np.array(chosen, dtype=np.int64)
