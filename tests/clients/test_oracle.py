"""The oracle attack: numbers that overflow, and a code or a second draw telling whether the noised result was finite."""

import numpy as np
import pytest

import clients.participate as module
from clients.participate import participate
from privacy.ledger import Status
from tests.clients.one_round import reservations, same


@pytest.fixture
def draws(monkeypatch):
    """Count the sources of noise that trainings began to draw from."""
    made, real = [], module.SecureNoise

    class Counted(real):
        def normal(self, n):
            if self not in made:
                made.append(self)
            return real.normal(self, n)

    monkeypatch.setattr(module, "SecureNoise", Counted)
    return made


@pytest.mark.parametrize("temper", [1e-300, 1e300, np.inf])
def test_an_overflow_is_no_oracle_and_no_free_retry(
    make_site, ask, start, ledger_of, draws, temper, monkeypatch
):
    """Such a popularity passes no check any more; a platform withstands it all the same."""
    monkeypatch.setattr(module, "_check", lambda *_: None)
    site, asked = make_site(), ask.model_copy(update={"round": 2})
    given = {"temper": np.full_like(start(asked)["temper"], temper, dtype=np.float64)}
    answers = [participate(site, asked, given) for _ in range(4)]
    assert len(draws) <= 1, "each answer of one reservation is of one draw"
    assert all(same(one, answers[0]) for one in answers)
    assert all(np.isfinite(array).all() for array in answers[0].arrays.values())
    (held,) = reservations(ledger_of(site))
    assert held.status is Status.SETTLED
