"""Views of the sequences against loops over one shopper at a time."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clients.data.sequences import Sequences
from clients.data.views import first_purchases, single_events

BASKETS = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=4), max_size=6)
SHOPPERS = st.lists(BASKETS, min_size=1, max_size=5)


def build(shoppers):
    """Make sequences from each shopper's baskets."""
    items = [i for baskets in shoppers for basket in baskets for i in basket]
    groups = [g for baskets in shoppers for g, basket in enumerate(baskets) for _ in basket]
    lengths = [sum(map(len, baskets)) for baskets in shoppers]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    names = tuple(f"u{n}" for n in range(len(shoppers)))
    return Sequences(names, np.array(items, np.int64), np.array(groups, np.int64), offsets)


def pairs(sequences, u):
    return [tuple(map(int, pair)) for pair in zip(*sequences.user(u), strict=True)]


@given(SHOPPERS)
def test_first_purchases_keeps_each_item_s_first_event(shoppers):
    sequences = build(shoppers)
    got = first_purchases(sequences)
    assert got.user_ids == sequences.user_ids
    for u in range(len(shoppers)):
        met, expected = set(), []
        for item, group in pairs(sequences, u):
            if item not in met:
                met.add(item)
                expected.append((item, group))
        assert pairs(got, u) == expected


@given(SHOPPERS)
def test_single_events_are_groups_of_their_own_in_order(shoppers):
    sequences = build(shoppers)
    got = single_events(sequences)
    for u in range(len(shoppers)):
        assert pairs(got, u) == [(item, n) for n, (item, _) in enumerate(pairs(sequences, u))]


@given(SHOPPERS, st.data())
def test_a_view_of_one_shopper_does_not_depend_on_another(shoppers, data):
    sequences = build(shoppers)
    gone = data.draw(st.sampled_from(sequences.user_ids))
    for view in (first_purchases, single_events, lambda s: single_events(first_purchases(s))):
        before, after = view(sequences).without(gone), view(sequences.without(gone))
        assert before.fingerprint() == after.fingerprint()
