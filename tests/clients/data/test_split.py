"""Leave-one-out by group against a naive reference, one shopper at a time."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.data import Catalogue, Sequences, build_sequences, interactions_table, leave_one_out
from clients.data.split import Part

PARTS: tuple[Part, ...] = ("train", "valid", "test")


def sequences_of(*shoppers: list[list[int]]) -> Sequences:
    """Shoppers as lists of baskets of catalogue rows."""
    items = [item for baskets in shoppers for basket in baskets for item in basket]
    groups = [g for baskets in shoppers for g, basket in enumerate(baskets) for _ in basket]
    lengths = [sum(map(len, baskets)) for baskets in shoppers]
    names = tuple(f"u{n:02d}" for n in range(len(shoppers)))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Sequences(names, np.array(items, dtype=np.int64), np.array(groups, dtype=np.int64), offsets)


def held_out(baskets: list[list[int]], first_time_only: bool) -> list[tuple[int, set[int]]]:
    """Naive: (ordinal, eligible items) of each group that may be held out, in order."""
    out, seen = [], set(baskets[0])
    for ordinal, basket in list(enumerate(baskets))[1:]:
        eligible = set(basket) - (seen if first_time_only else set())
        if eligible:
            out.append((ordinal, eligible))
        seen |= set(basket)
    return out


shoppers = st.lists(
    st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=4), min_size=1, max_size=6),
    min_size=1,
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(shoppers, st.booleans(), st.integers(0, 3))
def test_every_part_equals_the_naive_reference(
    data: list[list[list[int]]], first_time_only: bool, seed: int
) -> None:
    sequences = sequences_of(*data)
    split = leave_one_out(sequences, first_time_only=first_time_only, seed=seed)
    for u, baskets in enumerate(data):
        held = held_out(baskets, first_time_only)
        until = {part: len(baskets) for part in PARTS}
        targets: dict[str, set[int]] = {"valid": {-1}, "test": {-1}}
        if held:
            until = dict.fromkeys(PARTS, held[-1][0])
            targets["test"] = held[-1][1]
        if len(held) > 1:
            until |= dict.fromkeys(("train", "valid"), held[-2][0])
            targets["valid"] = held[-2][1]
        assert split.test_target[u] in targets["test"]
        assert split.valid_target[u] in targets["valid"]
        for part in PARTS:
            items, groups = split.history(part, u)
            assert items.tolist() == [i for basket in baskets[: until[part]] for i in basket]
            assert groups.tolist() == [g for g, basket in enumerate(baskets[: until[part]]) for _ in basket]
            indptr, indices = split.seen(part)
            assert indices[indptr[u] : indptr[u + 1]].tolist() == sorted(set(items.tolist()))
            rows, ages = split.padded(part, 5)
            tail = items.tolist()[-5:]
            assert rows[u].tolist() == [-1] * (5 - len(tail)) + tail
            assert ages[u].tolist() == [0] * (5 - len(tail)) + [until[part] - g for g in groups.tolist()[-5:]]


def test_positions_give_plain_leave_one_out() -> None:
    rng = np.random.default_rng(0)
    ids = tuple(f"i{n}" for n in range(50))
    catalogue = Catalogue(ids, pd.DataFrame({"title": ids}))
    frame = pd.concat(
        pd.DataFrame({"user_id": f"u{u}", "item_id": rng.choice(ids, n), "pos": range(n)})
        for u, n in enumerate(rng.integers(1, 9, 60))
    ).sample(frac=1, random_state=0)
    table = interactions_table(frame)
    split = leave_one_out(build_sequences(table, catalogue, seed=0), first_time_only=False, seed=0)
    for u, name in enumerate(split.sequences.user_ids):
        mine = frame[frame["user_id"] == name].sort_values("pos")["item_id"]
        rows = catalogue.index_of(mine).tolist()
        assert split.test_target[u] == (rows[-1] if len(rows) > 1 else -1)
        assert split.valid_target[u] == (rows[-2] if len(rows) > 2 else -1)
        assert split.test_history(u)[0].tolist() == (rows[:-1] if len(rows) > 1 else rows)
        assert split.train_history(u)[0].tolist() == rows[: max(1, len(rows) - 2)]


def test_first_time_only_skips_groups_without_a_new_item() -> None:
    split = leave_one_out(sequences_of([[0], [1], [2, 0], [1, 0], [2]]), first_time_only=True, seed=0)
    assert (split.valid_target[0], split.test_target[0]) == (1, 2)
    assert split.train_history(0)[0].tolist() == [0]
    assert split.test_history(0)[0].tolist() == [0, 1]


def test_a_shopper_of_one_group_is_never_held_out() -> None:
    split = leave_one_out(sequences_of([[3, 4]]), first_time_only=False, seed=0)
    assert (split.valid_target[0], split.test_target[0]) == (-1, -1)
    assert split.train_history(0)[0].tolist() == split.test_history(0)[0].tolist() == [3, 4]


def test_the_choice_within_a_group_changes_with_the_seed_and_the_shopper() -> None:
    sequences = sequences_of(*[[[9], [0, 1, 2, 3]]] * 40)
    first, second = (leave_one_out(sequences, first_time_only=True, seed=s).test_target for s in (0, 1))
    assert set(first) == {0, 1, 2, 3}
    assert (first != second).any()


def test_no_shoppers_at_all() -> None:
    split = leave_one_out(sequences_of(), first_time_only=True, seed=0)
    assert split.test_target.shape == (0,)
    assert split.padded("test", 3)[0].shape == (0, 3)
    assert split.seen("test")[0].tolist() == [0]


@pytest.mark.parametrize("part", PARTS)
def test_shapes_and_dtypes(part: Part) -> None:
    split = leave_one_out(sequences_of([[0], [1], [2]], [[1]]), first_time_only=True, seed=0)
    arrays = [*split.padded(part, 4), *split.seen(part), split.train_end, split.valid_end, split.test_target]
    assert {array.dtype for array in arrays} == {np.dtype(np.int64)}
    assert split.padded(part, 4)[0].shape == (2, 4)
