"""Where a ledger is: a SQLite file or a database URL, and how to name it without its password."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, quote_plus

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from privacy.errors import LedgerUnreadableError

_CREDENTIALS = re.compile(r":[^:@/]*@")
_SECRET = re.compile(r"pass|pwd|secret|token", re.IGNORECASE)


def database_url(where: str | Path) -> sa.URL:
    """The URL of a database, or of a SQLite file that is given as a path.

    Raises:
        LedgerUnreadableError: it is no database URL; its text may hold a password, so it is not repeated.
    """
    if isinstance(where, Path) or "://" not in where:
        return sa.URL.create("sqlite", database=str(where))
    try:
        url = sa.make_url(where)
        url.get_backend_name()
    except (SQLAlchemyError, ValueError):
        raise LedgerUnreadableError(
            "the ledger's database URL cannot be read: expected dialect+driver://user@host/database"
        ) from None
    if url.host is not None and "@" in url.host:
        raise LedgerUnreadableError(
            "the ledger's database URL has more than one @: write an @ in a user name or password as %40"
        )
    return url


def shown(where: str | Path | sa.URL) -> str:
    """The place for people: a path, or a URL without its password and options.

    >>> shown("mariadb+pymysql://shop:hunter2@db/ledger?read_default_file=x")
    'mariadb+pymysql://shop:***@db/ledger'
    >>> shown("postgresql:shop:hunter2@db/ledger")
    'postgresql:shop:***@db/ledger'
    """
    if isinstance(where, sa.URL):
        return where.set(query={}).render_as_string()
    if isinstance(where, str) and "://" in where:
        return shown(database_url(where))
    return _CREDENTIALS.sub(":***@", str(where))


def without_secrets(text: str, url: sa.URL) -> str:
    """A driver's message on one line, with whatever is secret in the URL struck out."""
    secrets = [str(url.password)] if url.password else []
    for name, values in url.normalized_query.items():
        secrets += values if _SECRET.search(name) else ()
    for secret in filter(None, secrets):
        for form in {secret, quote(secret, safe=""), quote_plus(secret)}:
            text = text.replace(form, "***")
    return " ".join(text.split())
