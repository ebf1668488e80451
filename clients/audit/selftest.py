"""The audit's test of itself on a platform's own releases: it must catch planted defects and accuse nobody honest.

An audit that misses a planted defect has no power against that kind of defect, and its silence about the
real training means nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from clients.audit.defects import Repeated, Scaled, edges_twice, exact_counts, exact_temper, unscaled
from clients.audit.subject import Progress, Subject
from clients.audit.training import Training, audit_training, edges_to_own, sources
from privacy.audit import AuditOutcome, Canaries
from privacy.noise import NoiseSource
from privacy.release import ReleasePlan


@dataclass(frozen=True)
class Case:
    """One row: what is claimed, and how training really goes."""

    name: str
    honest: bool
    plan: ReleasePlan
    plant: Callable[[Subject, NoiseSource], Training]


def cases(plan: ReleasePlan, *, quick: bool) -> list[Case]:
    """Return the rows for a plan of both stages: honest ones, at a quarter, a half and twice its ε too unless quick."""
    rows = []
    for factor in (1.0,) if quick else (0.25, 0.5, 1.0, 2.0):
        epsilon = factor * plan.epsilon
        claim = ReleasePlan.calibrated(epsilon=epsilon, delta=plan.delta, shares=plan.shares)
        rows.append(Case(f"honest, ε = {epsilon:g}", True, claim, Training))
    planted: dict[str, Callable[[Subject, NoiseSource], Training]] = {
        "no noise": lambda s, n: Training(s, Scaled(n, 0.0)),
        "σ a third of the claim": lambda s, n: Training(s, Scaled(n, 1 / 3)),
        "rows not scaled to norm 1": lambda s, n: Training(s, n, total=unscaled),
        "edges counted twice": lambda s, n: Training(s, n, total=edges_twice),
        "exact popularity as weights": lambda s, n: Training(s, n, temper=exact_temper),
        "exact counts in the card": lambda s, n: Training(s, n, count=exact_counts),
        "the same noise in both stages": lambda s, n: Training(s, Repeated(n)),
    }
    return rows + [Case(name, False, plan, plant) for name, plant in planted.items()]


def run_selftest(
    subject: Subject,
    canaries: int | None,
    most: int,
    *,
    seed: int | None,
    confidence: float,
    quick: bool,
    say: Progress,
) -> list[AuditOutcome]:
    """Audit the subject's training as it is and with each planted defect; canaries as in `edges_to_own`.

    An honest training is accused by chance with probability at most 1 − `confidence` each. Raises PlanError.
    """
    m, owned = edges_to_own(subject, canaries, most)
    rows, found = cases(subject.plan, quick=quick), []
    for number, case in enumerate(rows, start=1):
        coins, noise = sources(seed, case.name)
        outcome = audit_training(
            case.plant(replace(subject, plan=case.plan), noise),
            Canaries.draw(m, coins),
            owned,
            name=case.name,
            confidence=confidence,
            honest=case.honest,
            say=lambda _: None,
        )
        say(f"self-test {number} of {len(rows)}: {outcome.mechanism}: {outcome.verdict}")
        found.append(outcome)
    return found
