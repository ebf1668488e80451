"""A platform to attack: its shoppers take things that lie near each other in a vocabulary of made-up products."""

import numpy as np
import pytest

from clients.audit import Subject
from clients.training import ShopperEvents
from privacy.release import ReleasePlan
from shared_model.vocabulary import Vocabulary


def edges_near(products: int, rng: np.random.Generator) -> np.ndarray:
    """Return edges from each product to about five of the next twenty."""
    a = np.repeat(np.arange(products), 5)
    b = (a + rng.integers(1, 20, len(a))) % products
    return np.unique(np.sort(np.stack([a, b], axis=1), axis=1), axis=0).astype(np.int32)


@pytest.fixture
def make_subject():
    """Return a builder of subjects."""

    def make(shoppers=60, products=400, epsilon=4.0, shares=(0.1, 0.9)) -> Subject:
        rng = np.random.default_rng(5)
        names, nothing = tuple(f"t{i:05}" for i in range(products)), ("",) * products
        vocabulary = Vocabulary(1, "", names, names, nothing, nothing, edges_near(products, rng))
        users = np.repeat(np.arange(shoppers), 12)
        near = np.repeat(rng.integers(0, products, shoppers), 12) + rng.integers(0, 20, len(users))
        held = np.where(rng.random(len(users)) < 0.1, -1, near % products)
        events = ShopperEvents(users, held, np.tile(np.arange(12) // 2, shoppers))
        plan = ReleasePlan.calibrated(epsilon=epsilon, delta=1e-6, shares=shares)
        return Subject("toys", events, vocabulary, plan, seed=0)

    return make


@pytest.fixture
def subject(make_subject) -> Subject:
    """Return sixty shoppers among 400 products, at ε = 4."""
    return make_subject()
