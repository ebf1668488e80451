"""A platform's metrics hold its budget and its rounds, and nothing of its data."""

from pathlib import Path

import pytest

from clients.folder import ClientFolder
from clients.metrics import ClientCollector
from clients.participate import participate
from clients.site import save_site
from clients.status import client_status, client_status_lines
from privacy.errors import BudgetRefusedError
from privacy.events import PoissonGaussian
from privacy.ledger import NOTHING, Ledger
from tests.front_door import FrontDoor


def samples(folder):
    return {s.name: s.value for family in ClientCollector(folder).collect() for s in family.samples}


def test_the_budget_and_the_rounds_are_those_of_the_ledger(make_site, tmp_path):
    site = make_site()
    save_site(tmp_path / "client.toml", site)
    folder = ClientFolder(tmp_path)
    ledger = Ledger.open(Path(site.ledger), population=site.population)
    facts = {"run": "r", "purpose": "p", "model_fingerprint": "m", "code_version": "1"}
    ledger.settle(ledger.reserve(PoissonGaussian(0.1, 2.0, 4), key="one", **facts), "ab" * 32)
    ledger.settle(ledger.reserve(PoissonGaussian(0.1, 2.0, 4), key="lost", **facts), NOTHING)
    ledger.reserve(PoissonGaussian(0.1, 2.0, 4), key="two", **facts)
    found, budget = samples(folder), ledger.budget()
    assert found["fedcart_rounds_reserved_total"] == 3
    assert found["fedcart_rounds_settled_total"] == 2
    assert found["fedcart_rounds_lost_total"] == 1
    assert found["fedcart_epsilon_committed"] == budget.committed > 0
    assert found["fedcart_epsilon_left"] == budget.left
    assert found["fedcart_epsilon_cap"] == budget.cap
    assert found["fedcart_ledger_readable"] == 1
    assert found["fedcart_budget_refused_total"] == 0


def test_a_request_past_the_cap_is_counted_by_metric_status_and_audit(make_site, tmp_path, capfd):
    site = make_site()
    save_site(tmp_path / "client.toml", site)
    folder = ClientFolder(tmp_path)
    ledger = Ledger.open(Path(site.ledger), population=site.population)
    facts = {"run": "r", "purpose": "p", "model_fingerprint": "m", "code_version": "1"}
    with pytest.raises(BudgetRefusedError):
        ledger.reserve(PoissonGaussian(1.0, 0.1, 500), key="one", **facts)
    assert samples(folder)["fedcart_budget_refused_total"] == 1
    status = client_status(folder)
    assert status["refused"] == 1
    assert "; 1 requests refused" in "\n".join(client_status_lines(status))
    budgets = FrontDoor(capfd).json("audit", "budget", site.ledger, "--quick")["budgets"]
    assert [document["refused"] for document in budgets] == [1]


def test_a_run_for_which_the_cap_has_no_room_is_counted(make_site, tmp_path, ask, start):
    """It is refused before its first round, and counted all the same."""
    site = make_site(cap=5.0)
    save_site(tmp_path / "client.toml", site)
    with pytest.raises(BudgetRefusedError):
        participate(site, ask, start(ask))
    assert samples(ClientFolder(tmp_path))["fedcart_budget_refused_total"] == 1


def test_a_ledger_that_cannot_be_read_shows_as_such_and_never_as_a_fresh_budget(make_site, tmp_path):
    site = make_site()
    save_site(tmp_path / "client.toml", site)
    Path(site.ledger).write_bytes(b"garbage")
    found = samples(ClientFolder(tmp_path))
    assert found["fedcart_ledger_readable"] == 0
    assert not any("epsilon" in name for name in found)
