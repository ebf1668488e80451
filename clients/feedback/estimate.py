"""Ratios over lists with intervals that respect that one shopper sees many lists.

Delta method for a ratio of sums over independent shoppers: Deng, Knoblich, Lu, "Applying the Delta Method in Metric
Analytics", KDD 2018, section 3.1.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_Z = 1.959963984540054  # 95 %
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value and its variance; NaN where it cannot be told (no list, or fewer than two shoppers for the variance)."""

    value: float
    variance: float

    @property
    def low(self) -> float:
        """The lower end of the 95 % interval."""
        return self.value - _Z * math.sqrt(self.variance)

    @property
    def high(self) -> float:
        """The upper end of the 95 % interval."""
        return self.value + _Z * math.sqrt(self.variance)

    def minus(self, other: "Estimate") -> "Estimate":
        """The difference of two estimates over different shoppers."""
        return Estimate(self.value - other.value, self.variance + other.variance)

    def to_dict(self) -> dict[str, float]:
        """Plain values for JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


def mean_over_lists(values: Floats, shoppers: npt.NDArray[np.int64]) -> Estimate:
    """Return the mean of `values` (N,), one a list, where list n is of shopper `shoppers[n]`; NaN values are left out.

    With S_u the sum and N_u the number of shopper u's lists, R = ΣS / ΣN and var(R) ≈ var(S − R·N) / (n · mean(N)²).
    """
    there = ~np.isnan(values)
    values, shoppers = values[there], shoppers[there]
    if not values.size:
        return Estimate(math.nan, math.nan)
    _, codes = np.unique(shoppers, return_inverse=True)
    sums, counts = np.bincount(codes, weights=values), np.bincount(codes)
    ratio = float(sums.sum() / counts.sum())
    if len(sums) < 2:
        return Estimate(ratio, math.nan)
    spread = float(np.var(sums - ratio * counts, ddof=1))
    return Estimate(ratio, spread / (len(sums) * float(counts.mean()) ** 2))
