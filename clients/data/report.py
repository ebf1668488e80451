"""What cleaning did to one file: every rejected row counted under one reason."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from clients.data.busiest import Busiest


@dataclass(frozen=True)
class CleaningReport:
    """Counts of one cleaned file. It stays on the platform: counts are never sent.

    `dropped`: reason → rows rejected (each row under its first reason). `flagged`: reason → rows kept in
    spite of a flaw. `examples`: reason → where the first such row is and what it holds. `users`, `items`:
    distinct ones that were kept (`users` is 0 for a catalogue). `tainted`: a filter over all users ran, so
    the privacy contract does not hold for what follows. `busiest`: the account with most of the events kept.
    """

    source: str
    read: int
    kept: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    flagged: Mapping[str, int] = field(default_factory=dict)
    users: int = 0
    items: int = 0
    tainted: bool = False
    examples: Mapping[str, str] = field(default_factory=dict, repr=False)
    busiest: Busiest = field(default_factory=Busiest)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the examples and the busiest account's id: values from the data."""
        return {
            "source": self.source,
            "read": self.read,
            "kept": self.kept,
            "dropped": dict(self.dropped),
            "flagged": dict(self.flagged),
            "users": self.users,
            "items": self.items,
            "tainted": self.tainted,
            "most_events_of_an_account": self.busiest.events,
        }

    def lines(self) -> list[str]:
        """The report for a person, one line each."""
        out = [f"{self.source}: kept {self.kept:,} of {self.read:,} rows"]
        for verb, counts in (("dropped", self.dropped), ("kept, but", self.flagged)):
            for reason, rows in counts.items():
                example = f" (first: {self.examples[reason]})" if reason in self.examples else ""
                out.append(f"  {verb} {rows:,}: {reason.replace('_', ' ')}{example}")
        if self.busiest.suspicious(self.kept, self.users):
            out.append(f"  {self.busiest.line(self.kept, self.users)}")
        if self.tainted:
            out.append("  TAINTED: a filter over all users ran; no differential privacy claim holds")
        return out


def merged(reports: Iterable[CleaningReport], source: str) -> CleaningReport:
    """One report of several parts; its `users` and `items` are left at 0, for parts may share them."""
    parts = list(reports)
    dropped: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for part in parts:
        dropped.update(part.dropped)
        examples = {**part.examples, **examples}
    return CleaningReport(
        source=source,
        read=sum(part.read for part in parts),
        kept=sum(part.kept for part in parts),
        dropped=dict(dropped),
        tainted=any(part.tainted for part in parts),
        examples=examples,
        busiest=max((part.busiest for part in parts), default=Busiest()),
    )
