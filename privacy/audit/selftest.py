"""The audit's test of itself: it must catch planted defects and must not accuse the honest mechanism.

Each planted defect changes one thing in ``TrainingMechanism`` and keeps the claim. An audit that misses one of
them has no power against that kind of defect, and its silence about a real mechanism means nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from privacy.accounting import check_delta
from privacy.audit.bounds import FRACTIONS, best_bound
from privacy.audit.canaries import Canaries, likelihood_scores, metric_scores, spread_scores
from privacy.audit.mechanism import Mechanism, TrainingMechanism, Transcript, run
from privacy.audit.outcome import AuditOutcome
from privacy.checks import whole
from privacy.noise import NoiseSource, ReproducibleNoise, SecureNoise
from privacy.plan import PrivacyPlan

SEGMENT = 20
"""Canaries in one segment whose exact metric is published."""


class _Altered:
    """A source whose normals are altered; sampling stays as it was."""

    private = False
    name = "planted"

    def __init__(self, source: NoiseSource) -> None:
        self._source = source

    def normal(self, n: int) -> NDArray[np.float64]:
        """Altered normals, (n,)."""
        return np.zeros(n)

    def poisson_mask(self, n: int, q: float) -> NDArray[np.bool_]:
        """(n,) honest draws."""
        return self._source.poisson_mask(n, q)


class _Repeating(_Altered):
    def __init__(self, source: NoiseSource) -> None:
        super().__init__(source)
        self._first: dict[int, NDArray[np.float64]] = {}

    def normal(self, n: int) -> NDArray[np.float64]:
        if n not in self._first:
            self._first[n] = self._source.normal(n)
        return self._first[n].copy()


class NoNoise(TrainingMechanism):
    """Adds zeros."""

    def noise_source(self) -> NoiseSource:
        """A source of zeros."""
        return _Altered(self.noise)


class RepeatedNoise(TrainingMechanism):
    """Adds the first step's noise in every step, as one seed for all rounds does."""

    def noise_source(self) -> NoiseSource:
        """A source that repeats itself."""
        return _Repeating(self.noise)


class TooLittleNoise(TrainingMechanism):
    """Adds noise of a third of the standard deviation that the plan says."""

    def __init__(self, plan: PrivacyPlan, noise: NoiseSource, m: int) -> None:
        super().__init__(plan, noise, m)
        self.optimizer.noise_multiplier /= 3.0


class ClipTwice(TrainingMechanism):
    """Clips at twice the plan's norm, with the plan's noise."""

    factor = 2.0

    def __init__(self, plan: PrivacyPlan, noise: NoiseSource, m: int) -> None:
        super().__init__(plan, noise, m)
        self.optimizer.max_grad_norm = self.factor * plan.clip_norm
        self.optimizer.noise_multiplier = plan.noise_multiplier / self.factor


class NoClip(ClipTwice):
    """Does not clip at all, with the plan's noise."""

    factor = 1e9


class EveryoneSampled(TrainingMechanism):
    """Takes everybody in every step while the claim counts on sampling."""

    def batch(self, members: NDArray[np.int64]) -> NDArray[np.int64]:
        """All members."""
        return members


class InBatchNegatives(TrainingMechanism):
    """Each user's gradient pushes the batch's other users away, and only then is clipped.

    One canary then moves every row of the batch: the sum moves by up to B·C where C is claimed.
    """

    def per_user(self, rows: torch.Tensor) -> torch.Tensor:
        """Own gradient minus the others', as negatives from the same batch give."""
        return 2.0 * rows - rows.sum(dim=0, keepdim=True)


class ExactMetric(TrainingMechanism):
    """Publishes each segment's summed loss over its members, without noise, beside every honest update."""

    def metric(self, canaries: Canaries) -> NDArray[np.float64]:
        """(S,) Σ over members of segment k of pad[i]."""
        segments = segment_count(len(canaries.included))
        losses = np.where(canaries.included, self.pad.detach().double().numpy(), 0.0)
        sums = np.bincount(np.arange(len(losses)) % segments, weights=losses, minlength=segments)
        return sums.astype(np.float64)


