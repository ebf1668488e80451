"""A small training to attack: forty shoppers, 1,283 parameters, forty steps."""

import pytest

from clients.audit import Subject, subject_of
from clients.platform import HashableSite, prepare_platform
from clients.training import LocalRecipe
from privacy.plan import PrivacyPlan


@pytest.fixture
def make_subject(make_site, events):
    """Return a builder of trainings; `values` change the plan."""

    def make(shoppers=40, learning_rate=0.01, **values) -> Subject:
        site = make_site(cap=None)
        events(shoppers).to_csv(site.events, index=False)
        platform = prepare_platform(HashableSite(site), ("tiny",), 40, 6)
        given = {"epsilon": 2.0, "delta": 1e-6, "clip_norm": 0.5, "sample_rate": 0.2, "population_size": 40}
        plan = PrivacyPlan.calibrated(**(given | {"steps": 40} | values))
        recipe = LocalRecipe(4, plan.sample_rate, learning_rate, 0.01, negatives=8)
        return subject_of(platform, recipe, plan, targets=3, seed=0, compile="never")

    return make


@pytest.fixture
def subject(make_subject) -> Subject:
    """Return the training at ε = 2."""
    return make_subject()
