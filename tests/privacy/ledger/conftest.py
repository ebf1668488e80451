"""A ledger to work with, and reservations without the arguments that a test does not care about."""

from __future__ import annotations

import pytest

from privacy.events import PoissonGaussian
from privacy.ledger import Ledger

EVENT = PoissonGaussian(0.05, 1.0, 10)
"""Costs ε ≈ 1.95 alone and about 0.25 more each time after, at δ = 1e-6."""


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    """A fresh SQLite ledger with a cap that holds a handful of ``EVENT``."""
    return Ledger.create(tmp_path / "shop.ledger", population="shop", epsilon_cap=4.0, delta=1e-6)


@pytest.fixture
def reserve():
    """Reserve with the arguments that a test does not care about filled in."""

    def call(ledger, key, event=EVENT, **changes):
        given = {"run": "run-1", "purpose": "update", "model_fingerprint": "m0", "code_version": "1"}
        return ledger.reserve(event, key=key, **(given | changes))

    return call