def segment_count(m: int) -> int:
    """Segments of about ``SEGMENT`` canaries, at least one."""
    return max(1, m // SEGMENT)


def audit(
    name: str,
    mechanism: Mechanism,
    canaries: Canaries,
    plan: PrivacyPlan,
    *,
    claimed: float | None = None,
    steps: int | None = None,
    confidence: float = 0.95,
    fractions: Sequence[float] = FRACTIONS,
    honest: bool | None = None,
) -> AuditOutcome:
    """Attack one run of ``mechanism`` and compare the lower bound with the claim.

    Args:
        name: how the outcome calls it.
        mechanism: what runs; it must be made for ``len(canaries.included)`` canaries.
        canaries: the coins, unknown to the attacks.
        plan: what the mechanism says it does; the attacks use its C, q and σ.
        claimed: the ε under test; the plan's cost unless given.
        steps: how often the mechanism runs; ``plan.steps`` unless given.
        confidence: of the lower bounds together.
        fractions: shares of canaries named IN, and as many OUT.
        honest: what a self-test expects.
    """
    started = time.perf_counter()
    count = plan.steps if steps is None else whole("steps", steps, at_least=1, at_most=10**6, hint="≥ 1")
    transcript = run(mechanism, canaries, count)
    bound = best_bound(
        attacks(transcript, plan),
        canaries.included,
        delta=plan.delta,
        confidence=confidence,
        fractions=fractions,
    )
    said = plan.cost() if claimed is None else claimed
    seconds = time.perf_counter() - started
    m = len(canaries.included)
    return AuditOutcome(name, honest, said, plan.delta, bound, confidence, m, count, seconds)


def attacks(transcript: Transcript, plan: PrivacyPlan) -> dict[str, NDArray[np.float64]]:
    """Name → (m,) scores of every attack that the transcript allows."""
    found = {
        "likelihood": likelihood_scores(
            transcript.noised,
            clip_norm=plan.clip_norm,
            sample_rate=plan.sample_rate,
            noise_multiplier=plan.noise_multiplier,
        ),
        "spread": spread_scores(transcript.noised),
    }
    if transcript.metrics is not None:
        found["metric"] = metric_scores(transcript.pad, transcript.metrics)
    return found


@dataclass(frozen=True)
class _Case:
    name: str
    kind: type[TrainingMechanism]
    honest: bool
    epsilon: float
    rounds: int = 1
    """How often the plan runs under a claim for running once."""
    sampled: bool = True
    """False: sample rate 1 and a tenth of the steps, where the audit sees most."""


def _cases(epsilons: Sequence[float], planted: float) -> list[_Case]:
    honest = [_Case(f"honest, ε = {e:g}", TrainingMechanism, True, e) for e in epsilons]
    defects: list[tuple[str, type[TrainingMechanism]]] = [
        ("no noise", NoNoise),
        ("σ a third of the claim", TooLittleNoise),
        ("not clipped", NoClip),
        ("one round's noise in every round", RepeatedNoise),
        ("everybody in every batch", EveryoneSampled),
        ("in-batch negatives", InBatchNegatives),
        ("metric without noise", ExactMetric),
    ]
    reset = _Case("budget reset in each of 20 rounds", TrainingMechanism, False, planted / 2.0, rounds=20)
    twice = _Case("clipped at twice C, no sampling", ClipTwice, False, planted, sampled=False)
    return [*honest, *(_Case(name, kind, False, planted) for name, kind in defects), twice, reset]


def run_selftest(
    seed: int | None = None,
    canaries: int = 5000,
    *,
    epsilons: Sequence[float] = (1.0, 2.0, 4.0, 8.0),
    planted: float = 4.0,
    delta: float = 1e-5,
    sample_rate: float = 0.1,
    steps: int = 100,
    confidence: float = 0.95,
    fractions: Sequence[float] = FRACTIONS,
) -> list[AuditOutcome]:
    """Audit honest mechanisms and every planted defect.

    An honest mechanism is accused with probability at most 1 − ``confidence`` each, by chance.

    Args:
        seed: reproduces coins, sampling and noise; None draws them from the operating system.
        canaries: m; 5,000 for a full test, 2,000 for a quick one. Fewer miss smaller violations.
        epsilons: claims of the honest mechanisms.
        planted: claim of the mechanisms with a defect (half of it a round where the budget is reset).
        delta: δ of every claim.
        sample_rate: q.
        steps: steps of a run; a tenth of it a round where the budget is reset.
        confidence: of each audit's lower bounds.
        fractions: shares of canaries named IN, and as many OUT.

    Raises:
        PlanError: a value is out of range.
    """
    whole("canaries", canaries, at_least=40, at_most=10**5, hint="give the number of canary users")
    whole("steps", steps, at_least=SEGMENT, at_most=10**5, hint="give the steps of one run")
    check_delta(delta)
    outcomes = []
    for case in _cases(epsilons, planted):
        plan = PrivacyPlan.calibrated(
            epsilon=case.epsilon,
            delta=delta,
            clip_norm=1.0,
            sample_rate=sample_rate if case.sampled else 1.0,
            population_size=canaries // 2,
            steps=steps if case.rounds == 1 and case.sampled else steps // 10,
        )
        coins, noise = _sources(seed, case.name)
        drawn = Canaries.draw(canaries, coins)
        outcome = audit(
            case.name,
            case.kind(plan, noise, canaries),
            drawn,
            plan,
            steps=plan.steps * case.rounds,
            confidence=confidence,
            fractions=fractions,
            honest=case.honest,
        )
        outcomes.append(outcome)
    return outcomes


def _sources(seed: int | None, name: str) -> tuple[NoiseSource, NoiseSource]:
    """Independent sources of coins and of the mechanism's randomness."""
    if seed is None:
        return SecureNoise(), SecureNoise()
    return ReproducibleNoise(seed, "audit coins", name), ReproducibleNoise(seed, "audit noise", name)
