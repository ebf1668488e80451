"""The tables of the ledger in SQLite, PostgreSQL and MariaDB or MySQL: append-only, locked, durable.

Several populations may share one database; ``population`` is in every key. Entries can only be added at the
end: triggers refuse update, delete and (PostgreSQL) truncate. One row of ``ledger_heads`` per population
points to the last entry and is the lock that serialises writers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from privacy.errors import LedgerMismatchError, LedgerUnreadableError
from privacy.ledger.entry import Row
from privacy.ledger.triggers import install_triggers, missing_triggers

SCHEMA_VERSION = 1
_BUSY_SECONDS = 60

_metadata = sa.MetaData()
_MYSQL = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}
META = sa.Table(
    "ledger_meta",
    _metadata,
    sa.Column("population", sa.String(100), primary_key=True),
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("public_key", sa.String(64), nullable=False),
    **_MYSQL,
)
ENTRIES = sa.Table(
    "ledger_entries",
    _metadata,
    sa.Column("population", sa.String(100), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Column("signature", sa.String(128), nullable=False),
    **_MYSQL,
)
HEADS = sa.Table(
    "ledger_heads",
    _metadata,
    sa.Column("population", sa.String(100), primary_key=True),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    **_MYSQL,
)


def _engine(url_or_path: str | Path) -> sa.Engine:
    if isinstance(url_or_path, Path) or "://" not in url_or_path:
        url = sa.URL.create("sqlite", database=str(url_or_path))
    else:
        url = sa.make_url(url_or_path)
    try:
        if url.get_backend_name() == "sqlite":
            engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"timeout": _BUSY_SECONDS})
            sa.event.listen(engine, "connect", _prepare_sqlite)
            return engine
        return sa.create_engine(url, poolclass=sa.NullPool, isolation_level="READ COMMITTED")
    except (SQLAlchemyError, ImportError) as error:
        raise LedgerUnreadableError(
            f"database {url.render_as_string()} cannot be used: {error}: check the URL and the driver"
        ) from error


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions are begun explicitly, below
    connection.execute(
        "PRAGMA synchronous = EXTRA"
    )  # FULL, and the directory too: a commit outlives power loss
    connection.execute("PRAGMA recursive_triggers = ON")  # REPLACE must not slip past the delete trigger


class Store:
    """Rows in, rows out; knows nothing of budgets. Every database error becomes LedgerUnreadableError."""

    def __init__(self, url_or_path: str | Path, population: str) -> None:
        self._engine = _engine(url_or_path)
        self._sqlite = self._engine.dialect.name == "sqlite"
        self.population = population
        self.path = Path(str(self._engine.url.database)) if self._sqlite else None
        self.name = self._engine.url.render_as_string()

    @contextmanager
    def _connection(self, begin: str) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                if self._sqlite:
                    connection.exec_driver_sql(begin)
                yield connection
                connection.commit()
        except IntegrityError as error:
            raise LedgerUnreadableError(
                f"ledger {self.name} refused a write ({error.orig}): another process wrote at the same time, or "
                "the tables were changed; verify the ledger"
            ) from error
        except (DBAPIError, SQLAlchemyError, OSError) as error:
            cause = getattr(error, "orig", None) or error
            raise LedgerUnreadableError(
                f"ledger {self.name} cannot be used ({type(cause).__name__}: {cause}): check the file, the disk "
                "and the server; nothing may be released without it"
            ) from error

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """One atomic, durable transaction that excludes every other writer of this population."""
        self.require()
        with self._connection("BEGIN IMMEDIATE") as connection:
            yield Transaction(connection, self.population, lock=not self._sqlite)

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """A consistent view."""
        self.require()
        with self._connection("BEGIN") as connection:
            if self._engine.dialect.name == "postgresql":
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield Transaction(connection, self.population, lock=False)

    def require(self) -> None:
        """Raise LedgerUnreadableError when the SQLite file is not there: it is never made by opening it."""
        if self.path is not None and not self.path.is_file():
            raise LedgerUnreadableError(
                f"ledger {self.path} does not exist: restore it from backup, or create one for a population "
                "about which nothing has ever been released"
            )

    @contextmanager
    def creating(self) -> Iterator[Transaction]:
        """Like ``writing``, in a database that may not have the tables yet."""
        if self.path is not None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.touch(mode=0o600)
            except OSError as error:
                raise LedgerUnreadableError(
                    f"ledger {self.path} cannot be created: {error.strerror}"
                ) from error
        with self._connection("BEGIN IMMEDIATE") as connection:
            _metadata.create_all(connection)
            install_triggers(connection)
            transaction = Transaction(connection, self.population, lock=False)
            if transaction.meta() is not None:
                raise LedgerMismatchError(
                    f"ledger {self.name} already holds population {self.population!r}: open it; a budget is "
                    "never started afresh"
                )
            yield transaction


class Transaction:
    """What can be read and written inside one transaction."""

    def __init__(self, connection: sa.Connection, population: str, *, lock: bool) -> None:
        self._connection = connection
        self._population = population
        if lock:
            self.head(lock=True)

    def meta(self) -> tuple[int, str] | None:
        """(schema version, public key in hex), or None when the population is unknown here."""
        query = sa.select(META.c.schema_version, META.c.public_key).where(
            META.c.population == self._population
        )
        row = self._connection.execute(query).one_or_none()
        return None if row is None else (int(row[0]), str(row[1]))

    def populations(self) -> list[str]:
        """Every population in this database."""
        return [str(p) for p in self._connection.execute(sa.select(META.c.population)).scalars()]

    def head(self, *, lock: bool = False) -> tuple[int, str] | None:
        """(seq, hash) of the last entry."""
        query = sa.select(HEADS.c.seq, HEADS.c.hash).where(HEADS.c.population == self._population)
        row = self._connection.execute(query.with_for_update() if lock else query).one_or_none()
        return None if row is None else (int(row[0]), str(row[1]))

    def count(self) -> int:
        """How many entries there are."""
        query = sa.select(sa.func.count()).where(ENTRIES.c.population == self._population)
        return int(self._connection.execute(query.select_from(ENTRIES)).scalar_one())

    def rows(self, start: int = 0) -> Sequence[Row]:
        """Entries from position ``start`` on, in order."""
        query = (
            sa.select(ENTRIES.c.seq, ENTRIES.c.document, ENTRIES.c.hash, ENTRIES.c.signature)
            .where(ENTRIES.c.population == self._population, ENTRIES.c.seq >= start)
            .order_by(ENTRIES.c.seq)
        )
        return [Row(int(r[0]), str(r[1]), str(r[2]), str(r[3])) for r in self._connection.execute(query)]

    def missing_triggers(self) -> list[str]:
        """Names of the append-only triggers that are not there."""
        return missing_triggers(self._connection)

    def begin_ledger(self, public_key: str) -> None:
        """Write the meta row of a new ledger."""
        values = {"population": self._population, "schema_version": SCHEMA_VERSION, "public_key": public_key}
        self._connection.execute(sa.insert(META).values(**values))

    def append(self, row: Row) -> None:
        """Add the entry and move the head to it."""
        values = {"document": row.document, "hash": row.hash, "signature": row.signature}
        self._connection.execute(
            sa.insert(ENTRIES).values(population=self._population, seq=row.seq, **values)
        )
        if row.seq == 0:
            self._connection.execute(
                sa.insert(HEADS).values(population=self._population, seq=0, hash=row.hash)
            )
            return
        moved = self._connection.execute(
            sa.update(HEADS)
            .where(HEADS.c.population == self._population, HEADS.c.seq == row.seq - 1)
            .values(seq=row.seq, hash=row.hash)
        )
        if moved.rowcount != 1:
            raise LedgerUnreadableError(
                f"ledger of {self._population!r}: the head is not at entry {row.seq - 1}: another process wrote "
                "at the same time; try again"
            )
