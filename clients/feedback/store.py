"""The feedback store: durable before it is acknowledged, and idempotent by event id.

SQLite by default, PostgreSQL or MariaDB by URL. One batch is one transaction: it is taken whole or not at all,
and `record` returns after the commit. Whoever did not get an answer sends the batch again.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, OperationalError

from clients.data.ids import one_spelling, real_ids
from clients.database import database_errors, open_engine
from clients.errors import StoreError
from clients.feedback.events import ADDED_BY, FeedbackEvent, Impression, Interaction
from clients.feedback.tables import IMPRESSIONS, INTERACTIONS, metadata

_TABLES = (IMPRESSIONS, INTERACTIONS)
_AT_ONCE = 500  # ids in one SELECT … IN
_ATTEMPTS = 10
_Event = TypeVar("_Event", Impression, Interaction)


@dataclass(frozen=True)
class Recorded:
    """What became of a batch: `accepted` are new and stored, `duplicates` were there before (or twice in it)."""

    accepted: int
    duplicates: int


class FeedbackStore:
    """Open (and make, where absent) a store in a SQLite file or a database. Thread-safe; several processes may.

    Raises StoreError where it cannot be opened. `clock` says when an event was recorded, in unix seconds.
    """

    def __init__(self, where: str | Path, clock: Callable[[], float] = time.time) -> None:
        self.engine = open_engine(where, ours=True)
        self._clock = clock
        self._turn = threading.Lock()
        with database_errors(self.engine):
            self._make_tables()

    def record(self, batch: Sequence[FeedbackEvent]) -> Recorded:
        """Store a batch. On return every event of it is durable; the first of an id stays as it was.

        Raises StoreError if it could not be stored: then nothing of the batch was.
        """
        impressions = {e.event_id: e for e in reversed(batch) if isinstance(e, Impression)}
        interactions = {e.event_id: e for e in reversed(batch) if isinstance(e, Interaction)}
        with self._turn, database_errors(self.engine):
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    return self._store(len(batch), impressions, interactions)
                except (IntegrityError, OperationalError):
                    # another process stored the same id meanwhile, or won a deadlock: look again
                    if attempt == _ATTEMPTS:
                        raise
                    time.sleep(0.01 * attempt)
        raise AssertionError("unreachable")

    def erase(self, shopper: str, sessions: Iterable[str] = ()) -> int:
        """Delete every row of a shopper ("": of none), and of sessions that are theirs; return how many rows.

        Raises StoreError, also where a reader of SQLite keeps the journal, and the rows in it, from being emptied.
        """
        shopper, theirs = one_spelling(shopper), real_ids(sessions)
        with self._turn, database_errors(self.engine), self._transaction() as connection:
            rows = 0
            for table in _TABLES:
                whose = ((table.c.shopper == shopper) & (table.c.shopper != "")) | table.c.session.in_(theirs)
                rows += connection.execute(sa.delete(table).where(whose)).rowcount
        if self.engine.dialect.name == "sqlite":
            with database_errors(self.engine), self.engine.connect() as connection:
                busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar_one()
            if busy:  # whoever reads needs the journal, which still holds the rows
                raise StoreError(
                    f"{self.engine.url.database}: the rows are deleted, but somebody reads the database, so its journal "
                    "still holds them. Run it again when that is done."
                )
        return rows

    def holds(self, shopper: str) -> bool:
        """Whether there are rows of a shopper; raise StoreError."""
        return self._any("shopper", shopper)

    def holds_session(self, session: str) -> bool:
        """Whether there are rows of a session; raise StoreError."""
        return self._any("session", session)

    def shoppers(self) -> list[str]:
        """Return all shoppers of whom there are rows; raise StoreError."""
        found = sa.union(*(sa.select(table.c.shopper) for table in _TABLES))
        with database_errors(self.engine), self.engine.connect() as connection:
            return [name for name in connection.execute(found).scalars() if name]

    def _any(self, column: str, name: str) -> bool:
        name = one_spelling(name)
        asked = [sa.exists().where(table.c[column] == name, table.c[column] != "") for table in _TABLES]
        with database_errors(self.engine), self.engine.connect() as connection:
            return bool(connection.execute(sa.select(sa.or_(*asked))).scalar_one())

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()

    def _make_tables(self) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                metadata.create_all(self.engine)
                return
            except (IntegrityError, OperationalError, sa.exc.ProgrammingError):
                if attempt == _ATTEMPTS:  # others may have been making the same tables
                    raise
                time.sleep(0.02 * attempt)

    def _store(
        self, sent: int, impressions: dict[str, Impression], interactions: dict[str, Interaction]
    ) -> Recorded:
        now = self._clock()
        with self._transaction() as connection:
            shown = _new(connection, IMPRESSIONS, impressions)
            done = _new(connection, INTERACTIONS, interactions)
            if shown:
                connection.execute(sa.insert(IMPRESSIONS), [r for e in shown for r in _rows(e, now)])
            if done:
                connection.execute(sa.insert(INTERACTIONS), [_row(e, now) for e in done])
        return Recorded(len(shown) + len(done), sent - len(shown) - len(done))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with self.engine.connect() as connection:
            if self.engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # writers queue instead of failing at COMMIT
            elif self.engine.dialect.name == "postgresql":  # may have been relaxed for the whole server
                connection.exec_driver_sql("SET LOCAL synchronous_commit = on")
            yield connection
            connection.commit()


def _new(connection: sa.Connection, table: sa.Table, events: Mapping[str, _Event]) -> list[_Event]:
    """Return those events whose id is not stored yet, in the order in which they were sent."""
    ids = list(events)[::-1]
    known: set[str] = set()
    for start in range(0, len(ids), _AT_ONCE):
        asked = table.c.event_id.in_(ids[start : start + _AT_ONCE])
        known.update(connection.execute(sa.select(table.c.event_id).where(asked)).scalars())
    return [events[name] for name in ids if name not in known]


def _rows(event: Impression, now: float) -> Iterator[dict[str, Any]]:
    """Return one row for each item that was shown."""
    arms = [f"{event.arm}{ADDED_BY}{arm}" for arm in event.item_arms] or [event.arm] * len(event.items)
    for position, item in enumerate(event.items):
        yield {
            "event_id": event.event_id,
            "position": position,
            "item": item,
            "request_id": event.request_id,
            "shopper": event.shopper,
            "session": event.session,
            "model_version": event.model_version,
            "arm": arms[position],
            "time": event.time,
            "recorded": now,
        }


def _row(event: Interaction, now: float) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "item": event.item,
        "request_id": event.request_id,
        "shopper": event.shopper,
        "session": event.session,
        "kind": event.kind.value,
        "value": event.value,
        "time": event.time,
        "recorded": now,
    }
