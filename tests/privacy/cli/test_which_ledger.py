"""Which ledger is meant: a file, a folder, a population."""

import json
import sqlite3

import pytest

from privacy.ledger import Ledger


def test_a_lasting_ledger_that_a_site_names_is_shown(audit, folder, path):
    (folder / "sites").mkdir()
    (folder / "sites" / "00-north.toml").write_text('ledger = "elsewhere/ledgers/north.sqlite"\n')
    (folder / "sites" / "01-shop.toml").write_text(f'ledger = "{path}"\n')
    budgets = json.loads(audit("budget", folder, "--quick", "--format", "json")[1])["budgets"]
    assert [b["population"] for b in budgets] == ["north", "south", "shop"]


def test_one_of_several_is_chosen_by_its_population(audit, folder):
    assert audit("head", folder)[0] == 2
    code, out, _ = audit("head", folder, "--population", "south")
    assert (code, json.loads(out)["population"]) == (0, "south")
    assert audit("head", folder, "--population", "east")[0] == 2
    Ledger.create(folder / "ledgers" / "south.sqlite", population="east", epsilon_cap=1.0, delta=1e-6)
    code, _, err = audit("budget", folder / "ledgers" / "south.sqlite")
    assert code == 2
    assert "east, south" in err


@pytest.mark.parametrize("command", ["budget", "verify", "head", "explain"])
def test_another_population_s_ledger_is_refused(audit, path, command):
    assert audit(command, path, "--population", "other")[0] == 3
    assert audit(command, path, "--population", "no name!")[0] == 2


@pytest.mark.parametrize("command", ["budget", "verify", "head", "explain"])
def test_what_is_no_ledger_is_refused_in_words(audit, tmp_path, command):
    (tmp_path / "empty.sqlite").touch()
    sqlite3.connect(tmp_path / "other.sqlite").execute("create table t (a)")
    for bad in ("missing.sqlite", "empty.sqlite", "other.sqlite", ".", "x" * 300):
        code, out, err = audit(command, tmp_path / bad)
        assert code == 4, bad
        assert out + err
    assert audit(command, "nonsense://")[0] in {2, 4}
    assert audit(command, "://")[0] == 2
    assert audit(command, "sqlite://")[0] == 2
