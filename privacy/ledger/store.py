"""The tables of the ledger in SQLite, PostgreSQL and MariaDB or MySQL: append-only, locked, durable.

Several populations may share one database; ``population`` is in every key. Entries can only be added at the
end: triggers refuse update, delete and (PostgreSQL) truncate. One row of ``ledger_heads`` per population
points to the last entry and is the lock that serialises writers (SQLite locks the whole file).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from privacy.errors import LedgerMismatchError, LedgerTamperedError, LedgerUnreadableError
from privacy.ledger.entry import Row
from privacy.ledger.journal import undo_unfinished_write
from privacy.ledger.location import database_url, shown, without_secrets
from privacy.ledger.triggers import install_triggers, missing_triggers

SCHEMA_VERSION = 2
_BUSY_SECONDS = 60
_CONNECT_SECONDS = 15
_WAITS_FOR_EVER = ("postgresql+psycopg", "postgresql+psycopg2", "postgresql")

_metadata = sa.MetaData()
_INNODB: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    # transactions; and names that differ by case or accent differ
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}
META = sa.Table(
    "ledger_meta",
    _metadata,
    sa.Column("population", sa.String(100), primary_key=True),
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("public_key", sa.String(64), nullable=False),
    **_INNODB,
)
ENTRIES = sa.Table(
    "ledger_entries",
    _metadata,
    sa.Column("population", sa.String(100), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Column("signature", sa.String(128), nullable=False),
    **_INNODB,
)
HEADS = sa.Table(
    "ledger_heads",
    _metadata,
    sa.Column("population", sa.String(100), primary_key=True),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    **_INNODB,
)
_READ, _WRITE = "read", "write"
_BEGIN = {
    ("sqlite", _READ): ["BEGIN"],
    ("sqlite", _WRITE): ["BEGIN IMMEDIATE"],
    ("postgresql", _READ): ["SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"],
    # READ COMMITTED sees what it had to wait for; durability may have been relaxed for the whole server
    ("postgresql", _WRITE): [
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SET LOCAL synchronous_commit = on",
    ],
    ("mysql", _READ): ["SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"],
    ("mysql", _WRITE): ["SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"],
}
_SCHEMA_LOCK = {
    "postgresql": "SELECT pg_advisory_xact_lock(7205759403792793)",
    "mysql": f"SELECT GET_LOCK('fedcart_ledger_schema', {_BUSY_SECONDS})",
}


@lru_cache(maxsize=64)
def _engine(where: str | Path) -> sa.Engine:
    """An engine that keeps no connection, only its compiled statements; so it can be shared freely."""
    url = database_url(where)
    patience: dict[str, Any] = {}
    if url.drivername in _WAITS_FOR_EVER and "connect_timeout" not in url.query:
        patience = {"connect_timeout": _CONNECT_SECONDS}
    try:
        if url.get_backend_name() == "sqlite":
            engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"timeout": _BUSY_SECONDS})
            sa.event.listen(engine, "connect", _prepare_sqlite)
            return engine
        return sa.create_engine(url, poolclass=sa.NullPool, connect_args=patience)
    except (SQLAlchemyError, ImportError, TypeError, ValueError) as error:
        raise LedgerUnreadableError(
            f"database {shown(url)} cannot be used: {without_secrets(str(error), url)}: check the URL and the "
            "driver"
        ) from None


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions are begun explicitly, below
    # FULL, and the directory after the journal is gone too: a commit outlives a power cut.
    connection.execute("PRAGMA synchronous = EXTRA")
    # INSERT OR REPLACE must not slip past the delete trigger.
    connection.execute("PRAGMA recursive_triggers = ON")


class Store:
    """Rows in, rows out; knows nothing of budgets. Every database error becomes LedgerUnreadableError."""

    def __init__(self, url_or_path: str | Path, population: str) -> None:
        self._engine = _engine(url_or_path)
        name = self._engine.dialect.name
        self._dialect = "mysql" if name == "mariadb" else name
        self.population = population
        self.path = Path(str(self._engine.url.database)) if name == "sqlite" else None
        self.name = shown(self._engine.url)

    def _unusable(self, error: Exception) -> LedgerUnreadableError:
        cause = getattr(error, "orig", None) or error
        said = without_secrets(f"{type(cause).__name__}: {cause}", self._engine.url)
        return LedgerUnreadableError(
            f"ledger {self.name} cannot be used ({said}): check file, disk, the server and its load; nothing may "
            "be released without the ledger"
        )

    @contextmanager
    def _connection(self, mode: str) -> Iterator[sa.Connection]:
        try:
            opened = self._engine.connect()
        except (SQLAlchemyError, OSError, TypeError, ValueError) as error:  # the latter: options of the URL
            raise self._unusable(error) from None
        try:
            with opened as connection:
                for statement in _BEGIN.get((self._dialect, mode), []):
                    connection.exec_driver_sql(statement)
                yield connection
                connection.commit()
        except (SQLAlchemyError, OSError) as error:
            raise self._unusable(error) from None

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """One atomic, durable transaction that excludes every other writer of this population."""
        self.require()
        with self._connection(_WRITE) as connection:
            transaction = Transaction(connection, self.population)
            if self.path is None:
                transaction.head(lock=True)
            yield transaction

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """A consistent view."""
        self.require()
        with self._connection(_READ) as connection:
            yield Transaction(connection, self.population)

    def recover(self) -> str | None:
        """Let an unfinished write be undone, and say so; None where there was none, or a server does it unseen."""
        return undo_unfinished_write(self.path) if self.path is not None else None

    def require(self) -> None:
        """Raise LedgerUnreadableError when the SQLite file is not there: opening never makes one."""
        if self.path is None:
            return
        try:
            there = self.path.is_file()
        except OSError as error:
            raise LedgerUnreadableError(
                f"ledger {shown(self.path)} cannot be looked for: {error.strerror}"
            ) from None
        if not there:
            raise LedgerUnreadableError(
                f"ledger {shown(self.path)} does not exist: restore it from backup, or create one for a population "
                "about which nothing has ever been released"
            )

    @contextmanager
    def creating(self) -> Iterator[Transaction]:
        """Like ``writing``, in a database that may not have the tables yet.

        Raises:
            LedgerMismatchError: the population has a ledger there already.
        """
        if self.path is not None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.touch(mode=0o600)
            except OSError as error:
                raise LedgerUnreadableError(
                    f"ledger {shown(self.path)} cannot be made: {error.strerror}"
                ) from error
        with self._connection(_WRITE) as connection:
            if self._dialect in _SCHEMA_LOCK:  # several platforms may set up one server at the same time
                connection.exec_driver_sql(_SCHEMA_LOCK[self._dialect])
            _metadata.create_all(connection)
            install_triggers(connection)
            transaction = Transaction(connection, self.population)
            if transaction.meta() is not None:
                raise LedgerMismatchError(
                    f"ledger {self.name} already holds population {self.population!r}: open it; a budget is "
                    "never started afresh"
                )
            yield transaction


def _whole(value: Any) -> int:
    """An integer column's value; SQLite lets an editor put anything there."""
    if type(value) is not int:
        raise LedgerTamperedError(f"the ledger's tables hold {value!r} where a whole number belongs")
    return value


