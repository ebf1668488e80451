"""A plan is coherent or does not exist."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, replace

import pytest

from privacy.accounting import epsilon
from privacy.errors import PlanError
from privacy.events import PoissonGaussian
from privacy.plan import PrivacyPlan

GOOD = {
    "epsilon": 2.0,
    "delta": 1e-6,
    "clip_norm": 0.5,
    "sample_rate": 0.05,
    "population_size": 5000,
    "steps": 40,
}


@pytest.fixture(scope="module")
def plan():
    return PrivacyPlan.calibrated(**GOOD)


def test_calibrated_plan_spends_what_it_may_and_no_more(plan):
    assert 1.99 <= plan.cost() <= 2.0
    assert plan.cost() == epsilon([plan.event], plan.delta)


def test_the_normaliser_is_public(plan):
    assert plan.normaliser == 0.05 * 5000


def test_events(plan):
    assert plan.event == PoissonGaussian(0.05, plan.noise_multiplier, 40)
    assert plan.event_of(10).steps == 10
    with pytest.raises(PlanError):
        plan.event_of(0)


def test_dict_round_trip(plan):
    assert PrivacyPlan.from_dict(plan.to_dict()) == plan


def test_foreign_dicts_are_refused(plan):
    document = plan.to_dict()
    with pytest.raises(PlanError, match="unknown \\['sigma'\\]"):
        PrivacyPlan.from_dict({**document, "sigma": 1})
    del document["delta"]
    with pytest.raises(PlanError, match="missing \\['delta'\\]"):
        PrivacyPlan.from_dict(document)


def test_a_plan_is_frozen(plan):
    with pytest.raises(FrozenInstanceError):
        plan.epsilon = 100.0


BAD = [math.nan, math.inf, -math.inf, 0, -1, True, None, "1"]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("field", [*GOOD, "noise_multiplier"])
def test_bad_values_are_refused(plan, field, bad):
    with pytest.raises(PlanError, match=field):
        replace(plan, **{field: bad})
    if field in GOOD:
        with pytest.raises(PlanError, match=field):
            PrivacyPlan.calibrated(**{**GOOD, field: bad})


@pytest.mark.parametrize(("field", "bad"), [("population_size", 10.0), ("steps", 4.0), ("sample_rate", 1.1)])
def test_wrong_types_and_ranges_are_refused(plan, field, bad):
    with pytest.raises(PlanError, match=field):
        replace(plan, **{field: bad})


def test_noise_that_does_not_meet_the_stated_epsilon_is_refused(plan):
    with pytest.raises(PlanError, match="costs epsilon"):
        replace(plan, noise_multiplier=plan.noise_multiplier * 0.9)
    with pytest.raises(PlanError, match="costs epsilon"):
        replace(plan, steps=plan.steps + 10)


def test_a_delta_too_large_for_the_population_is_pointed_out(plan):
    assert not plan.weak_delta
    assert replace(plan, population_size=10_000_000).weak_delta
