"""`fedcart client approve` and `cap`, through the front door."""

import json

import pytest

from clients.enrol import init_folder
from clients.template import SiteAnswers
from privacy.ledger import Ledger
from tests.front_door import FrontDoor


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return init_folder(
        tmp_path / "toys", SiteAnswers("toys", "groceries", tmp_path / "e", tmp_path / "i", 20, 8.0, 1e-6)
    )


@pytest.fixture
def run(capfd):
    return FrontDoor(capfd)


def test_a_bundle_is_written_and_approved(folder, run, tmp_path):
    code, out, _ = run("server", "bundle", "--format", "json")
    written = json.loads(out)
    assert code == 0
    assert run("server", "bundle")[0] == 0, "writing the same again is no overwriting"
    approve = ("client", "approve", written["bundle"], "--folder", "toys")
    assert json.loads(run(*approve, "--format", "json")[1]) == {"bundle": written["sha256"], "new": True}
    code, out, _ = run(*approve)
    assert (code, "was approved before" in out) == (0, True)
    assert written["sha256"] in folder.approvals.read_text()


def test_what_is_no_bundle_is_not_approved(folder, run, tmp_path):
    (tmp_path / "evil.fab").write_bytes(b"import os")
    code, _, err = run("client", "approve", "evil.fab", "--folder", "toys")
    assert (code, "cannot be unpacked" in err) == (5, True)
    code, _, err = run("client", "approve", "missing.fab", "--folder", "toys")
    assert (code, "cannot be read" in err) == (2, True)
    assert not folder.approvals.exists()


def cap_of(folder):
    return Ledger.open(folder.path / "ledger.sqlite", population="toys").budget().cap


def test_a_cap_is_lowered_and_not_raised_above_the_settings(folder, run):
    code, out, _ = run("client", "cap", 3, "--reason", "less", "--folder", "toys")
    assert (code, "of 3" in out, cap_of(folder)) == (0, True, 3.0)
    code, _, err = run("client", "cap", 9, "--reason", "more", "--folder", "toys")
    assert (code, "client.toml is 8" in err, cap_of(folder)) == (5, True, 3.0)
    assert run("client", "cap", "nan", "--reason", "x", "--folder", "toys")[0] == 5
    assert json.loads(
        run("client", "cap", 8, "--reason", "back", "--folder", "toys", "--format", "json")[1]
    ) == {
        "population": "toys",
        "cap": 8.0,
        "committed": 0.0,
    }


def test_a_platform_that_does_not_run_is_said_with_its_budget(folder, run):
    code, out, _ = run("client", "status", "--folder", "toys", "--format", "json")
    status = json.loads(out)
    assert (code, status["running"], status["last_success"], status["budget"]["left"]) == (
        1,
        False,
        None,
        8.0,
    )
    code, out, _ = run("client", "status", "--folder", "toys")
    assert (code, "is not running; start it: fedcart client start" in out) == (1, True)
    assert "ε 0.000 of 8 is spent or reserved, 8.000 left" in out


def test_a_platform_without_a_kit_is_not_started(folder, run):
    code, _, err = run("client", "start", "--folder", "toys")
    assert (code, "no kit is installed yet" in err) == (2, True)
