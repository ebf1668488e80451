"""A platform's databases by SQLAlchemy URL or SQLite file; messages never show a password."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from clients.errors import StoreError
from privacy.errors import LedgerUnreadableError
from privacy.ledger import location
from privacy.ledger.location import shown, without_secrets

BUSY_SECONDS = 30
_CONNECT_SECONDS = 15


def database_url(where: str | Path) -> sa.URL:
    """Return the URL of a database, or of a SQLite file; raise StoreError, which does not repeat it."""
    try:
        return location.database_url(where)
    except LedgerUnreadableError:
        raise StoreError(
            "a database URL cannot be read: expected dialect+driver://user@host/database, such as "
            "postgresql+psycopg://shop@db/shop or mariadb+pymysql://shop@db/shop, an @ in a name or password as %40."
        ) from None


def open_engine(where: str | Path, *, ours: bool) -> sa.Engine:
    """Return an engine whose connections are tried before use.

    ours : the database is fedcart's own, so SQLite is set up here: commits outlive a power cut, and what is deleted
    is overwritten. A platform's own database stays as it is set up. Raises StoreError for a URL or driver that
    cannot be used; nothing is connected yet.
    """
    url = database_url(where)
    patience: dict[str, Any] = {"connect_timeout": _CONNECT_SECONDS}
    if url.get_backend_name() == "sqlite":
        patience = {"timeout": BUSY_SECONDS}
    try:
        engine = sa.create_engine(url, pool_pre_ping=True, connect_args=patience)
    except (SQLAlchemyError, ImportError, TypeError, ValueError) as error:
        raise StoreError(
            f"database {shown(url)} cannot be used: {without_secrets(str(error), url)}. Check the URL and its "
            "driver: fedcart[postgresql] or fedcart[mysql]."
        ) from None
    if ours and url.get_backend_name() == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # WAL: every commit is on the disk
    connection.execute("PRAGMA secure_delete = ON")  # an erased shopper's bytes are overwritten


@contextlib.contextmanager
def database_errors(engine: sa.Engine) -> Iterator[None]:
    """Turn a driver's error into StoreError without secrets or parameters.

    A database's own words may quote a value: they are for who runs a command, not for a log.
    """
    try:
        yield
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        reason = without_secrets(str(cause), engine.url)[:300]
        raise StoreError(f"database {shown(engine.url)}: {reason}") from None
