"""Weights of events: what they change in the local layer and in training, and what they must never change."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.data import load_store
from clients.data.ingest import ingest
from clients.data.sequences import Sequences, concatenated
from clients.data.sources import FilesSource
from clients.data.split import Split
from clients.data.store import open_store
from clients.data.views import first_purchases, single_events
from clients.transitions import WINDOW, transitions

ITEMS = 6
NOW = 1_700_000_000.0
histories = st.lists(
    st.lists(
        st.tuples(st.integers(0, ITEMS - 1), st.sampled_from([0.1, 0.5, 1.0, 3.0])), min_size=1, max_size=8
    ),
    min_size=1,
    max_size=5,
)


def sequences_of(shoppers, *, weighted: bool = True) -> Sequences:
    """Each shopper's (item, weight) in order, every event a basket of its own."""
    events = [event for shopper in shoppers for event in shopper]
    lengths = [len(shopper) for shopper in shoppers]
    return Sequences(
        tuple(f"u{n}" for n in range(len(shoppers))),
        np.array([item for item, _ in events], dtype=np.int64),
        np.concatenate([np.arange(n) for n in lengths]).astype(np.int64),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.array([weight for _, weight in events], dtype=np.float32) if weighted else None,
    )


def whole(sequences: Sequences) -> Split:
    none = np.full(len(sequences), -1, dtype=np.int64)
    return Split(sequences, sequences.offsets[1:], sequences.offsets[1:], none, none)


@given(histories)
def test_popularity_counts_shoppers_by_their_weightiest_event_and_at_most_one(shoppers):
    expected = np.zeros(ITEMS)
    for shopper in shoppers:
        for item in range(ITEMS):
            expected[item] += min(max((weight for had, weight in shopper if had == item), default=0.0), 1)
    got = whole(sequences_of(shoppers)).holders("test", ITEMS)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@given(histories)
def test_pairs_count_by_the_product_of_their_weights_and_at_most_one_a_shopper(shoppers):
    counts = np.zeros((ITEMS, ITEMS))
    for shopper in shoppers:
        own = np.zeros((ITEMS, ITEMS))
        for a, (one, weight) in enumerate(shopper):
            for b in range(a + 1, min(a + WINDOW + 1, len(shopper))):
                other, with_it = shopper[b]
                if one != other:
                    value = min(weight * with_it * (b - a) ** -0.5, 1)
                    own[one, other] = own[other, one] = max(own[one, other], value)
        counts += own
    split = whole(sequences_of(shoppers))
    holders = np.maximum(split.holders("test", ITEMS).astype(np.float64), 1)
    expected = counts / holders[:, None] ** 0.5 / holders[None, :] ** 0.25
    np.testing.assert_allclose(transitions(split, "test", ITEMS).toarray(), expected, rtol=1e-5)


@given(histories)
def test_weights_of_one_change_nothing(shoppers):
    shoppers = [[(item, 1.0) for item, _ in shopper] for shopper in shoppers]
    plain, ones = (whole(sequences_of(shoppers, weighted=w)) for w in (False, True))
    assert np.array_equal(plain.holders("test", ITEMS), ones.holders("test", ITEMS))
    assert (transitions(plain, "test", ITEMS) != transitions(ones, "test", ITEMS)).nnz == 0


@given(histories, st.data())
def test_weights_stay_beside_their_events(shoppers, data):
    """Whatever is done with sequences, an event keeps its weight: here each item's weight tells which it was."""
    shoppers = [[(item, 1.0 + item) for item, _ in shopper] for shopper in shoppers]
    sequences = sequences_of(shoppers)
    chosen = data.draw(st.permutations(range(len(shoppers))))
    padded, _ = whole(sequences).padded("test", 4)
    at = whole(sequences).padded_weights("test", 4)
    assert np.array_equal(at, np.where(padded >= 0, padded + 1, 1))
    for made in (
        sequences.take(chosen),
        first_purchases(sequences),
        single_events(sequences),
        concatenated([sequences.take([u]) for u in chosen]),
    ):
        assert np.array_equal(made.event_weights, made.items + 1)


@pytest.fixture
def ingested(tmp_path):
    """Ingest rows of (shopper, item, time, kind) with weights, and return the store's sequences."""
    store = open_store(tmp_path / "store", shards=3)
    items = pd.DataFrame({"item_id": list("abcd"), "title": list("abcd")})

    def ingest_rows(rows, weights) -> Sequences:
        pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "kind"]).to_parquet(
            tmp_path / "e.parquet"
        )
        source = FilesSource(
            type="files", path=tmp_path / "e.parquet", columns={"event": "kind"}, weights=weights
        )
        ingest(store, {"shop": source}, None, now=NOW, full=True)
        return load_store(store, items, seed=0, min_events=1).sequences

    return ingest_rows


ROWS = [
    ("anna", "a", 1, "view"),
    ("anna", "b", 2, "purchase"),
    ("ben", "c", 3, "view"),
    ("ben", "c", 4, "purchase"),
    ("cleo", "d", 1, "purchase"),
]


def test_the_store_s_weights_reach_the_sequences_and_their_fingerprint(ingested):
    sequences = ingested(ROWS, {"view": 0.25, "purchase": 1.0})
    assert sequences.user_ids == ("anna", "ben", "cleo")
    assert sequences.event_weights.tolist() == [0.25, 1.0, 0.25, 1.0, 1.0]
    plain = dataclasses.replace(sequences, weights=None)
    assert plain.fingerprint() != sequences.fingerprint()
    assert sequences.without("anna").event_weights.tolist() == [0.25, 1.0, 1.0]


def test_changed_weights_replace_the_old_ones_and_double_nothing(ingested):
    ingested(ROWS, {"view": 0.25, "purchase": 1.0})
    again = ingested(ROWS, {"view": 0.5, "purchase": 0.75})
    assert again.event_weights.tolist() == [0.5, 0.75, 0.5, 0.75, 0.75]


def test_without_weights_nothing_is_kept_for_them(ingested):
    assert ingested(ROWS, {}).weights is None
