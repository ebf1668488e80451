"""Composing privacy losses by FFT, always rounded up.

Composing mechanisms adds independent losses, i.e. convolves their distributions (Koskela et al. 2020; Gopi et
al. 2021). What windows and round-off may take away is allowed for where ε and δ are read off, as infinite
loss (``LossMass.lost``): so a pessimistic part gives a pessimistic whole, and the result does not depend on the
order in which parts were composed, up to that allowance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import scipy  # its parts are imported at their first use: whoever only reads a ledger does not wait

from privacy.accounting.loss import GRID, MAX_POINTS, RATES, TAIL, LossMass, PrivacyLoss
from privacy.errors import AccountingError

_AT_ONCE = 5
_HALF_TAIL = math.log(2.0 / TAIL) + 0.01  # and a little for round-off in the moments

Parts = Sequence[tuple[LossMass, int]]


def compose(parts: Iterable[tuple[PrivacyLoss, int]]) -> PrivacyLoss:
    """The loss of running every part ``count`` times; all parts on one grid. No parts: no loss.

    Few parts are transformed at once, those with like spread together: their windows, and so their transforms,
    are smaller than the whole's.

    Raises:
        AccountingError: the window would pass ``MAX_POINTS``, or the result is not a distribution.
    """
    listed = sorted(((loss, count) for loss, count in parts if count > 0), key=_width)
    while len(listed) > _AT_ONCE:
        chunks = [listed[i : i + _AT_ONCE] for i in range(0, len(listed), _AT_ONCE)]
        listed = [(_both(chunk), 1) for chunk in chunks]
    return _both(listed)


def _width(part: tuple[PrivacyLoss, int]) -> int:
    low, high = _window([(part[0].remove, part[1])])
    return high - low


def _both(parts: Sequence[tuple[PrivacyLoss, int]]) -> PrivacyLoss:
    return PrivacyLoss(
        _compose([(loss.remove, count) for loss, count in parts]),
        _compose([(loss.add, count) for loss, count in parts]),
    )


def _compose(parts: Parts) -> LossMass:
    if not parts:
        return LossMass(GRID, 0, np.ones(1), 0.0)
    if len(parts) == 1 and parts[0][1] == 1:
        return parts[0][0]
    grid = parts[0][0].grid
    low, high = _window(parts)
    if high - low >= MAX_POINTS:
        raise AccountingError(
            f"the composed privacy loss spans {(high - low) * grid:.0f}, more than {MAX_POINTS * grid:.0f}: "
            "this much spending has no meaningful ε"
        )
    points = scipy.fft.next_fast_len(max(high - low + 1, *(len(mass.probs) for mass, _ in parts)), real=True)
    spectrum: np.ndarray | None = None
    finite = 0.0
    for mass, count in parts:
        factor = _power(scipy.fft.rfft(mass.probs, points), count)
        spectrum = factor if spectrum is None else spectrum * factor
        finite += count * math.log1p(-mass.infinity)
    lowest = sum(mass.lower * count for mass, count in parts)
    probs = np.roll(scipy.fft.irfft(spectrum, points), lowest - low)[: high - low + 1]
    probs = np.maximum(probs, 0.0)
    infinity = -math.expm1(finite)
    if not (np.isfinite(probs).all() and infinity >= 0.0):
        raise AccountingError("composition gave no distribution: the events are outside what can be computed")
    runs = sum(mass.runs * count for mass, count in parts)
    return LossMass(grid, low, probs, min(infinity, 1.0), runs, _moments(parts))


def _power(spectrum: np.ndarray, count: int) -> np.ndarray:
    """``spectrum ** count`` by squaring: numpy's complex power is far slower."""
    result: np.ndarray | None = None
    while True:
        if count & 1:
            result = spectrum.copy() if result is None else result * spectrum
        count >>= 1
        if not count:
            return result if result is not None else np.ones_like(spectrum)
        spectrum = spectrum * spectrum


def _moments(parts: Parts) -> np.ndarray:
    """Log-moments of a sum of independent losses add up."""
    return np.sum([count * mass.moments for mass, count in parts], axis=0)


def _window(parts: Parts) -> tuple[int, int]:
    """Range of grid points that holds all but TAIL of the sum's mass, by Chernoff's bound at the known moments.

    The moments are those of the exact sum of all releases. What earlier windows wrapped around is mass in excess,
    whose place the allowance has taken already.
    """
    grid = parts[0][0].grid
    bottom = sum(mass.lower * count for mass, count in parts)
    top = bottom + sum((len(mass.probs) - 1) * count for mass, count in parts)
    up, down = (_moments(parts) + _HALF_TAIL) / (RATES * grid)
    low = max(bottom, math.floor(max(-float(np.min(down)), bottom)))
    high = min(top, math.ceil(min(float(np.min(up)), top)))
    return min(low, high), max(high, low)
