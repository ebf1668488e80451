"""What the entries mean: a fold over the chain into reservations, spend and the cap in force.

The same fold serves the live ledger and the verifier, and it refuses entries that no correct ledger writes,
so a record with valid signatures but impossible content is found too.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from enum import StrEnum

from privacy.accounting import check_delta
from privacy.checks import real
from privacy.errors import LedgerTamperedError, PlanError
from privacy.events import Event, event_from_json
from privacy.ledger.entry import Entry, Kind

MAX_CAP = 1000.0
NOTHING = "nothing"
"""The output of a reservation that ended without one: it is charged in full, and nothing ever leaves for it."""
MAX_REFUSALS = 100
"""Most refusals on record between two grants or changes of the cap, so that asking costs no disk without end."""
_OUTPUT = re.compile(rf"[0-9a-f]{{64}}|{NOTHING}")
_DRIFT = 1e-3
"""How far round-off may move ε between two processes. The verifier, which composes the events, is stricter."""

_POPULATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")


def check_population(name: object) -> str:
    """A population's name: letters, digits and ``. _ / -``, at most 100, starting with a letter or digit.

    Raises:
        PlanError: any other name.
    """
    if not isinstance(name, str) or not _POPULATION.fullmatch(name):
        raise PlanError(f"population = {name!r}: use 1 to 100 letters, digits, '.', '_', '/' or '-'")
    return name


def check_cap(value: object) -> float:
    """An ε cap in [0, 1000]; 0 refuses everything."""
    hint = "give the most that may ever be spent on this population, such as 6"
    return real("epsilon_cap", value, above=-5e-324, at_most=MAX_CAP, hint=hint) + 0.0


def check_output(value: object) -> str:
    """What a reservation released: the SHA-256 of what was stored, in lower-case hex, or ``NOTHING``.

    Raises:
        PlanError: anything else.
    """
    if not isinstance(value, str) or not _OUTPUT.fullmatch(value):
        raise PlanError(f"output = {value!r}: give the SHA-256 of what was stored, or {NOTHING!r}")
    return value


class Status(StrEnum):
    """Where a reservation stands."""

    OPEN = "open"
    SETTLED = "settled"


@dataclass(frozen=True)
class Reservation:
    """Budget set aside before training, for one draw of noise and one output.

    Args:
        seq: position of its entry.
        key: the caller's idempotency key, unique for ever in this ledger.
        event: the DP event that was reserved.
        run: which run it belongs to.
        purpose: what leaves, such as ``update`` or ``metrics``.
        model_fingerprint: the model version that training starts from.
        status: open until its output is written down.
        output: the SHA-256 of the one thing that may ever leave for it, or ``NOTHING``; None while it is open.
        steps_used: how many unit mechanisms are charged once settled.
    """

    seq: int
    key: str
    event: Event
    run: str
    purpose: str
    model_fingerprint: str
    status: Status = Status.OPEN
    output: str | None = None
    steps_used: int | None = None

    @property
    def charged(self) -> int:
        """How many runs of the unit mechanism count against the budget."""
        return self.event.count if self.steps_used is None else self.steps_used


Unit = tuple[float, float]


@dataclass
class LedgerState:
    """Everything that the entries so far say. ``apply`` is the only way to change it."""

    population: str
    schema: int = 0
    cap: float = 0.0
    delta: float = 0.0
    public_key: str = ""
    reservations: dict[str, Reservation] = field(default_factory=dict)
    spent: Counter[Unit] = field(default_factory=Counter)
    reserved: Counter[Unit] = field(default_factory=Counter)
    epsilon: float = 0.0
    given_back: bool = False
    refused: set[str] = field(default_factory=set)

    def committed(self) -> Counter[Unit]:
        """Unit mechanisms released or set aside."""
        return self.spent + self.reserved

    def apply(self, entry: Entry) -> None:
        """Take one checked entry into account.

        Raises:
            LedgerTamperedError: a correct ledger never writes this entry here.
        """
        try:
            {
                Kind.OPEN: self._open,
                Kind.RESERVE: self._reserve,
                Kind.SETTLE: self._settle,
                Kind.CAP: self._change_cap,
                Kind.REFUSE: self._refuse,
                Kind.NOTE: lambda _: None,
            }[entry.kind](entry)
        except (KeyError, TypeError, PlanError) as error:
            raise self._bad(entry, f"its content is impossible ({error})") from error

    def _bad(self, entry: Entry, why: str) -> LedgerTamperedError:
        return LedgerTamperedError(
            f"ledger of {self.population!r}, entry {entry.seq} ({entry.kind}): {why}; never written so: "
            "restore the untouched copy, do not train"
        )

    def _open(self, entry: Entry) -> None:
        if entry.seq != 0:
            raise self._bad(entry, "a ledger opens once")
        self.cap, self.delta = check_cap(entry.body["cap"]), check_delta(entry.body["delta"])
        self.public_key = str(entry.body["public_key"])

    def _reserve(self, entry: Entry) -> None:
        body = entry.body
        reservation = Reservation(
            entry.seq,
            body["key"],
            event_from_json(body["event"]),
            body["run"],
            body["purpose"],
            body["model_fingerprint"],
        )
        if reservation.key in self.reservations:
            raise self._bad(entry, f"key {reservation.key!r} is reserved twice")
        if body["cap"] != self.cap or not body["epsilon_after"] <= self.cap:
            raise self._bad(entry, f"ε {body['epsilon_after']!r} was let past the cap {self.cap!r}")
        if not body["epsilon_before"] <= body["epsilon_after"]:
            raise self._bad(entry, "spending lowered ε")
        drift = abs(body["epsilon_before"] - self.epsilon)
        if not self.given_back and not drift <= _DRIFT * self.epsilon + 1e-9:
            raise self._bad(entry, f"ε was {self.epsilon!r} before it, not {body['epsilon_before']!r}")
        self.reservations[reservation.key] = reservation
        self.reserved[_unit(reservation.event)] += reservation.event.count
        self.epsilon, self.given_back = body["epsilon_after"], False
        self.refused.clear()

    def _refuse(self, entry: Entry) -> None:
        if not self.records_refusal_of(entry.body["key"]):
            raise self._bad(entry, "this refusal was on record, or too many were")
        self.refused.add(entry.body["key"])

    def records_refusal_of(self, key: str) -> bool:
        """Whether a refusal is to be written down: once a key, ``MAX_REFUSALS`` in all, until something changes."""
        return key not in self.refused and len(self.refused) < MAX_REFUSALS

    def _held(self, entry: Entry) -> Reservation:
        held = self.reservations.get(entry.body["key"])
        if held is None or held.status is not Status.OPEN:
            raise self._bad(entry, f"key {entry.body['key']!r} is not an open reservation")
        return held

    def _settle(self, entry: Entry) -> None:
        held = self._held(entry)
        used, output = entry.body["steps_used"], check_output(entry.body["output"])
        if isinstance(used, bool) or not isinstance(used, int) or not 0 <= used <= held.event.count:
            raise self._bad(entry, f"{used!r} of {held.event.count} steps cannot have been used")
        if used < held.event.count and not entry.body.get("evidence"):
            raise self._bad(entry, "steps were given back without evidence")
        unit = _unit(held.event)
        self.given_back = self.given_back or used < held.event.count
        self.reserved[unit] -= held.event.count
        self.spent[unit] += used
        self.reservations[held.key] = replace(held, status=Status.SETTLED, steps_used=used, output=output)

    def _change_cap(self, entry: Entry) -> None:
        self.cap = check_cap(entry.body["cap"])
        self.refused.clear()


def _unit(event: Event) -> Unit:
    return event.sample_rate, event.noise_multiplier
