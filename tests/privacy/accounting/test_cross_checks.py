"""Other accountants beside ε of record."""

import math

from privacy.accounting import cross_checks
from privacy.events import PoissonGaussian

DELTA = 1e-6


def test_other_accountants_agree():
    checks = cross_checks([PoissonGaussian(0.05, 1.0, 60)], DELTA)
    assert {c.name for c in checks} == {"Opacus RDP", "Opacus PRV", "dp-accounting PLD"}
    assert all(c.agrees and c.epsilon for c in checks), checks


def test_a_disagreement_is_reported(monkeypatch):
    monkeypatch.setattr("privacy.accounting.cross._rdp", lambda counts, delta: 0.5)
    monkeypatch.setattr("privacy.accounting.cross._prv", lambda counts, delta: math.inf)
    rdp, prv, _ = cross_checks([PoissonGaussian(0.05, 1.0, 60)], DELTA)
    assert not rdp.agrees
    assert "claims 0.5" in rdp.note
    assert not prv.agrees
    assert prv.epsilon is None


def test_a_failing_accountant_is_reported(monkeypatch):
    def broken(counts, delta):
        raise ZeroDivisionError

    monkeypatch.setattr("privacy.accounting.cross._pld", broken)
    assert cross_checks([PoissonGaussian(0.05, 1.0, 60)], DELTA)[2].note == "failed: ZeroDivisionError"


def test_prv_is_not_asked_where_it_was_seen_to_fail():
    prv = cross_checks([PoissonGaussian(0.05, 0.8, 5000)], DELTA)[1]
    assert prv.epsilon is None
    assert prv.note.startswith("not asked")


def test_nothing_released_needs_no_check():
    assert all(c.epsilon == 0.0 for c in cross_checks([], DELTA))
