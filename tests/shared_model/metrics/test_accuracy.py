"""Accuracy at k: loops in float64, bounds, monotony, order, ties, short lists, shoppers with nothing relevant."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.metrics import (
    average_precision_at,
    f1_at,
    list_ranks,
    ndcg_at,
    precision_at,
    recall_at,
    reciprocal_rank,
    target_ranks,
)

METRICS = {
    "recall": recall_at,
    "precision": precision_at,
    "f1": f1_at,
    "ndcg": ndcg_at,
    "mrr": reciprocal_rank,
    "map": average_precision_at,
}
EVERY = pytest.mark.parametrize("name", METRICS)


def by_loop(name, shown, relevant, k):
    """Return a metric of one list from its definition, place by place."""
    shown = shown[:k]
    hits = [n + 1 for n, item in enumerate(shown) if item in relevant]
    precision, recall = len(hits) / k, len(hits) / len(relevant)
    if name == "f1":
        return 2 * precision * recall / (precision + recall) if hits else 0.0
    if name == "ndcg":
        best = sum(1 / math.log2(n + 2) for n in range(min(k, len(relevant))))
        return sum(1 / math.log2(n + 1) for n in hits) / best
    if name == "map":
        return sum(sum(i in relevant for i in shown[:n]) / n for n in hits) / len(relevant)
    return {"recall": recall, "precision": precision, "mrr": 1 / hits[0] if hits else 0.0}[name]


ITEMS = st.lists(st.integers(0, 14), max_size=10, unique=True)
RELEVANT = st.lists(st.integers(0, 14), min_size=1, max_size=8, unique=True)


@EVERY
@given(shown=ITEMS, relevant=RELEVANT, k=st.integers(1, 14))
@settings(deadline=None)
def test_each_follows_its_definition_for_lists_of_any_length(name, shown, relevant, k):
    got = METRICS[name](list_ranks(np.array([shown], dtype=np.int64), [relevant]), k)
    assert got.dtype == np.float64
    assert got.tolist() == pytest.approx([by_loop(name, shown, relevant, k)])


@EVERY
@given(rank=st.floats(1, 60), k=st.integers(1, 50))
def test_one_relevant_item_may_have_any_rank_from_1(name, rank, k):
    """With one relevant item each has a closed form, also between two places."""
    hit = float(rank <= k)
    expected = {
        "recall": hit,
        "precision": hit / k,
        "f1": 2 * hit / (k + 1),
        "ndcg": hit / math.log2(1 + rank),
        "mrr": hit / rank,
        "map": hit / rank,
    }[name]
    assert METRICS[name](np.array([rank]), k).tolist() == pytest.approx([expected])


SCORED = st.lists(st.sampled_from([-math.inf, math.nan, 0.0, 1.0, 2.0]), min_size=1, max_size=10)


@EVERY
@given(row=SCORED, k=st.integers(1, 12), data=st.data())
@settings(deadline=None)
def test_bounds_hold_with_ties_too(name, row, k, data):
    targets = data.draw(st.lists(st.integers(0, len(row) - 1), min_size=1, max_size=6, unique=True))
    ranks = target_ranks(torch.tensor([row]), torch.tensor([targets])).numpy()
    value, R = float(METRICS[name](ranks, k)[0]), len(targets)
    highest = {"precision": min(R, k) / k, "recall": min(R, k) / R, "map": min(R, k) / R}.get(name, 1.0)
    assert 0 <= value <= highest + 1e-12


@EVERY
@given(ranks=st.lists(st.integers(1, 40), min_size=2, max_size=6, unique=True), k=st.integers(1, 40))
def test_a_better_place_never_makes_it_worse(name, ranks, k):
    free = [n for n in range(1, max(ranks)) if n not in ranks]
    before = METRICS[name]([ranks], k)[0]
    for better in free[:3]:
        after = METRICS[name]([[better, *sorted(ranks)[:-1]]], k)[0]
        assert after >= before - 1e-12


@pytest.mark.parametrize("name", ["recall", "mrr", "map"])
@given(ranks=st.lists(st.integers(1, 40), min_size=1, max_size=6, unique=True), k=st.integers(1, 40))
def test_a_longer_list_never_makes_these_worse(name, ranks, k):
    assert METRICS[name]([ranks], k + 1)[0] >= METRICS[name]([ranks], k)[0]


@EVERY
@given(data=st.data())
@settings(deadline=None)
def test_the_order_of_shoppers_and_of_relevant_items_plays_no_part(name, data):
    rows = data.draw(
        st.lists(st.lists(st.integers(1, 30), min_size=3, max_size=3, unique=True), min_size=1, max_size=5)
    )
    order = data.draw(st.permutations(range(len(rows))))
    inner = data.draw(st.permutations(range(3)))
    plain = METRICS[name](rows, 10)
    shuffled = METRICS[name]([[rows[n][i] for i in inner] for n in order], 10)
    assert shuffled.tolist() == plain[list(order)].tolist()


@EVERY
def test_padding_and_shoppers_with_nothing_relevant(name):
    nan = math.nan
    got = METRICS[name]([[2, nan, nan], [nan, nan, nan], [nan, 5, 2]], 3)
    assert np.isnan(got).tolist() == [False, True, False]
    assert got[0] == METRICS[name]([2], 3)[0]
    assert got[2] == METRICS[name]([[2, 5]], 3)[0]
    assert np.isnan(METRICS[name]([nan], 3)).all()
    assert np.isnan(METRICS[name](np.zeros((2, 0)), 3)).tolist() == [True, True]
    assert METRICS[name](np.zeros(0), 3).shape == (0,)


@EVERY
def test_an_empty_list_is_worth_nothing_and_a_short_one_is_filled_with_wrong_items(name):
    assert METRICS[name](list_ranks([[-1, -1]], [[3, 4]]), 2).tolist() == [0.0]
    short, filled = list_ranks([[7, 3]], [[3, 4]]), list_ranks([[7, 3, 10, 11, 12]], [[3, 4]])
    assert METRICS[name](short, 5).tolist() == METRICS[name](filled, 5).tolist()


@EVERY
@pytest.mark.parametrize(
    ("ranks", "k", "message"),
    [
        ([1.0], 0, "k is 0"),
        ([0.5], 3, "a rank is 0.5; ranks start at 1"),
        ([-math.inf], 3, "a rank is -inf"),
        ([[1.0, 1.0]], 3, "differ by less than 1"),
        ([[[1.0]]], 3, r"not \(1, 1, 1\)"),
    ],
)
def test_what_cannot_be_ranks_is_refused(name, ranks, k, message):
    with pytest.raises(ValueError, match=message):
        METRICS[name](ranks, k)


def test_without_k_the_reciprocal_rank_sees_the_whole_catalogue():
    assert reciprocal_rank([[4, 200], [math.inf, math.nan]]).tolist() == [0.25, 0.0]
