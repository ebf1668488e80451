"""What an audit found, in words that claim no more than was shown.

The numbers come from the shoppers' data and are not noised: a report is for the platform itself.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from clients.audit.membership import SumMembership
from privacy.audit import AuditOutcome, MembershipInference, markdown
from privacy.audit.outcome import COLUMNS, cells
from privacy.explain import Guess
from privacy.release import ReleasePlan

REFUTED = 3
"""Exit code: the attack proves more than is claimed."""
MISSED = 1
"""Exit code: the self-test did not catch a planted defect."""
NOTES = (
    "The sums made here are thrown away: no ledger is opened, nothing is charged, nothing leaves the platform.",
    "A lower bound never shows that ε holds: it can refute a claim, or fail to.",
    "This report is computed from the shoppers' data without noise: keep it on the platform.",
)
Row = tuple[str, ...]
Table = tuple[str, Row, list[Row]]
"""Title, columns, rows."""
CANARY_COLUMNS: Row = (*COLUMNS[1:-1], "provable")
MEMBERSHIP_COLUMNS: Row = ("sums", "AUC", "TPR at FPR 0.1 %", "TPR at FPR 1 %")


@dataclass(frozen=True)
class Report:
    """One platform's training under attack.

    canaries : what they prove. membership : of real shoppers, private sums and exact ones; empty where left out.
    allowed : the most that the claim allows anyone, at the false positive rates of `membership`.
    """

    platform: str
    plan: ReleasePlan
    canaries: AuditOutcome
    membership: tuple[SumMembership, ...]
    allowed: tuple[Guess, ...]
    warnings: tuple[str, ...]

    @property
    def refuted(self) -> bool:
        """Whether a lower bound passes the claim."""
        return self.canaries.violation

    @property
    def exit_code(self) -> int:
        """0, or `REFUTED`."""
        return REFUTED if self.refuted else 0

    @property
    def verdict(self) -> str:
        """One line for a privacy officer."""
        proved = self.canaries.bound.epsilon
        what = f"the attack proves ε ≥ {proved:.2f} with {100 * self.canaries.confidence:g} % confidence"
        if not proved:
            what = "the attack proves nothing (ε ≥ 0)"
        return (
            f"{self.platform}: claimed ε ≤ {self.plan.epsilon:.2f} at δ = {self.plan.delta:g}; {what}: "
            f"{'REFUTED' if self.refuted else 'no contradiction'}"
        )

    def tables(self) -> list[Table]:
        """Return what is printed: title, columns, rows."""
        row = (*cells(self.canaries)[1:-1], f"at most {self.canaries.ceiling:.2f}")
        canaries = ("Canary shoppers: what is proved of ε", CANARY_COLUMNS, [row])
        members = ("Membership of real shoppers", MEMBERSHIP_COLUMNS, self.membership_rows())
        return [canaries, members] if self.membership else [canaries]

    def membership_rows(self) -> list[Row]:
        """Return a row for private sums and one for exact ones, and what the claim allows."""
        rows = [_membership_row(m.sums, m.found) for m in self.membership]
        allowed = (f"at most {_percent(g.true_positive_rate)}" for g in self.allowed)
        return [*rows, ("what the claim allows", "–", *allowed)]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "platform": self.platform,
            "verdict": self.verdict,
            "refuted": self.refuted,
            "exit_code": self.exit_code,
            "plan": asdict(self.plan),
            "claimed_epsilon": self.canaries.claimed,
            "canaries": self.canaries.to_dict(),
            "membership": [asdict(m) for m in self.membership],
            "allowed_by_the_claim": [asdict(guess) for guess in self.allowed],
            "warnings": list(self.warnings),
            "notes": list(NOTES),
        }

    def markdown(self) -> str:
        """Return the tables and the verdict for a document."""
        parts = [_markdown(columns, rows) for _, columns, rows in self.tables()]
        return "\n\n".join([*parts, self.verdict]) + "\n"


@dataclass(frozen=True)
class SelfTest:
    """What the audit says of trainings whose honesty is known."""

    platform: str
    outcomes: tuple[AuditOutcome, ...]

    @property
    def accused(self) -> list[str]:
        """Honest trainings that were refuted."""
        return [o.mechanism for o in self.outcomes if o.honest and o.violation]

    @property
    def missed(self) -> list[str]:
        """Planted defects that were not caught."""
        return [o.mechanism for o in self.outcomes if o.honest is False and not o.violation]

    @property
    def exit_code(self) -> int:
        """0 if all is as expected; `REFUTED` if an honest training was accused, else `MISSED`."""
        return REFUTED if self.accused else MISSED if self.missed else 0

    @property
    def verdict(self) -> str:
        """One line."""
        planted = [o for o in self.outcomes if o.honest is False]
        caught = len(planted) - len(self.missed)
        line = f"{self.platform}: {caught} of {len(planted)} planted defects caught"
        line += f" (missed: {', '.join(self.missed)})" if self.missed else ""
        honest = len(self.outcomes) - len(planted)
        return line + (
            f"; REFUTED though honest: {', '.join(self.accused)}"
            if self.accused
            else f"; {honest} of {honest} honest trainings not accused"
        )

    def tables(self) -> list[Table]:
        """Return what is printed: title, columns, rows."""
        return [
            ("Self-test: what the audit says of planted defects", COLUMNS, list(map(cells, self.outcomes)))
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "platform": self.platform,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "missed": self.missed,
            "accused": self.accused,
            "selftest": [outcome.to_dict() for outcome in self.outcomes],
            "notes": list(NOTES),
        }

    def markdown(self) -> str:
        """Return the table and the verdict for a document."""
        return f"{markdown(self.outcomes)}\n\n{self.verdict}\n"


def _membership_row(sums: str, found: MembershipInference) -> Row:
    low, high = found.auc_interval
    rates = (
        f"{_percent(r.tpr)} ({_percent(r.tpr_interval[0])} to {_percent(r.tpr_interval[1])})"
        for r in found.rates
    )
    return sums, f"{found.auc:.3f} ({low:.3f} to {high:.3f})", *rates


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def _markdown(columns: Sequence[str], rows: Sequence[Row]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
