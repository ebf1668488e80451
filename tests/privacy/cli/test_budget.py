"""`fedcart audit budget` on real ledgers, through the front door."""

import json
import sys

import pytest

from privacy.accounting import delta_at, epsilon, group_epsilon, replace_one_epsilon


def test_budget_shows_what_the_ledger_holds(audit, path, spent):
    code, out, _ = audit("budget", path, "--quick", "--format", "json")
    (budget,) = json.loads(out)["budgets"]
    assert code == 0
    assert budget["spent"] == pytest.approx(spent, rel=1e-9)
    assert (budget["population"], budget["reserved"], budget["cap"]) == ("shop", 0.0, 6.0)
    assert [run["run"] for run in budget["runs"]] == ["r1"]
    code, out, _ = audit("budget", path, "--quick")
    assert code == 0
    assert f"{spent:.3f}" in out


def test_budget_can_be_drawn(audit, path, tmp_path):
    pytest.importorskip("matplotlib")
    code, _, err = audit("budget", path, "--quick", "--plot", tmp_path / "budget.png")
    assert code == 0, err
    assert (tmp_path / "budget.png").read_bytes().startswith(b"\x89PNG")


def test_budget_of_a_run_s_folder(audit, folder, spent, event):
    code, out, _ = audit("budget", folder, "--quick", "--format", "json")
    north, south = json.loads(out)["budgets"]
    assert code == 0
    assert (north["population"], south["population"]) == ("north", "south")
    assert north["spent"] == pytest.approx(epsilon([event.with_count(50)], 1e-6))
    assert (north["reserved"], north["refused"]) == (0, 0)
    assert south["refused"] == 1
    assert south["committed"] == pytest.approx(epsilon([event.with_count(60)], 1e-6), rel=1e-6)
    assert south["reserved"] == pytest.approx(south["committed"] - south["spent"])
    assert south["left"] == pytest.approx(6.0 - south["committed"])
    (run,) = south["runs"]
    assert (run["run"], run["open"], run["steps"]) == ("r1", 1, 60)
    history = [moment["epsilon"] for moment in north["history"]]
    assert history == pytest.approx([0.0, spent, north["spent"]], rel=1e-6), "steps given back show"


def test_groups_and_an_exchange_are_shown_on_request(audit, folder, event):
    events = [event.with_count(50), event.with_count(10)]
    code, out, _ = audit("budget", folder, "--groups", "--quick", "--format", "json")
    north, south = json.loads(out)["budgets"]
    assert code == 0
    assert {g["size"]: g["epsilon"] for g in south["groups"]}[3] == group_epsilon(events, 1e-6, 3)
    assert south["replace_one_epsilon"] == replace_one_epsilon(events, 1e-6)
    assert {at["epsilon"]: at["delta"] for at in south["delta_at"]}[2.0] == delta_at(events, 2.0)
    assert north["replace_one_epsilon"] < south["replace_one_epsilon"]
    out = audit("budget", folder, "--groups", "--quick")[1]
    assert "ε for a group of 3 shoppers" in out
    assert f"{group_epsilon(events, 1e-6, 3):.4f}" in out
    assert "ε for a group" not in audit("budget", folder, "--quick")[1]


def test_plot_says_what_is_missing(audit, path, tmp_path, monkeypatch):
    assert audit("budget", path, "--quick", "--plot", tmp_path / "p.nonsense")[0] == 2
    assert audit("budget", path, "--quick", "--plot", tmp_path / "no" / "p.png")[0] == 2
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, err = audit("budget", path, "--quick", "--plot", tmp_path / "p.png")
    assert code == 2
    assert "fedcart[plots]" in err
