"""Sequences: time order, groups, and an order inside baskets that the file cannot influence."""

import numpy as np
import pandas as pd
import pytest

from clients.data import (
    Catalogue,
    InteractionColumns,
    Sequences,
    build_sequences,
    interactions_table,
    leave_one_out,
)
from clients.errors import DataError

BASKET = InteractionColumns(basket="basket")


def build(
    catalogue: Catalogue, frame: pd.DataFrame, columns: InteractionColumns | None = None, seed: int = 0
) -> Sequences:
    return build_sequences(interactions_table(frame, columns), catalogue, seed=seed)


def same(one: Sequences, other: Sequences) -> bool:
    return one.fingerprint() == other.fingerprint()


def test_events_are_in_time_order_per_shopper(letters: Catalogue) -> None:
    frame = pd.DataFrame(
        {
            "user_id": ["v", "u", "u", "v", "u"],
            "item_id": list("abcde"),
            "timestamp": [9, 3, 1, 4, 2],
        }
    )
    sequences = build(letters, frame)
    assert sequences.user_ids == ("u", "v")
    assert sequences.items.tolist() == [2, 4, 1, 3, 0]
    assert sequences.groups.tolist() == [0, 1, 2, 0, 1]
    assert sequences.offsets.tolist() == [0, 3, 5]
    assert {a.dtype for a in (sequences.items, sequences.groups, sequences.offsets)} == {np.dtype(np.int64)}
    assert [part.tolist() for part in sequences.user(1)] == [[3, 0], [0, 1]]


def test_equal_times_are_one_group_unless_they_are_positions(letters: Catalogue) -> None:
    frame = pd.DataFrame({"user_id": "u", "item_id": list("abcd"), "when": [5, 5, 7, 7]})
    assert build(letters, frame, InteractionColumns(order="when")).groups.tolist() == [0, 0, 1, 1]
    positions = InteractionColumns(order="when", order_unit="position")
    assert build(letters, frame, positions).groups.tolist() == [0, 1, 2, 3]
    assert build(letters, frame.rename(columns={"when": "pos"})).groups.tolist() == [0, 1, 2, 3]


def test_a_basket_stands_at_its_earliest_event(letters: Catalogue) -> None:
    frame = pd.DataFrame(
        {
            "user_id": "u",
            "item_id": list("abcde"),
            "timestamp": [1, 2, 3, 4, 4],
            "basket": ["x", "y", "x", None, None],
        }
    )
    sequences = build(letters, frame, BASKET)
    assert sequences.groups.tolist() == [0, 0, 1, 2, 2]
    assert set(sequences.items[:2]) == {0, 2}
    assert sequences.items[2] == 1
    assert set(sequences.items[3:]) == {3, 4}


def test_baskets_at_the_same_time_stay_apart(letters: Catalogue) -> None:
    frame = pd.DataFrame(
        {"user_id": "u", "item_id": list("abcd"), "timestamp": 1, "basket": ["x", "y", "x", "y"]}
    )
    sequences = build(letters, frame, BASKET)
    assert sequences.groups.tolist() == [0, 0, 1, 1]
    assert {frozenset(sequences.items[:2].tolist()), frozenset(sequences.items[2:].tolist())} == {
        frozenset({0, 2}),
        frozenset({1, 3}),
    }


def test_one_basket_id_of_two_shoppers_is_two_baskets(letters: Catalogue) -> None:
    frame = pd.DataFrame(
        {
            "user_id": ["u", "v", "u"],
            "item_id": list("abc"),
            "timestamp": [5, 1, 3],
            "basket": ["x", "x", "y"],
        }
    )
    sequences = build(letters, frame, BASKET)
    assert sequences.items.tolist() == [2, 0, 1]  # u's x stays at 5, whatever v does


