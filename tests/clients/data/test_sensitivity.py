"""Removing one shopper changes nothing of another's, byte for byte, from the raw rows to the split."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clients.data import (
    InteractionColumns,
    Sequences,
    build_catalogue,
    build_sequences,
    clean_interactions,
    interactions_table,
    items_table,
    leave_one_out,
    load_platform,
    read_interactions,
)
from clients.errors import DataError

ITEMS = pd.DataFrame({"item_id": list("abcdefgh"), "title": [f"title {i}" for i in "abcdefgh"]})
CATALOGUE = build_catalogue(items_table(ITEMS))[0]
MAPPING = {"basket": "basket", "event": "event", "value": "value"}
EVENTS = InteractionColumns(**MAPPING)
GOOD_TIMES = [
    *("1", "2", "3", "2.5", "4e0", 7, "1577836800"),
    *("2020-01-01", "2020-01-01T00:00:00+01:00", "2020-01-01 00:00:00.1234567899"),
]
ODD_TIMES = ["9999-12-31", "0001-01-01", 2**60, "1e12", "-5", "inf", "today", "", None]
Row = tuple[object, ...]


def rows_of(*choices: list) -> st.SearchStrategy:
    """Rows of (user, item, time, basket, event, value)."""
    return st.tuples(*map(st.sampled_from, choices))


good = rows_of(
    ["u", "v", " v", "w", 7], [*"abcdefgh", " a"], GOOD_TIMES, ["1", "2", "", 3], ["buy"], ["1", "", 1.5]
)
odd = rows_of(
    ["u", "v", "007", "7", "", None],
    ["a", "b", "zz", "", None],
    [*GOOD_TIMES[:3], *ODD_TIMES],
    ["1", None],
    ["buy", "view", None],
    ["1", "many", "inf", None],
)
tables = st.lists(st.one_of(good, good, good, odd), min_size=8, max_size=30)


def prepare(rows: pd.DataFrame | Path) -> Sequences:
    """The whole way from raw rows or a file to sequences (the catalogue, which is public, is built once)."""
    table = (
        interactions_table(rows, EVENTS)
        if isinstance(rows, pd.DataFrame)
        else read_interactions(rows, EVENTS)
    )
    kept, _ = clean_interactions(table, CATALOGUE, events=["buy"], min_events=2, now=2e9)
    return build_sequences(kept, CATALOGUE, seed=3)


def prepare_k_core(rows: pd.DataFrame) -> Sequences:
    """The same with the filter that looks at all shoppers."""
    return load_platform(
        rows, ITEMS, MAPPING, seed=3, events=["buy"], min_events=2, now=2e9, k_core=2
    ).sequences


def everything(sequences: Sequences) -> dict[str, tuple[bytes, ...]]:
    """All that is computed for each shopper, as bytes, with offsets relative to the shopper's own start."""
    out: dict[str, list[bytes]] = {
        name: [part.tobytes() for part in sequences.user(u)] for u, name in enumerate(sequences.user_ids)
    }
    for first_time_only in (False, True):
        split = leave_one_out(sequences, first_time_only=first_time_only, seed=5)
        starts = sequences.offsets[:-1]
        per_shopper = [
            split.train_end - starts,
            split.valid_end - starts,
            split.valid_target,
            split.test_target,
        ]
        for which in ("train", "valid", "test"):
            per_shopper += split.padded(which, 4)
            indptr, indices = split.seen(which)
            for u, name in enumerate(sequences.user_ids):
                out[name].append(indices[indptr[u] : indptr[u + 1]].tobytes())
        for u, name in enumerate(sequences.user_ids):
            out[name] += [np.ascontiguousarray(array[u]).tobytes() for array in per_shopper]
    return {name: tuple(parts) for name, parts in out.items()}


def shopper(raw: object) -> str:
    return "" if raw is None else str(raw).strip()


def frame_of(rows: list[Row]) -> pd.DataFrame:
    names = ["user_id", "item_id", "timestamp", "basket", "event", "value"]
    return pd.DataFrame(rows, columns=names, dtype=object)


def changed_by_removal(rows: list[Row], way: Callable[[pd.DataFrame], Sequences] = prepare) -> list[str]:
    """The shoppers with something that another's removal changes."""
    try:
        before = everything(way(frame_of(rows)))
    except DataError:
        return []
    changed = []
    for gone in {shopper(row[0]) for row in rows}:
        rest = [row for row in rows if shopper(row[0]) != gone]
        try:
            after = everything(way(frame_of(rest)))
        except DataError:  # nothing is left
            after = {}
        expected = {name: parts for name, parts in before.items() if name != gone}
        changed += [name for name in expected | after if expected.get(name) != after.get(name)]
    return changed


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables)
def test_removing_a_shopper_changes_no_other(rows: list[Row]) -> None:
    assert changed_by_removal(rows) == []


def dense(seed: int, events: int) -> list[Row]:
    """Rows most of which survive cleaning, so that baskets and ties are common."""
    rng = np.random.default_rng(seed)
    users, items = rng.choice(list("uvwxyz"), events), rng.choice(list("abcdefgh"), events)
    baskets = rng.integers(0, 8, events)
    return [
        (str(u), str(i), str(b // 2), str(b), "buy", "1")
        for u, i, b in zip(users, items, baskets, strict=True)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_removing_a_shopper_with_full_baskets_changes_no_other(seed: int) -> None:
    rows = dense(seed, 150)
    assert len(prepare(frame_of(rows))) == 6
    assert changed_by_removal(rows) == []


def test_removing_a_shopper_from_the_file_changes_no_other(tmp_path: Path) -> None:
    frame = frame_of([*dense(7, 120), ("x", "a", "2020-01-01T00:00:00.123456789", "9", "buy", "x,y")])
    frame.to_csv(tmp_path / "all.csv", index=False)
    before = everything(prepare(tmp_path / "all.csv"))
    for gone in list(before):
        frame[frame["user_id"] != gone].to_csv(tmp_path / "rest.csv", index=False)
        after = everything(prepare(tmp_path / "rest.csv"))
        assert after == {name: parts for name, parts in before.items() if name != gone}


def test_the_k_core_does_mix_shoppers_which_is_why_it_taints() -> None:
    rows: list[Row] = [
        (user, item, str(n), str(n), "buy", "1") for user in "uv" for n, item in enumerate("abc")
    ]
    assert changed_by_removal(rows) == []
    assert sorted(changed_by_removal(rows, prepare_k_core)) == ["u", "v"]
    tainted = load_platform(frame_of(rows), ITEMS, MAPPING, seed=0, k_core=2)
    assert tainted.tainted is True
    assert load_platform(frame_of(rows), ITEMS, MAPPING, seed=0).tainted is False


def test_the_order_of_rows_changes_nothing() -> None:
    frame = frame_of(dense(1, 150))
    before = everything(prepare(frame))
    for seed in range(3):
        assert everything(prepare(frame.sample(frac=1, random_state=seed))) == before
