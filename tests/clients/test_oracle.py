"""The oracle attack: terms that overflow, and a code or a second draw that tells whether the noised result was finite."""

import numpy as np
import pytest

import clients.participate as module
from clients.participate import participate
from privacy.ledger import Status
from tests.clients.one_round import reservations, same

OVERFLOWING = {
    "clip_norm": 4e-7,
    "scalar_learning_rate": 10.0,
    "proximal": 7e36,
    "sample_rate": 1.0,
    "local_steps": 2,
    "rounds": 1,
}
"""Two steps: the pull of the second one squares to infinity or not, as the first one's noised gradient decides."""


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


@pytest.mark.parametrize("proximal", [7e36, 1e38, 3e38])
def test_an_overflow_is_no_oracle_and_no_free_retry(make_site, ask, start, ledger_of, draws, proximal):
    """The terms pass no validation any more; a platform withstands them all the same."""
    site = make_site()
    terms = ask.model_copy(update=OVERFLOWING | {"proximal": proximal})
    answers = []
    for _ in range(4):
        answers.append(participate(site, terms, start(terms)))
    assert len(draws) == 1, "each answer of one reservation is of one draw"
    assert all(same(one, answers[0]) for one in answers)
    assert all(np.isfinite(array).all() for array in answers[0].arrays.values())
    (held,) = reservations(ledger_of(site))
    assert held.status is Status.SETTLED
