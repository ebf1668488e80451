"""Bootstrap intervals of a mean."""

import math

import numpy as np
import pytest

from shared_model.metrics import bootstrap


@pytest.mark.parametrize("continuous", [False, True])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(continuous):
    rng = np.random.default_rng(7)
    inside, truth = 0, 0.5 if continuous else 0.2
    for _ in range(300):
        values = rng.random(400) if continuous else (rng.random(400) < 0.2).astype(np.float64)
        estimate = bootstrap(values, rng, resamples=400)
        assert estimate.low <= estimate.mean <= estimate.high
        assert estimate.mean == pytest.approx(values.mean())
        inside += estimate.low <= truth <= estimate.high
    assert 0.91 <= inside / 300 <= 0.985


@pytest.mark.parametrize("distinct", [4, 200])
def test_resampling_counts_equals_resampling_shoppers(distinct):
    rng = np.random.default_rng(3)
    few = rng.choice([0.0, 0.3, 0.5, 1.0], size=200, p=[0.7, 0.1, 0.1, 0.1])
    values = few if distinct == 4 else few + rng.random(200) / 10
    assert len(np.unique(values)) == distinct
    naive = [rng.choice(values, size=200).mean() for _ in range(4000)]
    estimate = bootstrap(values, rng, resamples=4000)
    assert estimate.low == pytest.approx(np.quantile(naive, 0.025), abs=0.006)
    assert estimate.high == pytest.approx(np.quantile(naive, 0.975), abs=0.006)


@pytest.mark.parametrize("drawn", [1, 1000, 2**20])
def test_blocks_of_resamples_are_as_many_as_asked_for(monkeypatch, drawn):
    monkeypatch.setattr("shared_model.metrics.estimate._DRAWN", drawn)
    values = np.random.default_rng(2).random(90)
    estimate = bootstrap(values, np.random.default_rng(4), resamples=501)
    assert estimate.low == pytest.approx(values.mean() - 1.96 * values.std() / 90**0.5, abs=0.01)


def test_an_interval_of_one_value_is_that_value_and_of_nobody_nan():
    one = bootstrap(np.full(5, 0.25), np.random.default_rng(0))
    assert (one.mean, one.low, one.high) == (0.25, 0.25, 0.25)
    for values in (np.zeros(0), np.full(3, math.nan)):
        nobody = bootstrap(values, np.random.default_rng(0))
        assert all(math.isnan(x) for x in (nobody.mean, nobody.low, nobody.high))


def test_shoppers_without_a_value_do_not_count():
    values = np.array([0.1, math.nan, 0.7, 0.7, math.nan])
    kept = values[[0, 2, 3]]
    assert bootstrap(values, np.random.default_rng(1)) == bootstrap(kept, np.random.default_rng(1))


def test_the_same_generator_gives_the_same_interval():
    values = np.random.default_rng(1).random(50)
    first, second = (bootstrap(values, np.random.default_rng(5)) for _ in range(2))
    assert first == second
