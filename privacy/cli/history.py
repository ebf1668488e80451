"""What a ledger's entries say, folded for showing: how ε moved, and which unit mechanisms make it up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from privacy.accounting import Accountant, tally
from privacy.cli.cross import complaints, cross_documents
from privacy.cli.price import beyond
from privacy.events import Event
from privacy.ledger import Entry, Kind, LedgerView
from privacy.ledger.state import LedgerState


@dataclass(frozen=True)
class Moment:
    """ε committed and the cap in force after one entry; ``release`` counts the reservations so far."""

    entry: int
    release: int
    time: str
    kind: str
    run: str | None
    epsilon: float
    cap: float


def moments(population: str, entries: Iterable[Entry]) -> list[Moment]:
    """How ε moved, entry by entry; computed anew only where steps were given back."""
    state, accountant = LedgerState(population), Accountant()
    result: list[Moment] = []
    epsilon, given_back = 0.0, False
    for entry in entries:
        state.apply(entry)
        if state.given_back and not given_back:
            epsilon = accountant.epsilon(state.committed(), state.delta)
        elif entry.kind is Kind.RESERVE:
            epsilon = state.epsilon
        elif entry.kind is Kind.SETTLE and state.given_back:
            epsilon = accountant.epsilon(state.committed(), state.delta)
        given_back = state.given_back
        result.append(
            Moment(
                entry=entry.seq,
                release=len(state.reservations),
                time=entry.time,
                kind=str(entry.kind),
                run=_run(entry, state),
                epsilon=epsilon,
                cap=state.cap,
            )
        )
    return result


def _run(entry: Entry, state: LedgerState) -> str | None:
    held = state.reservations.get(str(entry.body.get("key")))
    return entry.body.get("run", held.run if held else None)


def committed(view: LedgerView) -> list[Event]:
    """What was released or set aside."""
    state = LedgerState(view.population)
    for entry in view.history():
        state.apply(entry)
    return [r.event.with_count(r.charged) for r in state.reservations.values() if r.charged]


def budget_document(
    view: LedgerView, where: str, *, quick: bool = False, groups: bool = False
) -> dict[str, Any]:
    """Everything that `audit budget` shows of one ledger.

    Args:
        view: the ledger.
        where: its name.
        quick: leave out the other accountants.
        groups: add what it comes to for groups, an exchange and other ε.
    """
    budget, entries = view.budget(), list(view.history())
    history = moments(view.population, entries)
    reached = {m.run: m.epsilon for m in history if m.kind == Kind.RESERVE}
    runs = [
        {
            "run": spend.run,
            "reservations": spend.reservations,
            "open": spend.open,
            "steps": spend.steps,
            "epsilon_alone": spend.epsilon,
            "epsilon_reached": reached.get(spend.run),
        }
        for spend in view.runs()
    ]
    released = committed(view) if groups or not quick else []
    checks = [] if quick else cross_documents(tally(released), budget.delta, budget.committed)
    return {
        "population": budget.population,
        "ledger": where,
        "spent": budget.spent,
        "reserved": budget.reserved,
        "committed": budget.committed,
        "left": budget.left,
        "cap": budget.cap,
        "delta": budget.delta,
        "entries": budget.entries,
        "refused": sum(entry.kind is Kind.REFUSE for entry in entries),
        "runs": runs,
        "cross_checks": checks,
        **(beyond(released, budget.delta) if groups else {}),
        "warnings": [*filter(None, [view.recovered]), *complaints(checks)],
        "history": [vars(moment) for moment in history],
    }
