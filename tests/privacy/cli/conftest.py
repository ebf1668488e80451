"""Ledgers to audit, and the command that audits them, through the front door."""

import json
import sqlite3

import pytest

from privacy.accounting import epsilon
from privacy.errors import BudgetRefusedError
from privacy.events import PoissonGaussian
from privacy.ledger import Ledger
from tests.front_door import FrontDoor


@pytest.fixture
def audit(capfd):
    """Run `fedcart audit …` and return its exit code, standard output and standard error."""
    return FrontDoor(capfd, before=("audit",))


@pytest.fixture
def verdict(audit):
    """The exit code and the one result of `audit verify --format json`, without other accountants."""

    def run(*arguments: object) -> tuple[int, dict]:
        code, out, _ = audit("verify", *arguments, "--quick", "--format", "json")
        (document,) = json.loads(out)["ledgers"]
        assert document["exit_code"] == code
        return code, document

    return run


@pytest.fixture(scope="session")
def event():
    """What the ledgers here hold."""
    return PoissonGaussian(0.05, 1.2, 100)


@pytest.fixture(scope="session")
def spent(event):
    """ε of one ``event``."""
    return epsilon([event], 1e-6)


@pytest.fixture
def path(tmp_path, event):
    """A ledger with one settled run."""
    ledger = Ledger.create(tmp_path / "shop.sqlite", population="shop", epsilon_cap=6.0, delta=1e-6)
    reservation = ledger.reserve(
        event, run="r1", purpose="round 1", key="r1/1", model_fingerprint="m", code_version="1"
    )
    ledger.settle(reservation, "ab" * 32)
    return tmp_path / "shop.sqlite"


@pytest.fixture
def folder(tmp_path, event):
    """A run's folder with two ledgers, one of which refused something and has one reservation open."""
    ledgers = tmp_path / "run" / "ledgers"
    ledgers.mkdir(parents=True)
    given = {"run": "r1", "purpose": "update", "model_fingerprint": "m", "code_version": "1"}
    for name in ("north", "south"):
        ledger = Ledger.create(ledgers / f"{name}.sqlite", population=name, epsilon_cap=6.0, delta=1e-6)
        partly = ledger.reserve(event, key="a", **given)
        ledger.settle(partly, "ab" * 32, 50, evidence="the process had not started them")
    ledger.reserve(event.with_count(10), key="b", **given)
    with pytest.raises(BudgetRefusedError):
        ledger.reserve(event.with_count(100_000), key="c", **given)
    return tmp_path / "run"


@pytest.fixture
def edit():
    """Change the tables as somebody would who can write the file."""

    def change(path, statement, *values):
        with sqlite3.connect(path) as database:
            triggers = database.execute("select name from sqlite_master where type = 'trigger'").fetchall()
            for (name,) in triggers:
                database.execute(f"drop trigger {name}")
            database.execute(statement, values)
        database.close()

    return change
