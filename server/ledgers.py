"""The ledgers of members in the registry: which is whose, and every signed head of it that ever came.

| a head that comes with a request or an update              | outcome                                             |
|------------------------------------------------------------|-----------------------------------------------------|
| with a platform's first request                            | kept: its key and population are enrolled           |
| of the enrolled ledger, none older than known when asked   | kept                                                |
| older, or another hash for a known entry                   | LedgerRolledBackError, kept as proof, as each later one |
| of another key or population                               | LedgerRolledBackError, not kept                     |
| of a population that another member signs for otherwise    | LedgerMismatchError                                 |
| with a request, and the operator gives a reason            | a new ledger is enrolled; cards say so from then on |

What was known *when asked*: replies to two runs at once cross, and a request may lie for days before it is admitted.
Members who share a ledger share its heads. The rule is that of the witness (`privacy.ledger.witness`).

Not covered: a copy that was put back, and grew past the last head before it was shown. Every head is kept, so that a
comparison with the ledger finds it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa

from federation.errors import EnrolmentError, WrongPartyError
from federation.request import Request
from federation.validity import moment
from privacy.errors import LedgerError, LedgerRolledBackError
from privacy.ledger import Head
from privacy.ledger.witness import Heads

NEW_LEDGER = (
    "A ledger that does not continue the enrolled one counts only by the operator's word: fedcart server admit REQUEST "
    "--new-ledger REASON"
)

metadata = sa.MetaData()
_LEDGERS = sa.Table(
    "ledgers",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("population", sa.String, nullable=False),
    sa.Column("public_key", sa.String, nullable=False),
)
_HOLDERS = sa.Table(
    "ledger_holders",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("ledger", sa.ForeignKey(_LEDGERS.c.number), nullable=False),
    sa.Column("since", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
)
_HEADS = sa.Table(
    "ledger_heads",
    metadata,
    sa.Column("ledger", sa.ForeignKey(_LEDGERS.c.number), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("hash", sa.String, primary_key=True),
    sa.Column("signature", sa.String, nullable=False),
    sa.Column("refused", sa.Boolean, primary_key=True),
    sa.Column("time", sa.String, nullable=False),
)


@dataclass(frozen=True)
class MemberLedger:
    """The ledger of a member that is in force.

    `last` is its last head that counts. `begun` holds when each ledger after the member's first was admitted. `refused`
    is the first head that contradicted an earlier one, which came at `went_back`: nothing of this ledger counts since.
    """

    number: int
    last: Head
    begun: tuple[str, ...] = ()
    refused: Head | None = None
    went_back: str | None = None


def in_force(connection: sa.Connection) -> dict[str, MemberLedger]:
    """Return the ledger in force of each platform that was ever admitted, by name."""
    begun: dict[str, list[str]] = {}
    numbers: dict[str, int] = {}
    for row in connection.execute(sa.select(_HOLDERS).order_by(_HOLDERS.c.number)):
        begun.setdefault(row.name, []).append(row.since)
        numbers[row.name] = row.ledger
    newest = sa.select(_HEADS.c.ledger, sa.func.max(_HEADS.c.seq)).where(~_HEADS.c.refused)
    place = sa.tuple_(_HEADS.c.ledger, _HEADS.c.seq)
    last = _heads(connection, ~_HEADS.c.refused & place.in_(newest.group_by(_HEADS.c.ledger)))
    refused = _heads(connection, _HEADS.c.refused)
    return {
        name: MemberLedger(number, last[number][0], tuple(begun[name][1:]), *refused.get(number, ()))
        for name, number in sorted(numbers.items())
    }


def _heads(connection: sa.Connection, which: sa.ColumnElement[bool]) -> dict[int, tuple[Head, str]]:
    """Return, by ledger, the first head that came of those that are meant, and when it did."""
    found = sa.select(_HEADS, _LEDGERS.c.population, _LEDGERS.c.public_key).join(_LEDGERS).where(which)
    return {
        row.ledger: (Head(row.population, row.seq, row.hash, row.public_key, row.signature), row.time)
        for row in connection.execute(found.order_by(_HEADS.c.time.desc()))
    }


def enrol(connection: sa.Connection, request: Request, reason: str | None, time: datetime) -> None:
    """Take the ledger that a request names: the platform's first, the one in force, or a new one for a `reason`.

    Raises WrongPartyError if it is another one, went back, or is another member's population; EnrolmentError if it
    needs no reason.
    """
    name, head, held = request.platform, request.head, in_force(connection)
    own = held.pop(name, None)
    if reason is not None and not reason.strip():
        raise EnrolmentError("--new-ledger wants the reason: it stands in the registry and the audit log.")
    if reason is not None and (own is None or _continues(own, name, head)):
        raise EnrolmentError(
            f"{name!r} brings {'its first ledger here' if own is None else 'the ledger that is enrolled'}: leave "
            "--new-ledger out."
        )
    others = [ledger for ledger in held.values() if own is None or ledger.number != own.number]
    shared = next((ledger for ledger in others if head.of_ledger(ledger.last)), None)
    try:
        _known(held).judge(name, head)
        if own is None or reason is not None:
            own = shared or _found(connection, head, time)
            holder = {"name": name, "ledger": own.number, "since": moment(time), "reason": reason or ""}
            connection.execute(sa.insert(_HOLDERS).values(holder))
        _keep(connection, own, name, head, _first(connection, own), time)
    except LedgerError as error:
        hint = f" {NEW_LEDGER}." if isinstance(error, LedgerRolledBackError) else ""
        raise WrongPartyError(f"{error}.{hint} Nothing was changed.") from None


def see(
    connection: sa.Connection, name: str, head: Head, asked: Mapping[str, MemberLedger], time: datetime
) -> LedgerError | None:
    """Keep the head that came with a member's update, or return why it does not count.

    `asked` is what was in force when the member was asked.
    """
    own, before = in_force(connection).get(name), asked.get(name)
    if own is None:
        return LedgerRolledBackError(f"no ledger of {name!r} is enrolled")
    floor = before.last if before is not None and before.number == own.number else own.last
    try:
        _keep(connection, own, name, head, floor, time)
    except LedgerError as error:
        return type(error)(f"{error}. {NEW_LEDGER}")
    return None


def _keep(
    connection: sa.Connection, own: MemberLedger, name: str, head: Head, floor: Head, time: datetime
) -> None:
    """Write `head` down: as one that counts, or as proof if it contradicts `floor` or what is known of its entry."""
    same = (_HEADS.c.ledger == own.number) & (_HEADS.c.seq == head.seq) & ~_HEADS.c.refused
    twin, _ = _heads(connection, same).get(own.number, (floor, ""))
    try:
        for known in (floor, twin):
            _known({name: replace(own, last=known)}).judge(name, head)
    except LedgerError:
        if head.of_ledger(own.last):
            _insert(connection, own.number, head, time, refused=True)
        raise
    _insert(connection, own.number, head, time, refused=False)


def _known(held: Mapping[str, MemberLedger]) -> Heads:
    heads = Heads()
    for name, ledger in held.items():
        heads.take(name, ledger.last)
        if ledger.refused is not None:
            heads.contradict(name, ledger.refused, f"on {ledger.went_back}")
    return heads


def _continues(own: MemberLedger, name: str, head: Head) -> bool:
    try:
        _known({name: own}).judge(name, head)
    except LedgerError:
        return False
    return True


def _first(connection: sa.Connection, own: MemberLedger) -> Head:
    """Return the oldest head of a ledger: a request may be older than the last one."""
    mine = (_HEADS.c.ledger == own.number) & ~_HEADS.c.refused
    oldest = sa.select(sa.func.min(_HEADS.c.seq)).where(mine).scalar_subquery()
    return _heads(connection, mine & (_HEADS.c.seq == oldest))[own.number][0]


def _found(connection: sa.Connection, head: Head, time: datetime) -> MemberLedger:
    """Write a ledger down that is new here."""
    keys = {"population": head.population, "public_key": head.public_key}
    made = connection.execute(sa.insert(_LEDGERS).values(keys))
    number = int(made.inserted_primary_key[0])  # type: ignore[index]
    _insert(connection, number, head, time, refused=False)
    return MemberLedger(number, head)


def _insert(connection: sa.Connection, number: int, head: Head, time: datetime, *, refused: bool) -> None:
    row = {"ledger": number, "seq": head.seq, "hash": head.hash, "signature": head.signature}
    row |= {"refused": refused, "time": moment(time)}
    connection.execute(sa.insert(_HEADS).prefix_with("OR IGNORE").values(row))
