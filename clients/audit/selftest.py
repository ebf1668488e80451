"""The audit's test of itself on a platform's own training: it must catch planted defects and accuse nobody honest.

An audit that misses a planted defect has no power against that kind of defect, and its silence about the
real training means nothing.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from clients.audit.canaries import draw_places
from clients.audit.defects import (
    ClippedPerBatch,
    EveryoneSampled,
    InBatchNegatives,
    NoNoise,
    RepeatedNoise,
    cohort_loss,
    misstated,
)
from clients.audit.parallel import in_threads
from clients.audit.subject import Progress, Subject
from clients.audit.training import Training, sources
from privacy.audit import AuditOutcome, Canaries, assess, attacks
from privacy.noise import NoiseSource
from privacy.plan import PrivacyPlan

Plant = Callable[[Subject, PrivacyPlan, NoiseSource], Training]
RESETS = 40
"""Rounds in which a budget is reset."""


@dataclass(frozen=True)
class Case:
    """One row: what is claimed, how training really goes, and for how many steps."""

    name: str
    honest: bool
    claim: PrivacyPlan
    plant: Plant
    steps: int


def cases(plan: PrivacyPlan, *, quick: bool) -> list[Case]:
    """Return the rows for a plan, which gives ε, δ, C, q and steps.

    Honest trainings also run at a quarter, a half and twice its ε, unless it must be quick.
    """
    epsilon, steps = plan.epsilon, plan.steps
    short, single = max(1, steps // 10), max(1, steps // 20)
    rows = [
        Case(
            f"honest, ε = {factor * epsilon:g}", True, _like(plan, epsilon=factor * epsilon), Training, steps
        )
        for factor in ((1.0,) if quick else (0.25, 0.5, 1.0, 2.0))
    ]
    claim = _like(plan)
    planted: list[tuple[str, PrivacyPlan, Plant]] = [
        ("no noise", claim, lambda s, p, n: Training(s, p, NoNoise(n))),
        ("σ a third of the claim", claim, lambda s, p, n: Training(s, misstated(p, noise=1 / 3), n)),
        ("not clipped", claim, lambda s, p, n: Training(s, misstated(p, clip=1e9), n)),
        ("clipped per batch, not per shopper", claim, _clipped_per_batch),
        (
            "clipped at three times C, no sampling",
            _like(plan, sample_rate=1.0, steps=short),
            lambda s, p, n: Training(s, misstated(p, clip=3.0), n),
        ),
        ("the same noise in every step", claim, lambda s, p, n: Training(s, p, RepeatedNoise(n))),
        ("in-batch negatives", claim, lambda s, p, n: Training(s, p, n, InBatchNegatives)),
        (
            "metric without noise",
            claim,
            lambda s, p, n: Training(s, p, n, metric=cohort_loss, local_steps=max(1, p.steps // 40)),
        ),
    ]
    if plan.sample_rate < 1.0:
        sampled = _like(plan, steps=short)
        planted.append(
            ("everybody in every batch", sampled, lambda s, p, n: Training(s, p, EveryoneSampled(n)))
        )
    rows += [Case(name, False, stated, plant, stated.steps) for name, stated, plant in planted]
    reset = Case(
        f"budget reset in each of {RESETS} rounds",
        False,
        _like(plan, epsilon=epsilon / 2.0, steps=single),
        lambda s, p, n: Training(s, p, n, local_steps=p.steps),
        RESETS * single,
    )
    return [*rows, reset]


def _like(
    plan: PrivacyPlan,
    *,
    epsilon: float | None = None,
    sample_rate: float | None = None,
    steps: int | None = None,
) -> PrivacyPlan:
    return PrivacyPlan.calibrated(
        epsilon=epsilon or plan.epsilon,
        delta=plan.delta,
        clip_norm=plan.clip_norm,
        sample_rate=sample_rate or plan.sample_rate,
        population_size=plan.population_size,
        steps=steps or plan.steps,
    )


def _clipped_per_batch(subject: Subject, plan: PrivacyPlan, noise: NoiseSource) -> Training:
    return Training(
        subject,
        misstated(plan, clip=1e9),
        noise,
        lambda population: ClippedPerBatch(population, plan.clip_norm),
    )


def run_selftest(
    subject: Subject, m: int, *, seed: int | None, confidence: float, quick: bool, say: Progress
) -> list[AuditOutcome]:
    """Audit the subject's training as it is and with each planted defect, m canaries each.

    An honest training is accused by chance with probability at most 1 − `confidence` each.
    Raises PlanError for values that cannot be used.
    """
    places = draw_places(subject.parameters, m, np.random.default_rng(subject.seed))
    rows = cases(subject.plan, quick=quick)
    subject = replace(
        subject, compile="never"
    )  # rows run in threads of one process, where compiling has no place

    def audit(case: Case) -> AuditOutcome:
        coins, noise = sources(seed, case.name)
        canaries, started = Canaries.draw(m, coins), time.perf_counter()
        seen = case.plant(subject, case.claim, noise).run(canaries, places, case.steps, lambda _: None)
        return assess(
            case.name,
            attacks(seen, case.claim),
            canaries,
            case.claim,
            steps=case.steps,
            confidence=confidence,
            honest=case.honest,
            seconds=time.perf_counter() - started,
        )

    return in_threads(
        audit, rows, lambda n, row: say(f"self-test {n} of {len(rows)}: {row.mechanism}: {row.verdict}")
    )
