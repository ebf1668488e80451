"""The result of an audit, in words that claim no more than was shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from privacy.audit.bounds import Bound


@dataclass(frozen=True)
class AuditOutcome:
    """One mechanism under audit.

    Args:
        mechanism: what ran.
        honest: whether it does what it claims; None when that is the question.
        claimed: ε claimed at ``delta``.
        bound: lower bounds found; both hold together with probability ``confidence``.
        ceiling: what the same canaries would have proved, had each been recognised.
        canaries: how many, of which about half were included.
        runs: independent runs, each canary in one.
        seconds: how long it took.
    """

    mechanism: str
    honest: bool | None
    claimed: float
    delta: float
    bound: Bound
    ceiling: float
    confidence: float
    canaries: int
    runs: int
    seconds: float

    @property
    def violation(self) -> bool:
        """Whether the lower bound passes the claim."""
        return self.bound.epsilon > self.claimed

    @property
    def as_expected(self) -> bool:
        """Whether a planted defect was caught, or an honest mechanism was not accused."""
        return self.honest is None or self.violation is not self.honest

    @property
    def verdict(self) -> str:
        """One line for people. The absence of a violation verifies nothing."""
        found = f"lower bound {self.bound.epsilon:.2f}"
        if self.violation:
            return f"VIOLATION, {found} > claimed {self.claimed:.2f}"
        return f"no violation found, {found}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        shown = {"epsilon": self.bound.epsilon, "violation": self.violation, "verdict": self.verdict}
        return {**asdict(self), **shown}


COLUMNS = ("mechanism", "claimed ε", "one-run bound", "f-DP bound", "attack", "right guesses", "verdict")


def cells(outcome: AuditOutcome) -> tuple[str, ...]:
    """One row of a table under ``COLUMNS``."""
    bound = outcome.bound
    guesses = f"{bound.correct} of {bound.guesses}" if bound.guesses else "–"
    numbers = (f"{outcome.claimed:.2f}", f"{bound.one_run:.2f}", f"{bound.gaussian:.2f}")
    surprise = "" if outcome.as_expected else " (NOT as expected)"
    return outcome.mechanism, *numbers, bound.attack or "–", guesses, outcome.verdict + surprise


def markdown(outcomes: Sequence[AuditOutcome]) -> str:
    """A table in Markdown, one line per mechanism."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *map(cells, outcomes)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
