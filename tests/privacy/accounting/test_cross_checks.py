"""Other accountants beside ε of record: none may understate it, and none may differ unseen."""

import math
from collections import Counter

import pytest

from privacy.accounting import cross, cross_checks, epsilon, tally
from privacy.events import Gaussian, PoissonGaussian

DELTA = 1e-6


def checked(*events, record=None, delta=DELTA):
    return cross_checks(tally(events), delta, epsilon(events, delta) if record is None else record)


@pytest.mark.parametrize(
    "events",
    [
        [PoissonGaussian(0.05, 1.0, 60)],
        [PoissonGaussian(1e-4, 1.0, 5000)],  # the grid of losses costs a fifth here
        [PoissonGaussian(0.05, 1.2, 40), Gaussian(20.0, 3)],
    ],
)
def test_other_accountants_agree(events):
    checks = checked(*events)
    assert [c.name for c in checks] == ["Opacus RDP", "Opacus PRV", "dp-accounting PLD"]
    assert all(c.agrees and c.epsilon for c in checks), checks


@pytest.mark.parametrize("factor", [0.5, 0.9, 0.97])
def test_an_epsilon_of_record_that_is_too_small_is_reported(factor):
    """As a wrong accountant here would make it: PRV and dp-accounting tell, RDP only when it is grossly wrong."""
    event = PoissonGaussian(0.05, 1.0, 60)
    rdp, prv, pld = checked(event, record=epsilon([event], DELTA) * factor)
    assert not prv.agrees
    assert not pld.agrees
    assert "ε of record" in prv.note
    assert rdp.agrees


def test_an_epsilon_of_record_above_the_looser_bound_is_reported():
    event = PoissonGaussian(0.05, 1.0, 60)
    assert not any(c.agrees for c in checked(event, record=2 * epsilon([event], DELTA)))


def test_a_disagreement_is_reported(monkeypatch):
    monkeypatch.setattr(cross, "_rdp", lambda counts, delta: 0.5)
    monkeypatch.setattr(cross, "_prv", lambda counts, delta, record: math.inf)
    rdp, prv, _ = checked(PoissonGaussian(0.05, 1.0, 60))
    assert not rdp.agrees
    assert "claims 0.5" in rdp.note
    assert not prv.agrees
    assert prv.epsilon is None


def test_a_failing_accountant_is_reported(monkeypatch):
    def broken(counts, delta):
        raise ZeroDivisionError

    monkeypatch.setattr(cross, "_pld", broken)
    assert checked(PoissonGaussian(0.05, 1.0, 60))[2].note == "failed: ZeroDivisionError"
    assert not checked(PoissonGaussian(0.05, 1.0, 60))[2].agrees


def test_prv_is_not_asked_where_it_was_seen_to_fail():
    prv = checked(PoissonGaussian(0.05, 0.8, 5000))[1]
    assert prv.epsilon is None
    assert prv.note.startswith("not asked")


def test_where_one_is_not_asked_the_others_are():
    rdp, prv, pld = checked(*(PoissonGaussian(0.01, 1.0 + i / 10, 100) for i in range(8)))
    assert rdp.agrees
    assert prv.agrees
    assert rdp.epsilon > prv.epsilon > 0.0
    assert (pld.epsilon, pld.agrees) == (None, True)
    assert pld.note.startswith("not asked")


def test_nothing_released_needs_no_check():
    assert all(c.epsilon == 0.0 and c.agrees for c in cross_checks(Counter(), DELTA, 0.0))