class Transaction:
    """What can be read and written inside one transaction."""

    def __init__(self, connection: sa.Connection, population: str) -> None:
        self._connection, self._population = connection, population

    def meta(self) -> tuple[int, str] | None:
        """(schema version, public key in hex), or None when the population is unknown here."""
        query = sa.select(META.c.schema_version, META.c.public_key)
        row = self._connection.execute(query.where(META.c.population == self._population)).one_or_none()
        return None if row is None else (_whole(row[0]), str(row[1]))

    def populations(self) -> list[str]:
        """Every population in this database."""
        return [str(p) for p in self._connection.execute(sa.select(META.c.population)).scalars()]

    def head(self, *, lock: bool = False) -> tuple[int, str] | None:
        """(seq, hash) of the last entry; ``lock`` keeps every other writer out until the transaction ends."""
        query = sa.select(HEADS.c.seq, HEADS.c.hash).where(HEADS.c.population == self._population)
        row = self._connection.execute(query.with_for_update() if lock else query).one_or_none()
        return None if row is None else (_whole(row[0]), str(row[1]))

    def count(self) -> int:
        """How many entries there are."""
        query = sa.select(sa.func.count()).select_from(ENTRIES)
        return int(
            self._connection.execute(query.where(ENTRIES.c.population == self._population)).scalar_one()
        )

    def rows(self, start: int = 0) -> Sequence[Row]:
        """Entries from position ``start`` on, in order."""
        query = (
            sa.select(ENTRIES.c.seq, ENTRIES.c.document, ENTRIES.c.hash, ENTRIES.c.signature)
            .where(ENTRIES.c.population == self._population, ENTRIES.c.seq >= start)
            .order_by(ENTRIES.c.seq)
        )
        return [Row(_whole(r[0]), str(r[1]), str(r[2]), str(r[3])) for r in self._connection.execute(query)]

    def weaknesses(self) -> list[str]:
        """What leaves the record intact but less protected: missing triggers, lax durability.

        Raises:
            LedgerUnreadableError: SQLite finds the file damaged.
        """
        found = []
        missing, dialect = missing_triggers(self._connection), self._connection.dialect.name
        if missing:
            unseen = (
                " (or hidden: seeing them takes the TRIGGER privilege)"
                if dialect in ("mysql", "mariadb")
                else ""
            )
            names = ", ".join(missing)
            found.append(f"the database no longer refuses changes itself: {names} missing{unseen}")
        if dialect == "sqlite":
            damage = self._connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one()
            if damage != "ok":
                raise LedgerUnreadableError(
                    f"the ledger's file is damaged ({damage}): restore it from backup"
                )
        elif dialect in ("mysql", "mariadb"):
            query = "SELECT @@innodb_flush_log_at_trx_commit"
            if str(self._connection.exec_driver_sql(query).scalar_one()) != "1":
                found.append("innodb_flush_log_at_trx_commit is not 1: a power cut may lose the last entries")
        return found

    def begin_ledger(self, public_key: str) -> None:
        """Write the meta row of a new ledger."""
        values = {"population": self._population, "schema_version": SCHEMA_VERSION, "public_key": public_key}
        self._connection.execute(sa.insert(META).values(**values))

    def append(self, row: Row) -> None:
        """Add the entry and move the head to it.

        Raises:
            LedgerTamperedError: the head is not at the entry before.
        """
        values = {"document": row.document, "hash": row.hash, "signature": row.signature}
        where = {"population": self._population}
        self._connection.execute(sa.insert(ENTRIES).values(seq=row.seq, **where, **values))
        if row.seq == 0:
            self._connection.execute(sa.insert(HEADS).values(seq=0, hash=row.hash, **where))
            return
        here = (HEADS.c.population == self._population) & (HEADS.c.seq == row.seq - 1)
        moved = self._connection.execute(sa.update(HEADS).where(here).values(seq=row.seq, hash=row.hash))
        if moved.rowcount != 1:
            raise LedgerTamperedError(
                f"ledger of {self._population!r}: the head is not at entry {row.seq - 1}: written to "
                "without the lock; verify it"
            )
