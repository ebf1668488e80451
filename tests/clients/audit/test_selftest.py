"""The audit catches what was planted in the platform's own releases, and accuses nobody honest."""

import dataclasses

import numpy as np
import pytest

from clients.audit import SelfTest, run_selftest
from clients.audit.defects import Repeated, Scaled, edges_twice, exact_counts, exact_temper, unscaled
from clients.audit.selftest import cases
from clients.training import ShopperEvents, exact_sum
from privacy.errors import PlanError
from privacy.noise import ReproducibleNoise
from shared_model.stages import Stage
from shared_model.table import ProductTable

PLANTED = 7


def selftest(subject, canaries, seed=1, say=lambda _: None):
    rows = run_selftest(subject, canaries, 20_000, seed=seed, confidence=0.95, quick=True, say=say)
    return SelfTest("toys", tuple(rows))


def test_every_planted_defect_is_caught_and_the_honest_training_is_not_accused(make_subject):
    said = []
    found = selftest(make_subject(products=4000, shoppers=300), None, say=said.append)
    assert (found.missed, found.accused, found.exit_code) == ([], [], 0)
    assert [o.mechanism for o in found.outcomes if o.honest is False] == [
        "no noise",
        "σ a third of the claim",
        "rows not scaled to norm 1",
        "edges counted twice",
        "exact popularity as weights",
        "exact counts in the card",
        "the same noise in both stages",
    ]
    assert sum(o.honest is True for o in found.outcomes) == 1
    for outcome in found.outcomes:
        assert outcome.violation is (outcome.bound.epsilon > outcome.claimed) is (not outcome.honest)
    assert "7 of 7 planted defects caught; 1 of 1 honest trainings not accused" in found.verdict
    assert len(said) == len(found.outcomes)
    assert found.markdown().count("VIOLATION") == PLANTED
    by_attack = {o.mechanism: o.bound.attack for o in found.outcomes}
    assert by_attack["exact popularity as weights"] == "temper"
    assert by_attack["exact counts in the card"] == "count"
    assert by_attack["the same noise in both stages"] == "repeated noise"


def test_a_self_test_that_misses_or_accuses_says_so(subject):
    found = selftest(subject, 20)  # with twenty canaries nothing can be proved
    assert len(found.missed) == PLANTED
    assert found.exit_code == 1
    assert "0 of 7 planted defects caught (missed: no noise, " in found.verdict
    honest = found.outcomes[0]
    bound = dataclasses.replace(honest.bound, gaussian=99.0)
    accused = SelfTest("toys", (dataclasses.replace(honest, bound=bound), *found.outcomes[1:]))
    assert accused.exit_code == 3
    assert "REFUTED though honest: honest, ε = 4" in accused.verdict
    assert "not accused" not in accused.verdict


def test_rows_around_a_plan(subject):
    rows = cases(subject.plan, quick=False)
    assert [row.plan.epsilon for row in rows if row.honest] == [1.0, 2.0, 4.0, 8.0]
    assert all(row.plan.shares == subject.plan.shares for row in rows)
    assert len(rows) == 4 + PLANTED
    assert len(cases(subject.plan, quick=True)) == 1 + PLANTED


def test_an_audit_repeats_under_its_seed(subject):
    first, again = (selftest(subject, 100, seed=5).outcomes for _ in range(2))
    assert [o.bound for o in first] == [o.bound for o in again]
    assert len({o.bound for o in first}) > 3


@pytest.mark.parametrize("m", [0, -1, 19, 10**7])
def test_an_unusable_number_of_canaries_is_refused(subject, m):
    with pytest.raises(PlanError, match="canaries"):
        selftest(subject, m)


# the defects are what they are called


def test_noise_sources_change_one_thing_each():
    def source():
        return ReproducibleNoise(1)

    mask = source().poisson_mask(50, 0.3)
    for planted in (Scaled(source(), 0.5), Repeated(source())):
        assert (planted.poisson_mask(50, 0.3) == mask).all()
        assert not planted.private
    np.testing.assert_allclose(Scaled(source(), 1 / 3).normal(5), source().normal(5) / 3)
    assert not Scaled(source(), 0.0).normal(5).any()
    repeated = Repeated(source())
    first = repeated.normal(5)
    longer = repeated.normal(8)
    assert (longer[:5] == first).all()
    assert (repeated.normal(3) == first[:3]).all()
    assert longer[5:].all()


EDGES = np.array([[0, 1], [0, 2], [1, 2]], np.int32)
EVENTS = ShopperEvents(  # one takes 0 1 0 2 and something unknown, the other 1 and 2
    np.array([4, 4, 4, 4, 4, 9, 9]), np.array([0, 1, 0, -1, 2, 1, 2]), np.array([0, 1, 2, 2, 3, 0, 1])
)
GIVEN = {"temper": np.array([1.0, 2.0, 3.0])}


def test_rows_that_are_not_scaled_are_counts():
    assert unscaled(Stage.POPULARITY, EVENTS, EDGES, {}, 3).tolist() == [2, 2, 2]
    assert unscaled(Stage.EDGES, EVENTS, EDGES, GIVEN, 3).tolist() == [2, 0, 1]


def test_edges_are_counted_twice_and_popularity_once():
    for stage, factor in ((Stage.POPULARITY, 1.0), (Stage.EDGES, 2.0)):
        honest = exact_sum(stage, EVENTS, EDGES, GIVEN, 3)
        np.testing.assert_array_equal(edges_twice(stage, EVENTS, EDGES, GIVEN, 3), factor * honest)
        assert honest.any()


def test_the_exact_temper_takes_no_notice_of_what_was_released():
    one, other = (
        exact_temper(ProductTable(np.full(3, x), np.zeros(3), np.zeros(3), 1.0, runs=1), EVENTS).temper
        for x in (0.0, 50.0)
    )
    np.testing.assert_array_equal(one, other)
    assert (one > 1).all()


def test_the_careless_card_counts_shoppers_not_events():
    assert exact_counts(EVENTS, 3).tolist() == [1, 2, 2]