@pytest.mark.parametrize("columns", [BASKET, None, InteractionColumns(order="basket", order_unit="position")])
def test_the_order_of_rows_in_the_file_means_nothing(
    letters: Catalogue, columns: InteractionColumns | None
) -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "user_id": rng.choice(list("uvw"), 200),
            "item_id": rng.choice(list("abcdefghij"), 200),
            "timestamp": rng.integers(0, 12, 200),
        }
    )
    frame["basket"] = frame["timestamp"] // 2
    base = build(letters, frame, columns)
    assert len(base.items) == 200
    for n in range(5):
        assert same(base, build(letters, frame.sample(frac=1, random_state=n), columns))


def test_the_seed_decides_the_order_inside_a_basket(letters: Catalogue) -> None:
    frame = pd.DataFrame({"user_id": "u", "item_id": list("abcdefghij"), "timestamp": 1})
    orders = {tuple(build(letters, frame, seed=seed).items.tolist()) for seed in range(5)}
    assert len(orders) == 5
    assert all(sorted(order) == list(range(10)) for order in orders)


def test_two_shoppers_with_one_basket_get_different_orders(letters: Catalogue) -> None:
    frame = pd.DataFrame({"item_id": list("abcdefghij"), "timestamp": 1})
    sequences = build(letters, pd.concat([frame.assign(user_id="u"), frame.assign(user_id="v")]))
    assert sequences.user(0)[0].tolist() != sequences.user(1)[0].tolist()


def test_a_target_that_is_always_last_in_its_basket_does_not_show() -> None:
    """Rows inside a basket are sorted so that the last one is the answer: it must come out no more often."""
    rng = np.random.default_rng(0)
    ids = [f"i{n:02d}" for n in range(60)]
    catalogue = Catalogue(tuple(ids), pd.DataFrame({"title": ids}))
    baskets = [
        {"user_id": f"u{u}", "item_id": ids[i], "timestamp": b, "basket": b}
        for u in range(800)
        for b in range(4)
        for i in sorted(rng.choice(60, 4, replace=False))
    ]
    frame = pd.DataFrame(baskets)
    split = leave_one_out(build(catalogue, frame, BASKET), first_time_only=False, seed=0)
    last_row = frame[frame["basket"] == 3].groupby("user_id")["item_id"].last()
    answers = catalogue.index_of(last_row.loc[list(split.sequences.user_ids)])
    assert 0.2 < np.mean(split.test_target == answers) < 0.3
    shuffled = build(catalogue, frame.sample(frac=1, random_state=3), BASKET)
    again = leave_one_out(shuffled, first_time_only=False, seed=0)
    assert same(split.sequences, shuffled)
    np.testing.assert_array_equal(split.test_target, again.test_target)
    np.testing.assert_array_equal(split.valid_target, again.valid_target)


def test_take_and_without(letters: Catalogue) -> None:
    frame = pd.DataFrame({"user_id": list("uvwuvw"), "item_id": list("abcdef"), "pos": [0, 0, 0, 1, 1, 1]})
    sequences = build(letters, frame)
    taken = sequences.take([2, 0])
    assert taken.user_ids == ("w", "u")
    assert taken.items.tolist() == [2, 5, 0, 3]
    assert taken.groups.tolist() == [0, 1, 0, 1]
    assert taken.offsets.tolist() == [0, 2, 4]
    assert same(sequences.without("v"), build(letters, frame[frame["user_id"] != "v"]))
    assert len(sequences.take([])) == 0
    with pytest.raises(KeyError):
        sequences.without("nobody")


@pytest.mark.parametrize("fault", [{"item_id": ["zz"]}, {"user_id": [None]}, {"timestamp": [None]}])
def test_uncleaned_rows_are_refused(letters: Catalogue, fault: dict[str, list[object]]) -> None:
    frame = pd.DataFrame({"user_id": ["u"], "item_id": ["a"], "timestamp": [1]}).astype(object)
    with pytest.raises(DataError, match="call clean_interactions first"):
        build(letters, frame.assign(**fault))
