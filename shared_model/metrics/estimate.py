"""A mean over shoppers with its bootstrap interval."""

from dataclasses import dataclass

import numpy as np

from shared_model.metrics.arrays import Floats

_DRAWN = 2**20
"""Values that are drawn at a time: 8 MB."""


@dataclass(frozen=True)
class Estimate:
    """A mean over shoppers with its bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap(values: Floats, rng: np.random.Generator, resamples: int = 1000) -> Estimate:
    """Return mean and 95 % percentile-bootstrap interval over shoppers (Efron 1979).

    Shoppers without a value (NaN) do not count. No shopper gives NaN throughout. Where few values are distinct, their
    multinomial counts are drawn instead of shoppers, which is the same distribution and much faster.

    >>> bootstrap(np.array([0.5, 0.5, np.nan]), np.random.default_rng(0))
    Estimate(mean=0.5, low=0.5, high=0.5)
    """
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return Estimate(float("nan"), float("nan"), float("nan"))
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) * 16 <= len(values) or len(distinct) == 1:
        means = rng.multinomial(len(values), counts / len(values), size=resamples) @ distinct / len(values)
    else:
        size = max(1, _DRAWN // len(values))
        sizes = [min(size, resamples - start) for start in range(0, resamples, size)]
        draws = (rng.integers(len(values), size=(n, len(values))) for n in sizes)
        means = np.concatenate([values[drawn].mean(axis=1) for drawn in draws])
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high))
