"""Lower bounds on ε from how often an attacker guesses membership right.

One run with m canaries, each included by a fair coin: the attacker names some IN, some OUT, abstains on the
rest, and has v of r guesses right. Too many right guesses refute a claimed ε:

- ``one_run_bound``: Steinke, Nasr & Jagielski, *Privacy Auditing with One (1) Training Run*, NeurIPS 2023
  (arXiv:2305.08846), Theorem 5.2. Assumes nothing but (ε, δ)-DP.
- ``gaussian_bound``: Mahloujifar, Melis & Chaudhuri, *Auditing f-Differential Privacy in One Run*, 2024
  (arXiv:2410.22235). Tighter; assumes the trade-off curve of a Gaussian mechanism, which is what a
  `ReleasePlan` claims: Gaussian releases without sampling compose to one.
- ``clopper_pearson_bound``: independent trials, as in membership inference over many runs or users
  (Jagielski, Ullman & Oprea 2020, arXiv:2006.07709).

Each bound is exceeded by the true ε with probability at least the stated confidence, *for a number of
guesses fixed beforehand*. ``best_bound`` tries several and pays for it (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import dp_accounting
import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit, ndtr, ndtri

from privacy.accounting import check_delta
from privacy.checks import real, whole
from privacy.errors import PlanError

MAX_EPSILON = 64.0
"""No bound says more: far beyond what any number of canaries can show."""
MAX_MU = 40.0
FRACTIONS = (0.02, 0.05, 0.1, 0.25, 0.5)
"""Shares of the canaries named IN, and as many OUT, that ``best_bound`` tries."""
_HALVINGS = 40


def _counts(canaries: int, guesses: int, correct: int) -> None:
    whole("canaries", canaries, at_least=1, at_most=10**7, hint="give the number of canary users")
    whole("guesses", guesses, at_least=0, at_most=canaries, hint="one guess per canary at most")
    whole("correct", correct, at_least=0, at_most=guesses, hint="no more than the guesses made")


def check_confidence(value: float) -> float:
    """A confidence in [0.5, 1)."""
    hint = "give a probability such as 0.95"
    return real("confidence", value, above=0.5 - 1e-12, at_most=1.0 - 1e-12, hint=hint)


def _largest(refuted: Callable[[float], bool], limit: float) -> float:
    """The largest refuted value in [0, ``limit``], from below; 0 when none is."""
    if not refuted(0.0):
        return 0.0
    low, high = 0.0, min(1.0, limit)
    while refuted(high):
        if high >= limit:
            return limit
        low, high = high, min(2.0 * high, limit)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def one_run_p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Largest probability of ``correct`` or more right guesses under (ε, δ)-DP: Theorem 5.2.

    With W ~ Binomial(r, e^ε/(1+e^ε)):  P[W ≥ v] + 2mδ·max_{1≤i≤v} P[v−i ≤ W < v]/i.
    """
    right = float(expit(epsilon))
    tail = float(stats.binom.sf(correct - 1, guesses, right))
    steps = np.arange(1, correct + 1)
    below = (stats.binom.sf(correct - 1 - steps, guesses, right) - tail) / steps
    return min(1.0, tail + 2.0 * canaries * delta * float(below.max(initial=0.0)))


def one_run_bound(canaries: int, guesses: int, correct: int, *, delta: float, confidence: float) -> float:
    """ε that (ε, δ)-DP in one run refutes at ``confidence``; 0 when nothing is refuted (Steinke et al.)."""
    _counts(canaries, guesses, correct)
    check_delta(delta)
    alpha = 1.0 - check_confidence(confidence)
    return _largest(
        lambda e: guesses > 0 and one_run_p_value(canaries, guesses, correct, e, delta) <= alpha, MAX_EPSILON
    )


Curve = Callable[[float], float]
"""Least probability of an event without the user, given its probability with the user."""


def gaussian_curve(mu: float) -> Curve:
    """The curve of a Gaussian mechanism with noise 1/μ: x → Φ(Φ⁻¹(x) − μ) (Dong, Roth & Su 2022)."""
    return lambda x: float(ndtr(ndtri(x) - mu))


def refutes(curve: Curve, canaries: int, guesses: int, correct: int, alpha: float) -> bool:
    """Whether v of r right guesses are less likely than ``alpha`` under f-DP with this curve.

    The recursion of Mahloujifar et al. (Algorithm 3): were P[at least v right] = α, the chances of i right
    and a right next guess (``hit``) or a wrong one (``miss``) would have to grow, from v downwards, at least
    as the curve says; they cannot, and the curve is refuted, when they sum to more than the guesses' share.
    """
    hit, miss = alpha * correct / canaries, alpha * (guesses - correct) / canaries
    for i in range(correct - 1, -1, -1):
        grown = curve(min(hit, 1.0))
        if grown <= miss:
            break
        hit, miss = min(hit + i / (guesses - i) * (grown - miss), 1.0), grown
    return hit + miss > guesses / canaries


def gaussian_epsilon(mu: float, delta: float) -> float:
    """ε at δ of a Gaussian mechanism with noise 1/μ; 0 for μ ≤ 0."""
    return float(dp_accounting.get_epsilon_gaussian(1.0 / mu, delta)) if mu > 0.0 else 0.0


