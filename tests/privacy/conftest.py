"""Databases for tests of the ledger: SQLite always, PostgreSQL and MariaDB when they can be reached."""

from __future__ import annotations

import uuid

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


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
