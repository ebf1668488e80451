"""A write torn by a crash is undone on the next open, and the ledger says so."""

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest
from cryptography.hazmat.primitives import serialization

import fedcart
from privacy.accounting import epsilon
from privacy.events import PoissonGaussian
from privacy.ledger import Ledger, LedgerView, verify_ledger
from privacy.ledger.journal import undo_unfinished_write

EVENT = PoissonGaussian(0.05, 1.0, 10)
SAID = "a write that did not finish"

WRITER = """
import os, signal, sys
from cryptography.hazmat.primitives import serialization
from privacy.events import PoissonGaussian
from privacy.ledger import Ledger
from privacy.ledger.store import Transaction

url, pem, end = sys.argv[1:]
ledger = Ledger.open(url, population="shop", key=serialization.load_pem_private_key(pem.encode(), None))
append = Transaction.append

def torn(self, row):
    '''Write so much that SQLite has to overwrite the file before the commit.'''
    run = self._connection.exec_driver_sql
    run("PRAGMA cache_size = 1")
    run("PRAGMA cache_spill = 1")
    append(self, row)
    run("CREATE TABLE filler (x)")
    for _ in range(200):
        run("INSERT INTO filler VALUES (zeroblob(4000))")
    if end == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    print("inside", flush=True)
    sys.stdin.readline()

Transaction.append = torn
ledger.reserve(
    PoissonGaussian(0.05, 1.0, 10), run="r", purpose="update", key="torn", model_fingerprint="m", code_version="1",
)
"""


@pytest.fixture(scope="module")
def key_and_pem():
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return key, text.decode()


def write(path, pem, end):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, f"sqlite:///{path}", pem, end],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def crashed(tmp_path_factory, key_and_pem):
    """What a process leaves that died inside a transaction: a half overwritten file, and its journal."""
    key, pem = key_and_pem
    path = tmp_path_factory.mktemp("crashed") / "l"
    ledger = Ledger.create(path, population="shop", epsilon_cap=4.0, delta=1e-6, key=key)
    given = {"run": "r", "purpose": "update", "model_fingerprint": "m", "code_version": "1"}
    ledger.settle(ledger.reserve(EVENT, key="before", **given), "ab" * 32)
    process = write(path, pem, "die")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert path.with_name("l-journal").exists(), "the file was not torn: the test has no power"
    return path


@pytest.fixture
def torn(crashed, tmp_path):
    for suffix in ("", "-journal"):
        shutil.copy2(f"{crashed}{suffix}", tmp_path / f"l{suffix}")
    return tmp_path / "l"


def test_the_writer_is_told_once_and_goes_on(torn, key_and_pem, reserve, caplog):
    key, _ = key_and_pem
    ledger = Ledger.open(torn, population="shop", key=key)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("fedcart.ledger", "WARNING")
    assert SAID in record.getMessage()
    assert "none of them was ever granted" in record.getMessage()
    assert ledger.reservation("torn") is None
    assert ledger.budget().committed == epsilon([EVENT], 1e-6)
    reserve(ledger, "torn")
    assert ledger.verify().ok
    caplog.clear()
    Ledger.open(torn, population="shop", key=key)
    assert not caplog.records


def test_a_reader_is_told(torn):
    assert SAID in (LedgerView.open(torn, population="shop").recovered or "")
    assert LedgerView.open(torn, population="shop").recovered is None


def test_the_verifier_is_told(torn):
    report = verify_ledger(torn, population="shop")
    assert report.ok
    assert SAID in report.warnings[0]
    assert not any(SAID in warning for warning in verify_ledger(torn, population="shop").warnings)


@pytest.mark.parametrize("named", [(), ("--population", "shop")])
@pytest.mark.parametrize("command", ["verify", "budget", "head"])
def test_the_auditor_is_told(torn, capfd, command, named):
    quick = [] if command == "head" else ["--quick"]
    assert fedcart.run(["audit", command, str(torn), *named, *quick, "--format", "json"]) == 0
    captured = capfd.readouterr()
    document = json.loads(captured.out)
    if command == "head":
        assert SAID in captured.err
    else:
        (one,) = document["ledgers" if command == "verify" else "budgets"]
        assert SAID in one["warnings"][0]


def test_a_living_writer_is_no_unfinished_write(tmp_path, key_and_pem):
    key, pem = key_and_pem
    path = tmp_path / "l"
    Ledger.create(path, population="shop", epsilon_cap=4.0, delta=1e-6, key=key)
    process = write(path, pem, "live")
    assert process.stdout.readline() == "inside\n"
    assert path.with_name("l-journal").exists()
    time.sleep(0.1)
    assert undo_unfinished_write(path) is None
    process.communicate("go on\n", timeout=60)
    assert process.returncode == 0
    assert undo_unfinished_write(path) is None
    assert Ledger.open(path, population="shop", key=key).reservation("torn") is not None


def test_a_journal_that_is_none_is_left_alone(tmp_path, key_and_pem):
    key, _ = key_and_pem
    path, journal = tmp_path / "l", tmp_path / "l-journal"
    Ledger.create(path, population="shop", epsilon_cap=4.0, delta=1e-6, key=key)
    for content in (b"", b"\0" * 512, b"something else"):
        journal.write_bytes(content)
        assert undo_unfinished_write(path) is None
    journal.unlink()
    journal.mkdir()
    assert undo_unfinished_write(path) is None
