"""Canary users and their coins: what one of them adds to a sum can be seen, for it owns where its row lies.

A canary's row has norm 1, the most that any shopper may add, and no other canary's row meets it. Whether it belongs
to the population is a fair coin, which the attacker must guess from what was released. Shapes: ``m`` canaries, ``T``
releases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.checks import whole
from privacy.noise import NoiseSource


@dataclass(frozen=True)
class Canaries:
    """m canaries and the coin of each.

    Args:
        included: (m,) bool; True for the canaries that are in the population.
    """

    included: NDArray[np.bool_]

    @classmethod
    def draw(cls, m: int, coins: NoiseSource) -> Canaries:
        """Flip a fair coin for each of ``m`` canaries. The attacker must not see ``coins``."""
        whole("canaries", m, at_least=2, at_most=10**6, hint="give the number of canary users, about 1000")
        return cls(coins.poisson_mask(m, 0.5))


def likelihood_scores(noised: NDArray[np.float64], sigmas: Sequence[float]) -> NDArray[np.float64]:
    """(m,) log likelihood ratios of included against not, from (T, m) noised sums along each canary's unit rows.

    Included, release t is N(1, σ_t²); left out, N(0, σ_t²): Σ_t (2y − 1)/(2σ_t²), the best score there is against
    the honest mechanism.
    """
    variances = np.square(np.asarray(sigmas, dtype=np.float64))[:, None]
    return ((2.0 * noised - 1.0) / (2.0 * variances)).sum(axis=0)
