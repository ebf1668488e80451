"""Transitions against a double loop over each shopper's pairs, against what must never count, and against one who
repeats a pair."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients import transitions as memory
from clients.data import leave_one_out
from clients.data.sequences import Sequences
from clients.transitions import DECAY, WINDOW, transition_scores, transitions

ITEMS = 9


def split_of(baskets_of_shoppers):
    """Make a split from each shopper's baskets, which are lists of items."""
    items = [i for baskets in baskets_of_shoppers for basket in baskets for i in basket]
    groups = [n for baskets in baskets_of_shoppers for n, basket in enumerate(baskets) for _ in basket]
    lengths = [sum(map(len, baskets)) for baskets in baskets_of_shoppers]
    names = tuple(f"u{n:03}" for n in range(len(baskets_of_shoppers)))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    sequences = Sequences(names, np.array(items, np.int64), np.array(groups, np.int64), offsets)
    return leave_one_out(sequences, first_time_only=True, seed=0)


def by_hand(split, which):
    counts = np.zeros((ITEMS, ITEMS))
    holders = np.zeros(ITEMS)
    for u in range(len(split.sequences)):
        items, groups = split.history(which, u)
        for item in set(items.tolist()):
            holders[item] += 1
        own = np.zeros((ITEMS, ITEMS))
        for a in range(len(items)):
            for b in range(a + 1, min(a + WINDOW + 1, len(items))):
                if items[a] != items[b]:
                    weight = max(int(groups[b] - groups[a]), 1) ** -0.5
                    for one, other in ((items[a], items[b]), (items[b], items[a])):
                        own[one, other] = max(own[one, other], weight)
        counts += own
    holders = np.maximum(holders, 1)
    return counts / holders[:, None] ** 0.5 / holders[None, :] ** 0.25


baskets = st.lists(
    st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=4, unique=True), min_size=1, max_size=9
)


@given(st.lists(baskets, min_size=1, max_size=6), st.sampled_from(["train", "valid", "test"]))
def test_transitions_equal_a_loop_over_pairs(shoppers, which):
    split = split_of(shoppers)
    np.testing.assert_allclose(transitions(split, which, ITEMS).toarray(), by_hand(split, which), rtol=1e-5)


@given(st.lists(baskets, min_size=1, max_size=6), st.integers(1, 9))
def test_blocks_of_shoppers_do_not_matter(shoppers, events):
    split = split_of(shoppers)
    whole = transitions(split, "test", ITEMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "_EVENTS", events)
        np.testing.assert_allclose(transitions(split, "test", ITEMS).toarray(), whole.toarray(), rtol=1e-6)


@given(st.lists(baskets, min_size=1, max_size=6), st.data())
def test_one_shopper_counts_at_most_one_for_a_pair(shoppers, data):
    """Whoever is removed, and however often they repeat something: no pair loses more than 1, before scaling."""
    who = data.draw(st.integers(0, len(shoppers) - 1))
    shoppers[who] = shoppers[who] * data.draw(st.integers(1, 10))
    split, rest = split_of(shoppers), split_of([*shoppers[:who], [], *shoppers[who + 1 :]])
    lost = unscaled(split) - unscaled(rest)
    assert lost.max(initial=0) <= 1 + 1e-5
    assert lost.min(initial=0) >= -1e-5
    popular = split.holders("test", ITEMS) - rest.holders("test", ITEMS)
    assert popular.max() <= 1


def unscaled(split):
    holders = np.maximum(split.holders("test", ITEMS).astype(np.float64), 1)
    return transitions(split, "test", ITEMS).toarray() * holders[:, None] ** 0.5 * holders[None, :] ** 0.25


@given(st.lists(baskets, min_size=1, max_size=6))
def test_scores_sum_the_recent_items_rows(shoppers):
    split = split_of(shoppers)
    matrix = transitions(split, "test", ITEMS)
    items, ages = split.padded("test", 5)
    got = transition_scores(matrix, items, ages)
    dense = matrix.toarray().astype(np.float64)
    for row, (history, age) in enumerate(zip(items, ages, strict=True)):
        expected = sum(
            (np.exp(-DECAY * g) * dense[i] for i, g in zip(history, age, strict=True) if i >= 0),
            np.zeros(ITEMS),
        )
        np.testing.assert_allclose(got[row], expected, rtol=1e-4, atol=1e-6)


def test_what_is_held_out_never_counts():
    """Only the held-out events join items 0 and 8: validation may not see the pair, the test sees the first."""
    split = split_of([[[0], [1], [8], [7]]] * 3)
    before_valid = transitions(split, "valid", ITEMS).toarray()
    before_test = transitions(split, "test", ITEMS).toarray()
    assert before_valid[0, 1] > 0
    assert before_valid[:, 8].max() == 0
    assert before_test[0, 8] > 0
    assert before_test[:, 7].max() == 0


@pytest.mark.parametrize("shoppers", [[[[3]]], [[[3]], [[4]]], [[[2], [2], [2]]]])
def test_without_pairs_there_is_nothing(shoppers):
    assert transitions(split_of(shoppers), "test", ITEMS).nnz == 0


def test_pairs_further_apart_than_the_window_do_not_count():
    long = [[0], *[[1]] * WINDOW, [2], [3], [4]]
    matrix = transitions(split_of([long]), "valid", ITEMS).toarray()
    assert matrix[0, 2] == 0
    assert matrix[1, 2] > 0