def gaussian_bound(canaries: int, guesses: int, correct: int, *, delta: float, confidence: float) -> float:
    """ε at δ of the largest Gaussian trade-off that one run refutes at ``confidence``; 0 when none."""
    _counts(canaries, guesses, correct)
    check_delta(delta)
    alpha = 1.0 - check_confidence(confidence)
    mu = _largest(
        lambda m: guesses > 0 and refutes(gaussian_curve(m), canaries, guesses, correct, alpha), MAX_MU
    )
    return gaussian_epsilon(mu, delta)


@dataclass(frozen=True)
class Bound:
    """The best lower bounds found, which hold together, and the guesses behind the Gaussian one."""

    one_run: float
    gaussian: float
    attack: str
    guesses: int
    correct: int

    @property
    def epsilon(self) -> float:
        """The larger of the two."""
        return max(self.one_run, self.gaussian)


def count_guesses(scores: NDArray[np.float64], included: NDArray[np.bool_], named: int) -> tuple[int, int]:
    """(guesses, right ones) when the top ``named`` scores are said to be IN and the bottom as many OUT.

    Ties are broken by position, which the coin flips know nothing of.
    """
    order = np.argsort(-scores, kind="stable")
    right = int(included[order[:named]].sum()) + int((~included[order[len(order) - named :]]).sum())
    return 2 * named, right


def best_bound(
    attacks: Mapping[str, NDArray[np.float64]],
    included: NDArray[np.bool_],
    *,
    delta: float,
    confidence: float,
    fractions: Sequence[float] = FRACTIONS,
) -> Bound:
    """The largest bound over several attacks and numbers of guesses, at ``confidence`` for all together.

    α is divided by methods × attacks × numbers of guesses (Bonferroni).

    Args:
        attacks: name → (m,) scores; higher means more likely included. Scores must not use ``included``.
        included: (m,) the coin flips.
        delta: δ of the claim.
        confidence: 1 − α.
        fractions: shares of the canaries named IN, and as many OUT; each in (0, ½].

    Raises:
        PlanError: no attacks, wrong shapes, NaN scores or a value out of range.
    """
    m = len(included)
    named = _named(m, fractions)
    if not attacks:
        raise PlanError("attacks is empty: give the scores of at least one")
    for name, scores in attacks.items():
        if scores.shape != (m,) or bool(np.isnan(scores).any()):
            raise PlanError(f"attack {name!r} needs {m} scores without NaN, has shape {scores.shape}")
    alpha = (1.0 - check_confidence(confidence)) / (2 * len(attacks) * len(named))
    check_delta(delta)
    best, one_run, mu = ("", 0, 0), 0.0, 0.0
    for name, scores in attacks.items():
        for k in named:
            r, v = count_guesses(scores, included, k)
            if one_run_p_value(m, r, v, one_run, delta) <= alpha:
                one_run = one_run_bound(m, r, v, delta=delta, confidence=1.0 - alpha)
            # Refuting what is already refuted adds nothing: one look instead of a search.
            if refutes(gaussian_curve(mu), m, r, v, alpha):
                mu = _largest(lambda x, r=r, v=v: refutes(gaussian_curve(x), m, r, v, alpha), MAX_MU)  # type: ignore[misc]
                best = (name, r, v)
    return Bound(one_run, gaussian_epsilon(mu, delta), *best)


def _named(m: int, fractions: Sequence[float]) -> list[int]:
    hint = "give the share of canaries named IN, at most one half"
    shares = [real("fractions", f, above=0.0, at_most=0.5, hint=hint) for f in fractions]
    if not shares or m < 2:
        raise PlanError(f"an audit needs two canaries and one number of guesses, not {m} and {len(shares)}")
    return sorted({max(1, int(share * m)) for share in shares})


def clopper_pearson(hits: int, trials: int, confidence: float) -> tuple[float, float]:
    """Two-sided interval of a probability from ``hits`` of ``trials`` (Clopper & Pearson 1934)."""
    whole("trials", trials, at_least=1, at_most=10**12, hint="give how many trials were made")
    whole("hits", hits, at_least=0, at_most=trials, hint="no more than the trials")
    half = (1.0 - check_confidence(confidence)) / 2.0
    low = float(stats.beta.ppf(half, hits, trials - hits + 1)) if hits else 0.0
    high = float(stats.beta.ppf(1.0 - half, hits + 1, trials - hits)) if hits < trials else 1.0
    return low, high


def clopper_pearson_bound(
    true_positives: int,
    members: int,
    false_positives: int,
    others: int,
    *,
    delta: float,
    confidence: float,
) -> float:
    """ε ≥ max of ln((TPR − δ)/FPR) and ln((1 − FPR − δ)/(1 − TPR)), each rate at its unfavourable end.

    Holds for one attack with one threshold chosen beforehand, on *independent* trials. Users of one training
    run are not independent: there it describes the attack and is not a bound on ε.
    """
    check_delta(delta)
    # Each rate errs on its one unfavourable side only: two sides of probability α/2.
    tpr, _ = clopper_pearson(true_positives, members, check_confidence(confidence))
    _, fpr = clopper_pearson(false_positives, others, confidence)
    ratios = [(tpr - delta, fpr), (1.0 - fpr - delta, 1.0 - tpr)]
    return max([0.0, *(math.log(top / bottom) for top, bottom in ratios if top > 0.0 and bottom > 0.0)])
