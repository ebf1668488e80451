"""Processes compose the same events in different orders; an honest ledger must not look tampered with for it."""

import pytest

from privacy.errors import BudgetRefusedError
from privacy.events import Gaussian, PoissonGaussian
from privacy.ledger import Ledger

UNITS = [PoissonGaussian(0.02, 1.1, 1), PoissonGaussian(0.05, 2.0, 1), Gaussian(60.0)]


@pytest.mark.parametrize("delta", [1e-6, 1e-9])
def test_processes_that_take_turns_agree(tmp_path, reserve, delta):
    path = tmp_path / "l"
    Ledger.create(path, population="p", epsilon_cap=9.0, delta=delta)
    first = Ledger.open(path, population="p")
    for i in range(40):  # one process remembers every composition and adds to it
        first.settle(reserve(first, f"a/{i}", event=UNITS[i % 3]), "ab" * 32)
    for turn in range(3):  # another composes all of them at once, and they go on in turn
        for handle in (Ledger.open(path, population="p"), first):
            reserve(handle, f"b/{turn}/{id(handle)}", event=UNITS[turn])
    report = first.verify()
    assert report.ok, report.findings
    recorded = [e.body["epsilon_after"] for e in first.history() if "epsilon_after" in e.body]
    assert recorded == sorted(recorded)


def test_a_delta_too_small_for_so_many_releases_is_refused(tmp_path, reserve):
    ledger = Ledger.create(tmp_path / "l", population="p", epsilon_cap=9.0, delta=1e-10)
    with pytest.raises(BudgetRefusedError):
        reserve(ledger, "k", event=Gaussian(1e5, 1_000_000))
    reserve(ledger, "k", event=Gaussian(1e5, 1_000))
