"""Privacy loss distributions on a grid: made by dp-accounting, composed by FFT, always rounded up.

For neighbours P and Q the privacy loss is ln(P(o)/Q(o)) at an outcome o drawn from P. Its distribution
says everything about (ε, δ):  δ(ε) = P[∞] + Σ_{l>ε} p(l)·(1 − e^{ε−l}),  and composing mechanisms adds
independent losses, i.e. convolves distributions (Koskela et al. 2020; Gopi et al. 2021).

One mechanism's distribution comes from dp-accounting's *pessimistic* connect-the-dots discretisation
(Doroshenko et al. 2022), which never understates δ on any grid. Composition stays pessimistic: mass that the
finite window cannot hold, mass lost to round-off and a fixed allowance for FFT error all count as infinite
loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from dp_accounting import NeighboringRelation
from dp_accounting.pld import privacy_loss_distribution
from scipy import fft, signal, stats

from privacy.accounting.gaussian import ADD, REMOVE, gaussian_pmf
from privacy.errors import AccountingError

GRID = 2.5e-4
"""Grid interval of the losses. A coarser grid only raises ε: this one by under 0.01 % for a few hundred
steps and by 0.3 % for 100,000 steps at q = 0.001."""
TAIL = 1e-14
"""Mass that a composition may put outside its window; counted as infinite loss."""
ROUND_OFF = 1e-14
"""Allowance for FFT error in one composition; counted as infinite loss."""
COARSE_GRID = 2e-3
"""Grid for values that are only shown (groups, replace-one), whose mechanisms dp-accounting makes slowly."""
MAX_POINTS = 1 << 22
"""Largest window: four million grid points, enough for ε up to about 2,000; beyond it, the answer is no."""
_AT_ONCE = 8
_ORDERS = (0.5, 2.0, 5.0, 8.0, 12.0)


@dataclass(frozen=True)
class LossMass:
    """One direction's losses: ``probs[i]`` at (lower + i)·grid, and ``infinity`` at +∞."""

    grid: float
    lower: int
    probs: np.ndarray
    infinity: float


@dataclass(frozen=True)
class PrivacyLoss:
    """The losses against removing and against adding the neighbour; ε is the worse of the two."""

    remove: LossMass
    add: LossMass

    def delta(self, epsilon: float) -> float:
        """δ at ``epsilon`` ≥ 0, at most 1."""
        return max(_delta(self.remove, epsilon), _delta(self.add, epsilon))

    def epsilon(self, delta: float) -> float:
        """The smallest ε ≥ 0 with δ(ε) ≤ ``delta``; inf when there is none."""
        return max(_epsilon(self.remove, delta), _epsilon(self.add, delta))


def _mass(pmf: Any) -> LossMass:
    dense = pmf.to_dense_pmf()
    probs = np.maximum(np.asarray(dense._probs, float), 0.0)
    return LossMass(dense._discretization, int(dense._lower_loss), probs, float(dense._infinity_mass))


def _loss(pld: Any) -> PrivacyLoss:
    return PrivacyLoss(_mass(pld._pmf_remove), _mass(pld._pmf_add))


@lru_cache(maxsize=1024)
def gaussian_loss(sample_rate: float, noise_multiplier: float) -> PrivacyLoss:
    """One Poisson-sampled Gaussian release; neighbours differ by one user added or removed."""
    remove = _mass(gaussian_pmf(sample_rate, noise_multiplier, REMOVE, GRID))
    if sample_rate == 1.0:
        return PrivacyLoss(remove, remove)
    return PrivacyLoss(remove, _mass(gaussian_pmf(sample_rate, noise_multiplier, ADD, GRID)))


@lru_cache(maxsize=64)
def replace_one_loss(sample_rate: float, noise_multiplier: float) -> PrivacyLoss:
    """The same release when one user is exchanged for another."""
    return _loss(
        privacy_loss_distribution.from_gaussian_mechanism(
            noise_multiplier,
            value_discretization_interval=COARSE_GRID,
            sampling_prob=sample_rate,
            neighboring_relation=NeighboringRelation.REPLACE_ONE,
        )
    )


@lru_cache(maxsize=64)
def group_loss(sample_rate: float, noise_multiplier: float, size: int) -> PrivacyLoss:
    """The same release when ``size`` users are added or removed at once.

    Each is in the batch with probability q, so the sum moves by Binomial(size, q) sensitivities at worst:
    a mixture of Gaussians.
    """
    if sample_rate == 1.0:
        alone = _mass(gaussian_pmf(1.0, noise_multiplier / size, REMOVE, COARSE_GRID))
        return PrivacyLoss(alone, alone)
    members = np.arange(size + 1)
    return _loss(
        privacy_loss_distribution.from_mixture_gaussian_mechanism(
            noise_multiplier,
            sensitivities=[float(m) for m in members],
            sampling_probs=[float(p) for p in stats.binom.pmf(members, size, sample_rate)],
            value_discretization_interval=COARSE_GRID,
        )
    )


