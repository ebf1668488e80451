"""One Poisson-sampled Gaussian release as a privacy loss: for a user, a group of users, and an exchange.

The noise is N(0, σ²) on a sum that each user moves by at most 1. If every one of k users is in the batch with
probability q, then j ~ Binomial(k, q) of them move it, at worst all the same way, so that the pairs are

    remove:   P = Σ_j p_j·N(−j, σ²)   against  Q = N(0, σ²)
    add:      P = N(0, σ²)            against  Q = Σ_j p_j·N(j, σ²)
    exchange: P = (1−q)·N(0, σ²) + q·N(−1, σ²)  against  Q = (1−q)·N(0, σ²) + q·N(1, σ²)

(Choquette-Choo et al. 2023, corollary 4.7, for vectors). The loss falls as the outcome x grows, so δ(ε) is
P[x ≤ x*] − e^ε·Q[x ≤ x*] where the loss at x* is ε. From δ at the points of a grid, the *pessimistic*
connect-the-dots rule (Doroshenko et al. 2022, algorithm 1) makes a distribution on the grid whose δ is never
below the truth. These are dp-accounting's formulas over whole arrays; tests hold the two equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import scipy  # its parts are imported at their first use: whoever only reads a ledger does not wait

from privacy.accounting.loss import GRID, MAX_POINTS, LossMass, PrivacyLoss
from privacy.errors import AccountingError

TAIL = math.exp(-50)
"""Mass of the noise whose losses are not resolved but counted as infinite."""
_AT_ONCE = 1 << 14

Deltas = Callable[[np.ndarray], np.ndarray]


@lru_cache(maxsize=512)
def gaussian_loss(sample_rate: float, noise_multiplier: float) -> PrivacyLoss:
    """One Poisson-sampled Gaussian release; neighbours differ by one user added or removed.

    Args:
        sample_rate: q in (0, 1].
        noise_multiplier: σ.

    Raises:
        AccountingError: the losses cannot be computed.
    """
    return group_loss(sample_rate, noise_multiplier, 1)


def group_loss(sample_rate: float, noise_multiplier: float, size: int) -> PrivacyLoss:
    """The same release when ``size`` users are added or removed at once, on a grid ``size`` times as wide.

    Raises:
        AccountingError: the losses span more than ``MAX_POINTS`` grid points, or cannot be computed.
    """
    group, grid = Group(sample_rate, noise_multiplier, size), GRID * size
    low, high = group.span()
    remove = connect_dots(grid, low, high, group.remove_deltas)
    if sample_rate == 1.0:
        return PrivacyLoss(remove, remove)
    return PrivacyLoss(remove, connect_dots(grid, -high, -low, group.add_deltas))


def replace_one_loss(sample_rate: float, noise_multiplier: float) -> PrivacyLoss:
    """The same release when one user is exchanged for another: as far apart as two, so on a grid as wide.

    Raises:
        AccountingError: see ``group_loss``.
    """
    q, noise = sample_rate, noise_multiplier
    reach = -noise * float(scipy.special.ndtri(TAIL / 2)) + 1.0
    joined = np.array([0.0, -1.0])[:, None]
    terms = _log_weights(q, 1)[:, None] - ((reach - np.array([joined, -joined])) / noise) ** 2 / 2.0
    above, below = np.logaddexp.reduce(terms, axis=1).ravel()
    mass = connect_dots(
        2 * GRID, float(above - below), float(below - above), lambda e: replace_one_deltas(q, noise, e)
    )
    return PrivacyLoss(mass, mass)


class Group:
    """``size`` users who are in or out together; see the module.

    Args:
        sample_rate: q in (0, 1].
        noise_multiplier: σ.
        size: k ≥ 1.
    """

    def __init__(self, sample_rate: float, noise_multiplier: float, size: int) -> None:
        self._noise, self._size = noise_multiplier, size
        self._members = np.arange(size + 1.0)[:, None]
        self._log_weights = _log_weights(sample_rate, size)[:, None]
        self._log_none = float(self._log_weights[0, 0])  # ln P[j = 0]
        self._log_any = math.log(-math.expm1(self._log_none))  # ln P[j ≥ 1]
        self._log_given = self._log_weights[1:] - self._log_any  # ln P[j | j ≥ 1]

    def loss(self, outcome: np.ndarray) -> np.ndarray:
        """Loss of removing at outcomes x; that of adding at −x is its negative."""
        m, variance = self._members, self._noise**2
        return np.asarray(np.logaddexp.reduce(self._log_weights - m * (outcome + m / 2.0) / variance, axis=0))

    def span(self) -> tuple[float, float]:
        """The losses of removing between which all but TAIL of P lies."""
        reach = -self._noise * float(scipy.special.ndtri(TAIL / 2))
        candidates = np.linspace(-reach - self._size, -reach, 257)
        beyond = int(np.count_nonzero(self._upper_cdf(candidates) <= TAIL / 2))
        lowest = candidates[max(0, beyond - 1)]
        high, low = self.loss(np.array([lowest, reach]))
        return float(low), float(high)

    def _upper_cdf(self, outcome: np.ndarray) -> np.ndarray:
        cdf = scipy.special.ndtr((outcome + self._members) / self._noise)
        return np.asarray((np.exp(self._log_weights) * cdf).sum(axis=0))

    def outcome(self, loss: np.ndarray) -> np.ndarray:
        """Where removing has these losses; +∞ where sampling can never give so low a loss.

        With the empty batch set apart, what remains is a convex, falling log-sum-exp of lines, so that Newton's
        method from the left climbs to the root and never passes it.
        """
        above = np.maximum(loss - self._log_none, 0.0)
        with np.errstate(divide="ignore"):  # ln of (e^loss − P[j = 0]) / P[j ≥ 1]
            target = loss + np.log(-np.expm1(-above)) - self._log_any
        m, variance = self._members[1:], self._noise**2
        x = ((self._log_given - target) * variance / m - m / 2.0).max(axis=0)
        if self._size == 1:
            return np.asarray(x)
        finite = np.isfinite(x)
        x[finite] = self._climb(x[finite], target[finite])
        return np.asarray(x)

    def _climb(self, x: np.ndarray, target: np.ndarray) -> np.ndarray:
        m, variance = self._members[1:], self._noise**2
        for _ in range(100):
            terms = self._log_given - m * (x + m / 2.0) / variance
            peak = terms.max(axis=0)
            shares = np.exp(terms - peak)
            total = shares.sum(axis=0)
            slope = (m * shares).sum(axis=0) / total / variance
            step = (peak + np.log(total) - target) / slope
            x = x + step
            if not (step > 1e-13 * (np.abs(x) + self._noise)).any():
                return x
        raise AccountingError("the privacy loss of a group could not be inverted: nothing may be concluded")

    def remove_deltas(self, epsilons: np.ndarray) -> np.ndarray:
        """δ(ε) of removing the group, at every ε."""
        x = self.outcome(epsilons)
        return self._upper_cdf(x) - np.exp(epsilons + scipy.special.log_ndtr(x / self._noise))

    def add_deltas(self, epsilons: np.ndarray) -> np.ndarray:
        """δ(ε) of adding the group, at every ε."""
        x = -self.outcome(-epsilons)
        terms = self._log_weights + scipy.special.log_ndtr((x - self._members) / self._noise)
        return np.asarray(
            scipy.special.ndtr(x / self._noise) - np.exp(epsilons + np.logaddexp.reduce(terms, axis=0))
        )


def _log_weights(sample_rate: float, size: int) -> np.ndarray:
    """ln p_j for j = 0 … size; −∞ where impossible."""
    j = np.arange(size + 1.0)
    choose = (
        scipy.special.gammaln(size + 1.0)
        - scipy.special.gammaln(j + 1.0)
        - scipy.special.gammaln(size - j + 1.0)
    )
    return np.asarray(choose + j * math.log(sample_rate) + scipy.special.xlog1py(size - j, -sample_rate))


def replace_one_deltas(sample_rate: float, noise_multiplier: float, epsilons: np.ndarray) -> np.ndarray:
    """δ(ε) of exchanging one user, at every ε."""
    q, noise = sample_rate, noise_multiplier
    lean = math.exp(0.5 / noise**2) * (1.0 - q) / q
    x = noise**2 * (np.arcsinh(-np.sinh(epsilons / 2.0) * lean) - epsilons / 2.0)
    weights, log_weights = np.array([1.0 - q, q])[:, None], _log_weights(q, 1)[:, None]
    shifts = np.array([0.0, 1.0])[:, None]
    upper = (weights * scipy.special.ndtr((x + shifts) / noise)).sum(axis=0)
    lower = np.logaddexp.reduce(log_weights + scipy.special.log_ndtr((x - shifts) / noise), axis=0)
    return np.asarray(upper - np.exp(epsilons + lower))


def connect_dots(grid: float, low: float, high: float, deltas: Deltas) -> LossMass:
    """The pessimistic distribution on a grid that covers losses from ``low`` to ``high``.

    Raises:
        AccountingError: more than ``MAX_POINTS`` points, or δ is not a number.
    """
    if not (high - low) / grid < MAX_POINTS:
        raise AccountingError(
            f"one release's privacy loss spans {high - low:.0f}, more than {MAX_POINTS * grid:.0f}: it has no "
            "meaningful ε"
        )
    lower, upper = math.floor(low / grid), math.ceil(high / grid)
    at = [
        deltas(np.arange(i, min(i + _AT_ONCE, upper + 1)) * grid) for i in range(lower, upper + 1, _AT_ONCE)
    ]
    known = np.clip(np.concatenate(at), 0.0, 1.0)
    if not np.isfinite(known).all():
        raise AccountingError("a release's δ is not a number: nothing may be concluded")
    known = np.maximum.accumulate(known[::-1])[::-1]  # δ never rises with ε; where round-off says so, upwards
    if len(known) == 1:
        return LossMass(grid, lower, 1.0 - known, float(known[0]))
    change = np.diff(known)
    probs = np.empty_like(known)
    probs[0] = 1.0 - known[0] + change[0] / math.expm1(grid)
    probs[1:-1] = (change[1:] - change[:-1] * math.exp(grid)) / math.expm1(grid)
    probs[-1] = change[-1] / math.expm1(-grid)
    return LossMass(grid, lower, np.maximum(probs, 0.0), float(known[-1]))
