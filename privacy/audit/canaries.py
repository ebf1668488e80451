"""Canary users that own a direction: what one of them adds to an update can be seen in one coordinate.

Canary i has a gradient along its own coordinate of the shared parameters and nowhere else, far longer than any
clip norm, so it clips to exactly C·e_i: the most that any shopper may contribute. Whether a canary belongs to
the population is a fair coin, which the attacker must guess from what was released. Shapes: ``m`` canaries,
``T`` steps, ``R`` exchanges, ``S`` segments.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.checks import whole
from privacy.noise import NoiseSource

GRADIENT = 1000.0
"""Norm of a canary's gradient before clipping: far above any clip norm in use."""


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

    @property
    def members(self) -> NDArray[np.int64]:
        """Indices of the canaries that are in the population."""
        return np.flatnonzero(self.included)


def likelihood_scores(
    released: NDArray[np.float64], *, clip_norm: float, sample_rate: float, noise_multiplier: float
) -> NDArray[np.float64]:
    """(m,) log likelihood ratios of included against not, from (T, m) noised sums.

    Included, a coordinate over C is N(1, σ²) with probability q and N(0, σ²) else; left out, N(0, σ²):
    Σ_t ln(1 − q + q·exp((2y − 1)/(2σ²))), the best score there is against the honest mechanism.
    """
    y = released / clip_norm
    with np.errstate(divide="ignore"):
        unsampled = np.log1p(-sample_rate)
    terms = np.logaddexp(unsampled, np.log(sample_rate) + (2.0 * y - 1.0) / (2.0 * noise_multiplier**2))
    return terms.sum(axis=0)


def spread_scores(released: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m,) variance over steps of (T, m) noised sums.

    Sees what the likelihood does not expect: noise that repeats (it cancels in differences between steps)
    and contributions of the wrong sign, such as those of negatives.
    """
    return released.var(axis=0)


def movement_scores(released: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m,) how far each canary's parameter went down from (R+1, m) released parameters, as its gradient asks.

    Needs the first and the last model only: the attack of whoever does not see single steps.
    """
    return released[0] - released[-1]


def metric_scores(parameters: NDArray[np.float64], metrics: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m,) membership solved from exact metrics by least squares.

    Args:
        parameters: (R, m) each canary's parameter that the metrics were computed with.
        metrics: (R, S) Σ over the members of segment k of their parameters; canary i is in segment i mod S.
    """
    segments = metrics.shape[1]
    scores = np.zeros(parameters.shape[1])
    for k in range(segments):
        own = parameters[:, k::segments]
        scores[k::segments] = np.linalg.lstsq(own, metrics[:, k], rcond=None)[0]
    return scores
