"""The closed form that the accountant is held against."""

import math
from collections.abc import Callable

import pytest
from scipy import optimize, stats


def exact_gaussian_epsilon(noise: float, delta: float) -> float:
    """ε of one Gaussian release over everybody (Balle & Wang 2018)."""

    def excess(eps: float) -> float:
        half, slope = 1 / (2 * noise), eps * noise
        return stats.norm.cdf(half - slope) - math.exp(eps + stats.norm.logcdf(-half - slope)) - delta

    return 0.0 if excess(0.0) <= 0 else float(optimize.brentq(excess, 0.0, 9000.0, xtol=1e-12))


@pytest.fixture(scope="session")
def exact() -> Callable[[float, float], float]:
    """ε of one Gaussian release with noise multiplier σ at δ."""
    return exact_gaussian_epsilon
