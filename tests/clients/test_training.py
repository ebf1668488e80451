"""A platform's part of the table: from raw files to an exact sum, and from there to one with noise."""

import numpy as np
import pandas as pd
import pytest

from clients.platform import HashableSite, read_events
from clients.products import Products, site_vocabulary
from clients.training import ShopperEvents, exact_sum, private_sum
from privacy.errors import MechanismError
from privacy.noise import ReproducibleNoise, SecureNoise
from privacy.release import ReleasePlan
from shared_model.stages import Stage

PLAN = ReleasePlan.calibrated(epsilon=8.0, delta=1e-6, shares=(0.25, 0.75))


def sums_of(site) -> dict[Stage, np.ndarray]:
    """Take a site's files all the way to both exact sums, as a client does."""
    data, vocabulary = read_events(HashableSite(site)), site_vocabulary(site)
    products = Products.of(vocabulary, data.catalogue, ("tiny",), site.cache)
    events = ShopperEvents.of(data.split, products.of_item)
    given = {"temper": np.linspace(1, 5, len(vocabulary))}
    return {stage: exact_sum(stage, events, vocabulary.edges, given, len(vocabulary)) for stage in Stage}


@pytest.mark.parametrize("task", [{}, {"hold_out": "event", "first_purchases": True}])
def test_removing_any_shopper_from_the_raw_files_moves_each_sum_by_at_most_one(make_site, task):
    site = make_site(cap=None, task=task)
    frame, whole = pd.read_csv(site.events), sums_of(site)
    assert all(total.any() for total in whole.values())
    moved = []
    for who in frame.user_id.unique():
        frame[frame.user_id != who].to_csv(site.events, index=False)
        for stage, total in sums_of(site).items():
            moved.append(np.linalg.norm(whole[stage] - total))
    assert max(moved) == pytest.approx(1, abs=1e-6)
    assert max(moved) <= 1 + 1e-9


def test_a_shopper_s_row_depends_on_that_shopper_alone(make_site):
    """What one adds is the same beside others and alone: no count of others, no popularity, no idf enters."""
    site = make_site(cap=None)
    frame, whole = pd.read_csv(site.events), sums_of(site)
    who = frame.user_id.iloc[0]
    frame[frame.user_id != who].to_csv(site.events, index=False)
    without = sums_of(site)
    frame[frame.user_id == who].to_csv(site.events, index=False)
    for stage, alone in sums_of(site).items():
        np.testing.assert_allclose(whole[stage] - without[stage], alone, atol=1e-12)


class Silence:
    """No noise; counts what it was asked for."""

    private, name, drawn = False, "silence", 0

    def normal(self, n):
        self.drawn += n
        return np.zeros(n)


@pytest.mark.parametrize("stage", Stage)
def test_without_noise_the_sum_is_what_it_was_and_one_draw_is_made(stage):
    total, silence = np.random.default_rng(0).normal(size=40), Silence()
    np.testing.assert_allclose(private_sum(total, PLAN, stage, silence), total.astype(np.float32))
    assert silence.drawn == 40


@pytest.mark.parametrize("stage", Stage)
def test_the_noise_has_the_standard_deviation_of_its_stage(stage):
    released = private_sum(np.full(200_000, 7.0), PLAN, stage, SecureNoise())
    assert released.std() == pytest.approx(PLAN.noise_of(stage.number), rel=0.01)
    assert released.mean() == pytest.approx(7.0, abs=0.05)
    share = PLAN.shares[stage.number]
    assert PLAN.noise_of(stage.number) == pytest.approx(PLAN.noise_multiplier / share**0.5)


def test_nobody_s_sum_is_noise_of_the_same_kind():
    nobody = ShopperEvents(*(np.empty(0, np.int64) for _ in range(3)))
    edges = np.array([[0, 1], [1, 2]], np.int32)
    given = {"temper": np.ones(3)}
    for stage in Stage:
        total = exact_sum(stage, nobody, edges, given, 3)
        assert not total.any()
        released = private_sum(total, PLAN, stage, ReproducibleNoise(1, stage.value))
        assert released.all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_sum_that_is_not_finite_gets_no_noise(value):
    silence = Silence()
    with pytest.raises(MechanismError):
        private_sum(np.array([1.0, value]), PLAN, Stage.POPULARITY, silence)
    assert silence.drawn == 0
