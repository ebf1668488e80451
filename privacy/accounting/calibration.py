"""The least noise whose composed ε of record stays within a target."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from privacy.accounting.accountant import Accountant, check_delta
from privacy.checks import real
from privacy.errors import AccountingError, PlanError
from privacy.events import MAX_NOISE_MULTIPLIER, MIN_NOISE_MULTIPLIER, PoissonGaussian

DIGITS = 4
"""Significant digits of a calibrated noise multiplier, rounded up."""


def round_up(value: float, digits: int = DIGITS) -> float:
    """The smallest decimal of ``digits`` significant digits that is ≥ ``value`` > 0."""
    unit = digits - 1 - math.floor(math.log10(value))
    candidate = round(value, unit)
    return candidate if candidate >= value else round(candidate + 10.0**-unit, unit)


@lru_cache(maxsize=256)
def calibrate_noise(epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """The noise multiplier for ``steps`` Poisson-sampled steps to cost at most ``epsilon`` at ``delta``.

    Returns:
        σ rounded up to 4 significant digits; its ε is at most ``epsilon`` and within 1 % of it (unless
        the smallest allowed noise multiplier already costs less).

    Raises:
        PlanError: a parameter is out of range, or no allowed noise multiplier meets the target.
    """
    target = real("epsilon", epsilon, above=0.0, at_most=1000.0, hint="give the ε the run may cost")
    check_delta(delta)
    unit = PoissonGaussian(sample_rate, 1.0, steps)
    accountant = Accountant(remember=0)

    def cost(noise: float) -> float:
        try:
            return accountant.epsilon({(unit.sample_rate, noise): steps}, delta)
        except AccountingError:
            return math.inf

    bracket = _bracket(cost, target)
    if bracket is None:
        raise PlanError(
            f"epsilon = {epsilon:g} at delta = {delta:g} cannot be met in {steps} steps at sample rate "
            f"{sample_rate:g}: raise epsilon, or lower the steps or the sample rate"
        )
    low, high = bracket
    while high / low > 1.0 + 10.0**-DIGITS and round_up(low) < high:
        middle = _between(low, high, cost, target)
        low, high = (low, middle) if cost(middle) <= target else (middle, high)
    rounded = round_up(high)
    if not cost(rounded) <= target:
        raise AccountingError(f"calibration to epsilon = {epsilon:g} did not converge")
    return rounded


Cost = Callable[[float], float]


def _bracket(cost: Cost, target: float) -> tuple[float, float] | None:
    """(too little, enough) noise, equal when the least allowed is enough; None when nothing is."""
    low = high = 1.0
    if cost(high) <= target:
        while cost(low) <= target:
            if low == MIN_NOISE_MULTIPLIER:
                return low, low
            low, high = max(low / 2.0, MIN_NOISE_MULTIPLIER), low
        return low, high
    while not cost(high) <= target:
        low, high = high, high * 2.0
        if high > MAX_NOISE_MULTIPLIER:
            return None
    return low, high


def _between(low: float, high: float, cost: Cost, target: float) -> float:
    """Where ln ε, taken as linear in ln σ, meets the target; nudged to shrink both ends of the bracket."""
    cheap, dear = cost(high), cost(low)
    share = 0.5
    if math.isfinite(dear) and cheap > 0.0:
        share = math.log(dear / target) / math.log(dear / cheap)
        # Aim a little to the wider side, so that the root is enclosed from both ends within a few steps.
        share = min(max(share + (0.02 if share < 0.5 else -0.02), 0.02), 0.98)
    return low * (high / low) ** share
