"""How long an honest platform's noised sum can be: its declared shoppers' rows, and the noise.

Every shopper's row has norm 1 at most, so the exact sum is no longer than the number of shoppers; N(0, σ²) in n numbers
is longer than σ(√n + t) with a probability below exp(−t²/2) (Laurent & Massart 2000, lemma 1; concentration of a
1-Lipschitz function). So a member that lies can move the table no further than its declared size allows:

    ‖answer‖ ≤ SLACK · N + σ (√n + 10)
"""

import math

import numpy as np
from numpy.typing import NDArray

from shared_model.errors import ReachError

SLACK = 2.0
"""A platform may have twice the shoppers that it declares, as the doctor lets pass."""
_STANDARD_DEVIATIONS = 10.0
"""t: an honest answer is refused with a probability below 1e-21."""


def reach_of(size: int, noise: float, numbers: int) -> float:
    """Return the longest honest answer of `numbers` = n numbers, of N = `size` declared shoppers, with noise σ ≥ 0."""
    return SLACK * size + noise * (math.sqrt(numbers) + _STANDARD_DEVIATIONS)


def require_reach(answer: NDArray, size: int, noise: float, where: str) -> None:
    """Raise ReachError if an answer (n,) is longer than its platform's declared size allows."""
    length = float(np.linalg.norm(answer.astype(np.float64)))
    limit = reach_of(size, noise, answer.size)
    if length > limit:
        raise ReachError(
            f"{where}: the sum has length {length:.4g}, and {size:,} declared shoppers with noise {noise:.3g} reach "
            f"{limit:.4g} at most"
        )
