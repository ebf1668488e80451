"""Databases for tests of the ledger: SQLite always, PostgreSQL and MariaDB when they can be reached.

``FEDCART_TEST_POSTGRESQL`` and ``FEDCART_TEST_MARIADB`` name servers (SQLAlchemy URLs of an administrator's
database); the defaults are local ones. Each session works in a database of its own and drops it afterwards.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SERVERS = {
    "postgresql": os.environ.get("FEDCART_TEST_POSTGRESQL", "postgresql+psycopg://root@127.0.0.1:5432/test"),
    "mariadb": os.environ.get("FEDCART_TEST_MARIADB", "mariadb+pymysql://root@127.0.0.1:3306/test"),
}


def _own_database(server: str) -> Iterator[str]:
    url = sa.make_url(SERVERS[server])
    name = f"fedcart_test_{uuid.uuid4().hex[:12]}"
    try:
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        pytest.skip(f"{server} cannot be used at {url.render_as_string()}: {type(error).__name__}")
    yield url.set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name}{' WITH (FORCE)' if server == 'postgresql' else ''}")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    yield from _own_database("postgresql")


@pytest.fixture(scope="session")
def mariadb() -> Iterator[str]:
    yield from _own_database("mariadb")


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database(request, tmp_path) -> str:
    """A URL of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def population() -> str:
    """A name that no other test uses: servers are shared between tests."""
    return f"shop-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()
