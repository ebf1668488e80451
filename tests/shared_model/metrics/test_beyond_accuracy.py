"""What lists are like: loops in float64, bounds, order, empty lists, cold items, refused input."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.metrics import (
    average_popularity,
    coverage,
    gini,
    group_popularity_lift,
    intra_list_diversity,
    novelty,
    popularity_lift,
    serendipity,
)

ITEMS = 9
SHOWN = st.lists(st.integers(0, ITEMS - 1), max_size=6, unique=True)
MANY = st.lists(SHOWN, min_size=1, max_size=6)
COUNTS = st.lists(st.integers(0, 12), min_size=ITEMS, max_size=ITEMS)


def padded(rows, width=6):
    return np.array([row + [-1] * (width - len(row)) for row in rows], dtype=np.int64)


# All shoppers at once


@given(MANY)
def test_coverage_and_gini_by_their_definitions(rows):
    times = [sum(row.count(i) for row in rows) for i in range(ITEMS)]
    assert coverage(padded(rows), ITEMS) == pytest.approx(sum(t > 0 for t in times) / ITEMS)
    got = gini(padded(rows), ITEMS)
    if not sum(times):
        assert math.isnan(got)
        return
    apart = sum(abs(a - b) for a in times for b in times) / (
        2 * ITEMS * sum(times)
    )  # mean absolute difference
    assert got == pytest.approx(apart)
    assert 0 <= got <= 1 - 1 / ITEMS + 1e-12


@given(MANY, st.permutations(range(ITEMS)), st.randoms())
def test_neither_the_order_nor_the_names_matter(rows, names, random):
    again = [[names[i] for i in row] for row in rows]
    for row in again:
        random.shuffle(row)
    random.shuffle(again)
    assert coverage(padded(again), ITEMS) == coverage(padded(rows), ITEMS)
    assert gini(padded(again), ITEMS) == pytest.approx(gini(padded(rows), ITEMS), nan_ok=True)


@given(MANY, SHOWN)
def test_more_lists_never_cover_less(rows, one):
    assert coverage(padded([*rows, one]), ITEMS) >= coverage(padded(rows), ITEMS)


def test_the_extremes():
    everything = np.arange(ITEMS)[:, None]
    assert coverage(everything, ITEMS) == 1
    assert gini(everything, ITEMS) == pytest.approx(0)
    assert gini(np.zeros((4, 1), np.int64), ITEMS) == pytest.approx(1 - 1 / ITEMS)
    assert coverage(np.zeros((0, 10), np.int64), 10) == 0
    assert coverage(np.zeros((0, 10), np.int64), 0) == 0
    assert math.isnan(gini(np.zeros((0, 10), np.int64), 0))


# Popularity


@given(MANY, COUNTS, st.integers(12, 40))
def test_novelty_and_popularity_by_their_definitions(rows, counts, shoppers):
    popular, new = average_popularity(padded(rows), counts), novelty(padded(rows), counts, shoppers)
    for row, p, n in zip(rows, popular, new, strict=True):
        if not row:
            assert math.isnan(p)
            assert math.isnan(n)
            continue
        assert p == pytest.approx(sum(counts[i] for i in row) / len(row))
        assert n == pytest.approx(-sum(math.log2(max(counts[i], 1) / shoppers) for i in row) / len(row))
        assert -1e-12 <= n <= math.log2(shoppers) + 1e-12
        assert min(counts) <= p <= max(counts)


@given(SHOWN.filter(bool), COUNTS, st.data())
def test_a_rarer_item_is_newer(row, counts, data):
    item = data.draw(st.sampled_from(row))
    rarer = [max(c - 1, 0) if i == item else c for i, c in enumerate(counts)]
    assert novelty(padded([row]), rarer, 12)[0] >= novelty(padded([row]), counts, 12)[0]


def test_the_lift_of_shoppers_and_of_the_group():
    recommended, profile = [6.0, 1.0, 5.0, math.nan], [2.0, 2.0, 0.0, 3.0]
    assert popularity_lift(recommended, profile)[:2].tolist() == [2.0, -0.5]
    assert np.isnan(popularity_lift(recommended, profile)[2:]).all()
    assert group_popularity_lift(recommended, profile) == pytest.approx(12 / 4 - 1)  # the last has no list
    assert math.isnan(group_popularity_lift([1.0], [0.0]))
    assert math.isnan(group_popularity_lift([], []))


@given(SHOWN.filter(bool), COUNTS)
def test_a_list_as_popular_as_the_profile_has_no_lift(row, counts):
    same = average_popularity(padded([row]), counts)
    assert popularity_lift(same, same)[0] == (0 if same[0] else pytest.approx(math.nan, nan_ok=True))
    assert (np.nan_to_num(popularity_lift(same * 0, same)) >= -1).all()


# Serendipity


def serendipity_by_loop(row, relevant, counts):
    levels = sorted({c for c in counts if c > 0}, reverse=True)
    total = 0.0
    for place, item in enumerate(row, start=1):
        ours = (ITEMS + 1 - place) / ITEMS
        anyone = (ITEMS + 1 - (levels.index(counts[item]) + 1)) / ITEMS if counts[item] else 0.0
        total += max(ours - anyone, 0.0) * (item in relevant)
    return total / len(row) if row else 0.0


@given(st.lists(st.tuples(SHOWN, SHOWN), min_size=1, max_size=5), COUNTS)
def test_serendipity_by_its_definition(pairs, counts):
    got = serendipity(padded([p[0] for p in pairs]), padded([p[1] for p in pairs]), counts)
    for value, (row, relevant) in zip(got, pairs, strict=True):
        if not relevant:
            assert math.isnan(value)
        else:
            assert value == pytest.approx(serendipity_by_loop(row, relevant, counts))
            assert 0 <= value <= 1


@given(SHOWN, SHOWN.filter(bool), COUNTS)
def test_a_relevant_item_more_never_lowers_serendipity(row, relevant, counts):
    fewer = serendipity(padded([row]), padded([relevant[1:]]), counts)
    more = serendipity(padded([row]), padded([relevant]), counts)
    assert more[0] >= np.nan_to_num(fewer)[0]


def test_the_list_of_the_most_popular_items_holds_no_surprise():
    counts = np.arange(ITEMS, 0, -1)
    assert serendipity([np.arange(6)], [np.arange(6)], counts).tolist() == [0.0]
    assert serendipity([[8, 7]], [8], counts)[0] > 0


# Diversity


@given(MANY, st.integers(0, 10_000))
@settings(deadline=None)
def test_diversity_is_the_mean_distance_of_all_pairs(rows, seed):
    features = torch.randn(ITEMS, 4, generator=torch.Generator().manual_seed(seed))
    features[3] = 0
    got = intra_list_diversity(padded(rows), features)
    unit = features.double() / features.double().norm(dim=1, keepdim=True).clamp(min=1e-300)
    for value, row in zip(got, rows, strict=True):
        pairs = [1 - float(unit[a] @ unit[b]) for a, b in combinations(row, 2)]
        assert value == pytest.approx(np.mean(pairs) if pairs else math.nan, nan_ok=True, abs=1e-12)
        if pairs:
            assert 0 <= value <= 2


def test_diversity_of_copies_opposites_and_strangers():
    features = torch.tensor([[1.0, 0.0], [2.0, 0.0], [-3.0, 0.0], [0.0, 1e-30], [0.0, 1e30], [0.0, 0.0]])
    lists = [[0, 1], [0, 2], [0, 3], [3, 4], [5, 0], [5, -1]]
    got = intra_list_diversity(lists, features)
    assert got[:5].tolist() == pytest.approx([0, 2, 1, 0, 1])
    assert math.isnan(got[5])


@pytest.mark.parametrize("gathered", [1, 50, 2**22])
def test_blocks_and_the_order_of_a_list_change_nothing(monkeypatch, gathered):
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(40, 6)))
    lists = np.array([rng.permutation(40)[:5] for _ in range(23)])
    whole = intra_list_diversity(lists, features)
    monkeypatch.setattr("shared_model.metrics.beyond_accuracy._GATHERED", gathered)
    assert intra_list_diversity(lists, features) == pytest.approx(whole, abs=1e-14)
    assert intra_list_diversity(rng.permuted(lists, axis=1), features) == pytest.approx(whole, abs=1e-14)


def test_nobody_and_no_places_give_no_values():
    assert intra_list_diversity(np.zeros((0, 5), np.int64), torch.ones(3, 2)).shape == (0,)
    assert np.isnan(intra_list_diversity(np.zeros((2, 0), np.int64), torch.ones(3, 2))).tolist() == [
        True,
        True,
    ]
    assert np.isnan(novelty([[-1]], np.zeros(0), 0)).tolist() == [True]
    assert np.isnan(average_popularity([[-1]], np.zeros(0))).tolist() == [True]
    assert np.isnan(serendipity([[-1]], [[-1]], np.zeros(0))).tolist() == [True]


# Refused


@pytest.mark.parametrize(
    "call",
    [
        lambda lists: coverage(lists, ITEMS),
        lambda lists: gini(lists, ITEMS),
        lambda lists: novelty(lists, np.ones(ITEMS), 5),
        lambda lists: average_popularity(lists, np.ones(ITEMS)),
        lambda lists: serendipity(lists, [[0]], np.ones(ITEMS)),
        lambda lists: intra_list_diversity(lists, torch.ones(ITEMS, 2)),
    ],
)
def test_an_item_outside_the_catalogue_is_refused(call):
    with pytest.raises(ValueError, match="item 9 is outside the catalogue of 9 items"):
        call([[1, 9]])


@pytest.mark.parametrize("counts", [[-1.0, 2.0], [math.nan, 1.0], [math.inf, 1.0]])
def test_counts_that_are_none_are_refused(counts):
    for call in (
        lambda: novelty([[0]], counts, 5),
        lambda: average_popularity([[0]], counts),
        lambda: serendipity([[0]], [0], counts),
    ):
        with pytest.raises(ValueError, match="a count is negative, infinite or NaN"):
            call()
    with pytest.raises(ValueError, match=r"counts must be \(I,\)"):
        average_popularity([[0]], [counts])


def test_events_counted_as_shoppers_and_features_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="had by 7 of 5 shoppers; count each shopper once"):
        novelty([[0]], [7, 1], 5)
    with pytest.raises(ValueError, match="finite features"):
        intra_list_diversity([[0, 1]], torch.tensor([[math.nan], [1.0]]))
    with pytest.raises(ValueError, match="twice"):
        serendipity([[0, 0]], [0], [1.0, 1.0])
