"""Metrics against loops over a sorted list, with ties, filtered items and diverged models."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.metrics import bootstrap, coverage, ndcg_at, recall_at, reciprocal_rank, target_ranks

ROWS = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, -math.inf]), min_size=1, max_size=9)


def mean_rank(scores, target):
    """Return the mean rank of the target over both extreme orders of the items that tie with it."""
    first = sorted(range(len(scores)), key=lambda i: (-scores[i], i != target)).index(target)
    last = sorted(range(len(scores)), key=lambda i: (-scores[i], i == target)).index(target)
    return 1 + (first + last) / 2


@given(ROWS, st.data())
@settings(deadline=None)
def test_ranks_equal_a_sort_with_ties_in_the_middle(row, data):
    target = data.draw(st.integers(0, len(row) - 1))
    assert target_ranks(torch.tensor([row]), torch.tensor([target])).tolist() == [mean_rank(row, target)]


@given(ROWS, st.data())
@settings(deadline=None)
def test_the_order_of_the_catalogue_plays_no_part(row, data):
    target = data.draw(st.integers(0, len(row) - 1))
    order = data.draw(st.permutations(range(len(row))))
    shuffled = torch.tensor([[row[i] for i in order]])
    assert target_ranks(shuffled, torch.tensor([order.index(target)])) == mean_rank(row, target)


@pytest.mark.parametrize(
    ("row", "target", "rank"),
    [
        ([math.nan, 1.0, 0.0], 0, 3.0),
        ([math.nan, 1.0, 0.0], 1, 1.0),
        ([math.nan] * 5, 2, 3.0),
        ([math.inf, 1.0], 1, 2.0),
        ([math.nan, -math.inf, 0.0], 0, 2.5),
    ],
)
def test_a_diverged_model_gains_nothing_from_nan(row, target, rank):
    assert target_ranks(torch.tensor([row]), torch.tensor([target])).tolist() == [rank]


@given(st.lists(st.floats(1, 50), min_size=1, max_size=20), st.integers(1, 30))
def test_metrics_follow_their_formulas(ranks, k):
    array = np.array(ranks)
    assert recall_at(array, k).tolist() == [1.0 if r <= k else 0.0 for r in ranks]
    assert ndcg_at(array, k).tolist() == pytest.approx(
        [1 / math.log2(1 + r) if r <= k else 0.0 for r in ranks]
    )
    assert reciprocal_rank(array).tolist() == pytest.approx([1 / r for r in ranks])


def test_coverage_counts_each_item_once_and_no_padding():
    assert coverage(np.array([[0, 1, -1], [1, 4, -1]]), 10) == 0.3
    assert coverage(np.zeros((0, 10), np.int64), 10) == 0
    assert coverage(np.zeros((0, 10), np.int64), 0) == 0


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(7)
    inside = 0
    for _ in range(300):
        values = (rng.random(400) < 0.2).astype(np.float64)
        estimate = bootstrap(values, rng, resamples=400)
        assert estimate.low <= estimate.mean <= estimate.high
        assert estimate.mean == pytest.approx(values.mean())
        inside += estimate.low <= 0.2 <= estimate.high
    assert 0.91 <= inside / 300 <= 0.985


def test_resampling_counts_equals_resampling_shoppers():
    rng = np.random.default_rng(3)
    values = rng.choice([0.0, 0.3, 0.5, 1.0], size=200, p=[0.7, 0.1, 0.1, 0.1])
    naive = [rng.choice(values, size=200).mean() for _ in range(4000)]
    estimate = bootstrap(values, rng, resamples=4000)
    assert estimate.low == pytest.approx(np.quantile(naive, 0.025), abs=0.006)
    assert estimate.high == pytest.approx(np.quantile(naive, 0.975), abs=0.006)


def test_an_interval_of_one_value_is_that_value_and_of_nobody_nan():
    one = bootstrap(np.full(5, 0.25), np.random.default_rng(0))
    assert (one.mean, one.low, one.high) == (0.25, 0.25, 0.25)
    nobody = bootstrap(np.zeros(0), np.random.default_rng(0))
    assert all(math.isnan(x) for x in (nobody.mean, nobody.low, nobody.high))


def test_the_same_generator_gives_the_same_interval():
    values = np.random.default_rng(1).random(50)
    first, second = (bootstrap(values, np.random.default_rng(5)) for _ in range(2))
    assert first == second