def compose(parts: Iterable[tuple[PrivacyLoss, int]]) -> PrivacyLoss:
    """The loss of running every part ``count`` times; all parts on one grid. No parts: no loss.

    Raises:
        AccountingError: the window would pass ``MAX_POINTS``, or the result is not a distribution.
    """
    listed = [(loss, count) for loss, count in parts if count > 0]
    if len(listed) > _AT_ONCE:
        # Halves live in smaller windows than the whole, where their transforms are cheaper.
        listed = [(compose(listed[::2]), 1), (compose(listed[1::2]), 1)]
    return PrivacyLoss(
        _compose([(loss.remove, count) for loss, count in listed]),
        _compose([(loss.add, count) for loss, count in listed]),
    )


def _compose(parts: Sequence[tuple[LossMass, int]]) -> LossMass:
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
    points = fft.next_fast_len(max(high - low + 1, *(len(mass.probs) for mass, _ in parts)), real=True)
    spectrum = np.ones(points // 2 + 1, complex)
    finite = 0.0
    for mass, count in parts:
        spectrum *= _power(fft.rfft(mass.probs, points), count)
        finite += count * math.log1p(-mass.infinity)
    probs = np.roll(fft.irfft(spectrum, points), -low)[: high - low + 1]
    probs = np.maximum(probs, 0.0)
    infinity = max(-math.expm1(finite) + TAIL, 1.0 - float(probs.sum())) + ROUND_OFF
    if not (np.isfinite(probs).all() and infinity >= 0.0):
        raise AccountingError("composition gave no distribution: the events are outside what can be computed")
    lower = sum(mass.lower * count for mass, count in parts) + low
    return LossMass(grid, lower, probs, min(infinity, 1.0))


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


def _window(parts: Sequence[tuple[LossMass, int]]) -> tuple[int, int]:
    """Index range, relative to the lowest possible sum, that holds all but TAIL of the mass (Chernoff)."""
    top = sum((len(mass.probs) - 1) * count for mass, count in parts)
    indexed = [(np.arange(len(mass.probs), dtype=float), mass.probs, count) for mass, count in parts]
    variance = 0.0
    for index, probs, count in indexed:
        total = max(float(probs.sum()), 1e-300)
        mean = float(probs @ index) / total
        variance += count * max(float(probs @ (index - mean) ** 2) / total, 1e-6)
    low, high = 0, top
    for order in _ORDERS:
        rate = order / math.sqrt(variance)
        up = sum(count * _log_moment(index, probs, rate) for index, probs, count in indexed)
        down = sum(count * _log_moment(index, probs, -rate) for index, probs, count in indexed)
        high = min(high, math.ceil((up + math.log(2 / TAIL)) / rate))
        low = max(low, math.floor((down + math.log(2 / TAIL)) / -rate))
    return low, max(high, low)


def _log_moment(index: np.ndarray, probs: np.ndarray, rate: float) -> float:
    """ln Σ p(i)·e^{rate·i}, lifted by the largest term where e^{rate·i} could over- or underflow."""
    if abs(rate) * float(index[-1]) < 600.0:
        return math.log(max(float(np.exp(rate * index) @ probs), 1e-300))
    with np.errstate(divide="ignore"):
        shifted = rate * index + np.log(probs)
    peak = float(shifted.max())
    return peak + math.log(float(np.exp(shifted - peak).sum()))


def _positive(mass: LossMass, above: float) -> tuple[np.ndarray, np.ndarray]:
    """Losses and probabilities of the finite losses strictly above ``above`` ≥ 0."""
    first = max(0, math.floor(above / mass.grid) + 1 - mass.lower)
    probs = mass.probs[first:]
    losses = (mass.lower + first + np.arange(len(probs))) * mass.grid
    keep = losses > above
    return losses[keep], probs[keep]


def _delta(mass: LossMass, epsilon: float) -> float:
    losses, probs = _positive(mass, epsilon)
    return min(1.0, mass.infinity + float(-(probs * np.expm1(epsilon - losses)).sum()))


def _epsilon(mass: LossMass, delta: float) -> float:
    if not mass.infinity <= delta:
        return math.inf
    losses, probs = _positive(mass, 0.0)
    if not len(probs):
        return 0.0
    # Over k, from the top down: tail[k] = Σ_{j≥k} p_j, weighted[k] = Σ_{j≥k} p_j·e^{l_k − l_j}.
    tail = np.cumsum(probs[::-1])[::-1] + mass.infinity
    weighted = signal.lfilter([1.0], [1.0, -math.exp(-mass.grid)], probs[::-1])[::-1]
    at_loss = tail - weighted  # δ at ε = l_k
    k = int(np.argmax(at_loss <= delta))
    if not at_loss[k] <= delta:
        return math.inf
    # ε ≤ l_k, and above the loss before it: solve tail − e^{ε − l_k}·weighted = δ.
    excess = float(tail[k]) - delta
    if excess <= 0.0 or weighted[k] <= 0.0:
        return float(losses[k - 1]) if k else 0.0
    return max(0.0, float(losses[k]) + math.log(excess / float(weighted[k])))
