"""What an ε means for one shopper, in odds and in error rates.

Beliefs. Someone holds odds p/(1−p) that a shopper's events were used, and then sees everything released. The
odds are multiplied by exp(loss). An (ε, δ) guarantee bounds the factor by e^ε but for δ, precisely: with
probability at least 1 − 2δ it is at most 2·e^ε, because P[loss > ε'] ≤ δ(ε)/(1 − e^{ε−ε'}) for ε' > ε.

Tests. Whoever decides "was used" with false positive rate α is right about a shopper who was used with
probability at most inf over ε of e^ε·α + δ(ε) (Wasserman and Zhou 2010; Dong, Roth and Su 2022), where δ(ε) is
the privacy profile of with against without. Every ε gives a valid bound, so searching for the least is safe.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from privacy.accounting import Accountant, check_delta
from privacy.accounting.accountant import Tally
from privacy.accounting.loss import PrivacyLoss
from privacy.checks import real

PRIORS = (0.5, 0.01)
FALSE_POSITIVE_RATES = (0.001, 0.01, 0.05)


@dataclass(frozen=True)
class Belief:
    """What someone may come to believe of a shopper: between ``lowest`` and ``highest``, apart from δ."""

    prior: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class Guess:
    """How many used shoppers anyone can tell at most, while wrongly naming a share of the others."""

    false_positive_rate: float
    true_positive_rate: float


@dataclass(frozen=True)
class Meaning:
    """One ε and δ in other words.

    Args:
        of: what it is the ε of.
        epsilon: ε.
        delta: δ.
        factor: e^ε.
        beliefs: from each prior.
        exceeded: bound on the probability that the odds change by more than ``factor``; None where ε and δ
            alone cannot say.
        guesses: at each false positive rate.
    """

    of: str
    epsilon: float
    delta: float
    factor: float
    beliefs: tuple[Belief, ...]
    exceeded: float | None
    guesses: tuple[Guess, ...]


def posterior(prior: float, log_factor: float) -> float:
    """The belief when odds are multiplied by exp(log_factor).

    >>> round(posterior(0.01, math.log(3)), 4)
    0.0294
    """
    return 1.0 / (1.0 + (1.0 - prior) / prior * math.exp(-log_factor))


def _meaning(
    of: str, epsilon: float, delta: float, exceeded: float | None, power: Callable[[float], float]
) -> Meaning:
    return Meaning(
        of=of,
        epsilon=epsilon,
        delta=delta,
        factor=math.exp(min(epsilon, 700.0)),
        beliefs=tuple(Belief(p, posterior(p, -min(epsilon, 700.0)), posterior(p, epsilon)) for p in PRIORS),
        exceeded=exceeded,
        guesses=tuple(Guess(rate, power(rate)) for rate in FALSE_POSITIVE_RATES),
    )


def meaning_of_guarantee(of: str, epsilon: float, delta: float) -> Meaning:
    """What (ε, δ) means when nothing else is known of the mechanism, such as for a cap.

    Raises:
        PlanError: a value is out of range.
    """
    epsilon = real("epsilon", epsilon, above=-5e-324, at_most=1000.0, hint="give an ε such as 2")
    delta = check_delta(delta)

    def power(rate: float) -> float:
        up = math.exp(min(epsilon, 700.0)) * rate + delta
        return min(1.0, up, 1.0 - math.exp(-epsilon) * (1.0 - rate - delta))

    return _meaning(of, epsilon, delta, None, power)


def meaning_of_events(of: str, counts: Tally, delta: float) -> Meaning:
    """What the events composed mean, from their privacy loss distribution.

    Raises:
        AccountingError: no finite ε.
    """
    accountant, delta = Accountant(), check_delta(delta)
    epsilon = accountant.epsilon(counts, delta)
    if not any(count > 0 for count in counts.values()):
        return _meaning(of, 0.0, delta, 0.0, lambda rate: rate)
    loss = accountant.loss(counts)
    return _meaning(of, epsilon, delta, _exceeded(loss, epsilon), lambda rate: true_positive_rate(loss, rate))


def _exceeded(loss: PrivacyLoss, epsilon: float) -> float:
    """P[loss > ε] ≤ δ(e)/(1 − exp(e − ε)) at the best e < ε."""
    if epsilon <= 0.0:
        return 1.0
    from scipy import optimize  # here: the other commands need not wait for it

    def bound(below: float) -> float:
        return loss.delta(below) / -math.expm1(below - epsilon)

    found = optimize.minimize_scalar(bound, bounds=(0.0, epsilon * (1 - 1e-9)), method="bounded")
    return min(1.0, float(found.fun))


def true_positive_rate(loss: PrivacyLoss, false_positive_rate: float) -> float:
    """The most that any test of "was used" against "was not" achieves at a false positive rate in (0, 1)."""
    from scipy import optimize

    used = PrivacyLoss(loss.remove, loss.remove)
    unused = PrivacyLoss(loss.add, loss.add)

    def bound(epsilon: float) -> float:
        if epsilon >= 0.0:
            return math.exp(epsilon) * false_positive_rate + used.delta(epsilon)
        # δ of with against without at −e is 1 − exp(−e) + exp(−e)·δ of without against with at e.
        return 1.0 - math.exp(epsilon) * (1.0 - false_positive_rate - unused.delta(-epsilon))

    # Convex in exp(ε), so there is one valley; beyond ln(1/α) the bound passes 1.
    found = optimize.minimize_scalar(
        bound, bounds=(-30.0, -math.log(false_positive_rate)), method="bounded", options={"xatol": 1e-4}
    )
    return min(1.0, max(false_positive_rate, float(found.fun)))
