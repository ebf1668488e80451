"""Ranks and lists against a plain sort: ties, filtered items, diverged models, several relevant items, blocks."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.metrics import list_ranks, target_ranks, top_items

SCORES = st.sampled_from([-1.0, 0.0, 0.5, 2.0, -math.inf])
ROWS = st.lists(SCORES, min_size=1, max_size=9)
WILD_ROWS = st.lists(
    st.one_of(SCORES, st.just(math.nan), st.just(math.inf), st.just(-0.0)), min_size=1, max_size=12
)


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
    targets = data.draw(st.lists(st.integers(0, len(row) - 1), min_size=1, max_size=4, unique=True))
    order = data.draw(st.permutations(range(len(row))))
    shuffled = torch.tensor([[row[i] for i in order]])
    there = torch.tensor([[order.index(t) for t in targets]])
    assert torch.equal(
        target_ranks(shuffled, there), target_ranks(torch.tensor([row]), torch.tensor([targets]))
    )


@given(ROWS, st.data())
@settings(deadline=None)
def test_relevant_items_that_tie_share_the_middle_of_the_tie(row, data):
    targets = data.draw(st.lists(st.integers(0, len(row) - 1), min_size=1, max_size=5, unique=True))
    got = target_ranks(torch.tensor([row]), torch.tensor([[*targets, -1]]))[0].tolist()
    assert math.isnan(got[-1])
    for place, target in enumerate(targets):
        others = [row[i] for i in range(len(row)) if i not in targets]
        expected = 1 + sum(score > row[target] for score in row)
        expected += sum(score == row[target] for score in others) / 2
        expected += sum(row[t] == row[target] for t in targets[:place])
        assert got[place] == expected
    assert (np.diff(sorted(got[:-1])) >= 1).all()
    assert sorted(got[:-1]) == sorted(max(rank, n + 1) for n, rank in enumerate(sorted(got[:-1])))


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


def test_shoppers_without_a_relevant_item_have_no_rank():
    scores = torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    assert target_ranks(scores, torch.tensor([-1, 0])).nan_to_num(-1).tolist() == [-1, 2]
    assert target_ranks(scores, torch.zeros(2, 0, dtype=torch.int64)).shape == (2, 0)
    assert target_ranks(scores[:0], torch.zeros(0, dtype=torch.int64)).shape == (0,)


@pytest.mark.parametrize("scale", [1, 3])
def test_ranks_of_more_than_a_block_of_items_are_exact(scale):
    """Ranks beyond 2²⁴ halves would not fit float32; those of several blocks add up."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 50_000, (3, 40_000 * scale), generator=generator).float()
    targets = torch.tensor([[5, 39_999], [16_383, 16_384], [0, -1]])
    got = target_ranks(scores, targets)
    for row in range(3):
        for column in range(2):
            t = int(targets[row, column])
            if t >= 0:
                assert got[row, column] == mean_rank_numpy(
                    scores[row].numpy(), t, targets[row].tolist()[:column]
                )


def mean_rank_numpy(row, target, earlier):
    same = row == row[target]
    rank = 1 + (row > row[target]).sum() + (same.sum() - 1) / 2
    assert not any(same[e] for e in earlier if e >= 0)  # the draw has no two relevant items that tie
    return rank


def stable_list(row, k):
    clean = [-math.inf if math.isnan(x) else x for x in row]
    best = sorted(range(len(row)), key=lambda i: (-clean[i], i))[:k]
    return [i if clean[i] > -math.inf else -1 for i in best]


@given(WILD_ROWS, st.integers(1, 15))
@settings(deadline=None)
def test_lists_equal_a_stable_sort_whatever_the_scores(row, k):
    assert top_items(torch.tensor([row]), k).tolist() == [stable_list(row, k)]
    assert top_items(torch.tensor([row, row[::-1]]), k)[0].tolist() == stable_list(row, k)


@pytest.mark.parametrize("block", [1, 3, 1000])
def test_blocks_change_nothing(monkeypatch, block):
    generator = torch.Generator().manual_seed(1)
    scores = torch.randint(0, 6, (20, 31), generator=generator).float()
    targets = torch.stack([torch.randperm(31, generator=generator)[:4] for _ in range(20)])
    ranks, lists = target_ranks(scores, targets), top_items(scores, 7)
    monkeypatch.setattr("shared_model.metrics.ranking._BLOCK", block)
    assert torch.equal(target_ranks(scores, targets), ranks)
    assert torch.equal(top_items(scores, 7), lists)


def test_scores_stay_as_they_are():
    scores = torch.tensor([[math.nan, 1.0, 1.0]])
    target_ranks(scores, torch.tensor([0]))
    top_items(scores, 2)
    assert scores.nan_to_num(-5).tolist() == [[-5.0, 1.0, 1.0]]


def test_lists_of_an_empty_catalogue_are_empty_and_of_no_place_refused():
    assert top_items(torch.zeros(2, 0), 3).shape == (2, 0)
    assert top_items(torch.zeros(0, 5), 3).shape == (0, 3)
    with pytest.raises(ValueError, match="k is 0"):
        top_items(torch.zeros(1, 2), 0)


LISTS = st.lists(st.integers(0, 11), max_size=6, unique=True)


@given(st.lists(st.tuples(LISTS, LISTS), min_size=1, max_size=5))
def test_places_in_lists_equal_looking_them_up(shoppers):
    def padded(rows):
        width = max(map(len, rows))
        return np.array([row + [-1] * (width - len(row)) for row in rows], dtype=np.int64).reshape(
            len(rows), width
        )

    got = list_ranks(padded([s[0] for s in shoppers]), padded([s[1] for s in shoppers]))
    for values, (shown, relevant) in zip(got, shoppers, strict=True):
        expected = [shown.index(item) + 1 if item in shown else math.inf for item in relevant]
        assert values[: len(relevant)].tolist() == expected
        assert np.isnan(values[len(relevant) :]).all()


@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=12, unique=True), st.data())
@settings(deadline=None)
def test_without_ties_ranks_of_scores_are_places_in_the_list(row, data):
    targets = data.draw(st.lists(st.integers(0, len(row) - 1), min_size=1, max_size=5, unique=True))
    lists = top_items(torch.tensor([row]), len(row))
    assert (
        list_ranks(lists, [targets]).tolist()
        == target_ranks(torch.tensor([row]), torch.tensor([targets])).tolist()
    )


def test_a_repeated_item_is_refused_wherever_it_stands():
    with pytest.raises(ValueError, match="row 1 holds an item twice"):
        list_ranks([[1, 2], [3, 3]], [[1], [1]])
    with pytest.raises(ValueError, match="row 0 holds an item twice"):
        list_ranks([[1, 2], [3, 4]], [[1, 1], [1, 2]])
    with pytest.raises(ValueError, match="row 0 holds an item twice"):
        target_ranks(torch.zeros(1, 3), torch.tensor([[2, 2]]))


@pytest.mark.parametrize(
    ("lists", "relevant", "message"),
    [
        ([[1, 2]], [[1], [2]], "2 rows of items do not belong to 1 lists"),
        ([[1.0, 2.0]], [[1]], "integers, not float64"),
        ([[[1]]], [[1]], r"\(B,\) or \(B, K\), not \(1, 1, 1\)"),
    ],
)
def test_rows_that_do_not_fit_are_refused(lists, relevant, message):
    with pytest.raises(ValueError, match=message):
        list_ranks(lists, relevant)
