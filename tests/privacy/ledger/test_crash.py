"""kill -9, a full disk, a failed commit: what was granted is recorded, what was not granted was not spent."""

from __future__ import annotations

import resource
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from cryptography.hazmat.primitives import serialization
from sqlalchemy.exc import OperationalError

from privacy.accounting import epsilon
from privacy.errors import KeyReusedError, LedgerUnreadableError
from privacy.events import PoissonGaussian
from privacy.ledger import Ledger, Status
from privacy.ledger.store import Transaction

EVENT = PoissonGaussian(0.05, 1.0, 10)
DELTA = 1e-6

PRELUDE = """
import os, signal, sys
import sqlalchemy as sa
from cryptography.hazmat.primitives import serialization
from privacy.events import PoissonGaussian
from privacy.ledger import Ledger
from privacy.ledger.store import Transaction

url, population, pem, point = sys.argv[1:]
key = serialization.load_pem_private_key(pem.encode(), None)
ledger = Ledger.open(url, population=population, key=key)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def reserve(key):
    return ledger.reserve(
        PoissonGaussian(0.05, 1.0, 10), run="r", purpose="update", key=key,
        model_fingerprint="m", code_version="1",
    )
"""

DIE_AT = (
    PRELUDE
    + """
held = reserve("before")
append, commit = Transaction.append, sa.Connection.commit
if point in ("before-append", "after-append"):
    def patched(self, row):
        if point == "before-append":
            die()
        append(self, row)
        die()
    Transaction.append = patched
if point == "after-commit":
    def patched(self):
        commit(self)
        die()
    sa.Connection.commit = patched
if point == "settle":
    def patched(self, row):
        append(self, row)
        die()
    Transaction.append = patched
    ledger.settle(held, "ab" * 32)
reserve("lost")
"""
)

LOOP = (
    PRELUDE
    + """
ledger.change_cap(100.0, "room for the test")
for i in range(10_000):
    held = reserve(f"{point}/{i}")
    print(held.key, flush=True)      # from here on training may run
    ledger.settle(held, "ab" * 32)
"""
)


def run(script, *arguments):
    return subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def pem(key):
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return text.decode()


CHARGED = {"before-append": 1, "after-append": 1, "after-commit": 2, "settle": 1}


@pytest.mark.parametrize("point", ["after-append", "after-commit"])
def test_killed_at_a_point_the_ledger_is_whole(database, population, key, pem, point):
    kill_at(point, database, population, key, pem)


@pytest.mark.parametrize("point", ["before-append", "settle"])
def test_killed_elsewhere_the_file_is_whole(tmp_path, key, pem, point):
    """To a server these points are the same as after-append: the connection is gone."""
    kill_at(point, f"sqlite:///{tmp_path / 'l'}", "shop", key, pem)


def kill_at(point, database, population, key, pem):
    Ledger.create(database, population=population, epsilon_cap=4.0, delta=DELTA, key=key)
    process = run(DIE_AT, database, population, pem, point)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    ledger = Ledger.open(database, population=population, key=key)
    assert ledger.verify().ok
    assert ledger.budget().committed == epsilon([EVENT] * CHARGED[point], DELTA)
    assert ledger.reservation("before").status is Status.OPEN
    assert (ledger.reservation("lost") is not None) == (point == "after-commit")


def test_killed_anywhere_nothing_granted_is_forgotten(tmp_path, key, pem):
    """A real kill -9 at moments that nobody chose; each time the survivors' word is compared."""
    url = f"sqlite:///{tmp_path / 'l'}"
    Ledger.create(url, population="shop", epsilon_cap=100.0, delta=DELTA, key=key)
    for attempt, wait in enumerate((0.0, 0.03, 0.11)):
        process = run(LOOP, url, "shop", pem, str(attempt))
        granted = [process.stdout.readline().strip()]
        time.sleep(wait)
        process.kill()
        granted += process.communicate()[0].split()
        ledger = Ledger.open(url, population="shop", key=key)
        assert granted[0]
        assert all(ledger.reservation(name) is not None for name in granted)
        open_ones = [r for r in map(ledger.reservation, granted) if r.status is Status.OPEN]
        assert len(open_ones) <= 1
        assert ledger.verify().ok


def test_a_full_disk_refuses_and_loses_nothing(tmp_path, reserve):
    path = tmp_path / "l"
    ledger = Ledger.create(path, population="shop", epsilon_cap=4.0, delta=DELTA)
    reserve(ledger, "r/1")
    before = ledger.head()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, limit[1]))
        with pytest.raises(LedgerUnreadableError) as refusal:
            list(map(ledger.note, ["x" * 1900] * 100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    assert refusal.value.exit_code == 4
    assert ledger.verify(witness=[before]).ok
    assert Ledger.open(path, population="shop").budget().committed == epsilon([EVENT], DELTA)
    reserve(ledger, "r/2")


@pytest.mark.parametrize("when", ["insert", "commit"])
def test_a_failed_write_reserves_nothing(ledger, reserve, monkeypatch, when):
    def fail(*_):
        raise OperationalError("x", {}, sqlite3.OperationalError("database or disk is full"))

    with monkeypatch.context() as patch:
        patch.setattr(
            *((Transaction, "append") if when == "insert" else ("sqlalchemy.Connection.commit",)), fail
        )
        with pytest.raises(LedgerUnreadableError, match="disk is full"):
            reserve(ledger, "r/1")
    assert ledger.reservation("r/1") is None
    assert ledger.budget().committed == 0.0
    reserve(ledger, "r/1")
    assert ledger.verify().ok


def test_a_commit_that_happened_although_it_reported_failure_counts(ledger, reserve, monkeypatch):
    """The doubtful case: the caller saw an error, the entry is durable. It counts, and nobody holds it."""
    from sqlalchemy import Connection

    commit = Connection.commit

    def commit_then_fail(self):
        commit(self)
        raise OperationalError("COMMIT", {}, sqlite3.OperationalError("connection lost"))

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "commit", commit_then_fail)
        with pytest.raises(LedgerUnreadableError):
            reserve(ledger, "r/1")
    assert ledger.budget().committed == epsilon([EVENT], DELTA)
    with pytest.raises(KeyReusedError, match="open"):
        reserve(ledger, "r/1")
    assert ledger.verify().ok
