"""What a run does to the members' ledgers, before and after, also of a run that was interrupted."""

from pathlib import Path

import pytest

from clients.own_ledger import open_ledger
from clients.participate import plan_for
from clients.site import SiteSettings
from privacy.accounting import epsilon
from privacy.errors import BudgetRefusedError
from privacy.ledger import Ledger
from shared_model.instructions import TrainInstructions
from simulations.budgets import lines_after, lines_before, preview_run, spend_of

ASK = TrainInstructions.from_mapping(
    {
        "run_id": "run-1",
        "round": 1,
        "rounds": 2,
        "epsilon": 3.0,
        "delta": 1e-6,
        "share": 0.25,
        "encoders": "tiny",
        "vocabulary": "ab" * 32,
        "products": 3,
        "edges": 2,
        "seed": 3,
    }
)


@pytest.fixture
def sites(tmp_path):
    """Two members with a cap of 5."""
    made = []
    for name in ("north", "south"):
        path = tmp_path / f"{name}.sqlite"
        given = dict.fromkeys(("events", "items", "work", "cache"), tmp_path)
        made.append(SiteSettings(name=name, population_size=20, epsilon_cap=5.0, ledger=str(path), **given))
        Ledger.create(path, population=name, epsilon_cap=5.0, delta=1e-6)
    return made


def reserve(site, run, number, *, settle=True):
    ledger = open_ledger(site)
    held = ledger.reserve(
        plan_for(site, ASK).event_of(number),
        run=run,
        purpose="update",
        key=f"{run}/{number}",
        model_fingerprint="m",
        code_version="1",
    )
    return ledger.settle(held, "ab" * 32) if settle else held


def after(site, rounds):
    return epsilon([plan_for(site, ASK).event_of(number % 2) for number in range(rounds)], 1e-6)


def test_before_and_after_a_whole_run(sites):
    north, _ = sites
    whole = after(north, 2)
    assert whole == pytest.approx(3.0, abs=0.01)
    previews = preview_run(sites, ASK)
    assert previews["north"] == (0.0, pytest.approx(whole), 5.0)
    assert lines_before(previews) == [
        f"{n} goes from ε 0.00 to {whole:.2f} of 5.00" for n in ("north", "south")
    ]
    for number in range(2):
        reserve(north, "run-1", number)
    assert lines_after(sites, "run-1") == [
        f"north went from ε 0.00 to {whole:.2f} of 5.00, {5 - whole:.2f} left",
        "south went from ε 0.00 to 0.00 of 5.00, 5.00 left",
    ]


def test_an_interrupted_run_starts_from_where_it_is(sites):
    north, _ = sites
    for number in range(2):
        reserve(north, "run-0", number)
    reserve(north, "run-1", 0, settle=False)
    preview = preview_run(sites, ASK)["north"]
    assert preview == (pytest.approx(after(north, 3)), pytest.approx(after(north, 4)), 5.0)
    spend = spend_of(north, "run-1")
    assert spend.before == pytest.approx(after(north, 2), rel=1e-6)
    assert spend.budget.committed == pytest.approx(after(north, 3), rel=1e-6)
    line, _ = lines_after(sites, "run-1")
    assert line == (
        f"north went from ε {after(north, 2):.2f} to {after(north, 3):.2f} of 5.00, {5 - after(north, 3):.2f} left "
        f"({after(north, 3) - after(north, 2):.2f} of it reserved)"
    )
    reserve(north, "run-1", 1)
    assert preview_run(sites, ASK)["north"] == (*[pytest.approx(after(north, 4))] * 2, 5.0)


def test_a_run_that_had_begun_is_not_judged_again_and_another_is(sites):
    north, _ = sites
    reserve(north, "run-1", 0)
    open_ledger(north).change_cap(1.0, "test")
    assert preview_run(sites, ASK)["north"].cap == 1.0
    with pytest.raises(BudgetRefusedError, match=r"north: from .* of 1\.000"):
        preview_run(sites, ASK.model_copy(update={"run_id": "run-2"}))


def test_a_ledger_that_cannot_be_read_does_not_hide_the_others(sites):
    north, _ = sites
    Path(north.ledger).write_bytes(b"garbage")
    assert lines_after(sites, "run-1") == [
        f"north cannot be read (ledger.unreadable): fedcart audit verify {north.ledger}",
        "south went from ε 0.00 to 0.00 of 5.00, 5.00 left",
    ]
