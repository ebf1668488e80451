"""Removing one shopper changes nothing of another's, byte for byte, from the raw rows to the split."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clients.data import PlatformData, leave_one_out, load_platform
from clients.errors import DataError

ITEMS = pd.DataFrame({"item_id": list("abcdefgh"), "title": [f"title {i}" for i in "abcdefgh"]})
MAPPING = {"basket": "basket", "event": "event", "value": "value"}
TIMES = [
    *("1", "2", "3", "2.5", "4e0", 7, 2**60, "1577836800", "1e12", "-5", "inf", "today", "", None),
    *("2020-01-01", "2020-01-01T00:00:00+01:00", "2020-01-01 00:00:00.1234567899"),
    *("9999-12-31", "0001-01-01"),
]
Row = tuple[object, ...]

row = st.tuples(
    st.sampled_from(["u", "u", "v", " v", "w", "007", "7", "", None, 7]),
    st.sampled_from([*"abcdefghabcdefgh", " a", "zz", "", None]),
    st.sampled_from(TIMES),
    st.sampled_from(["1", "2", "3", "", None, 3]),
    st.sampled_from(["buy", "buy", "buy", "buy", "view", None]),
    st.sampled_from(["1", "2.5", "3", "", None, 1.5, "many", "inf"]),
)


def prepare(rows: pd.DataFrame | Path, k_core: int | None = None) -> PlatformData:
    return load_platform(rows, ITEMS, MAPPING, seed=3, events=["buy"], min_events=2, now=2e9, k_core=k_core)


def everything(data: PlatformData) -> dict[str, tuple[bytes, ...]]:
    """All that is computed for each shopper, as bytes, with offsets relative to the shopper's own start."""
    sequences = data.sequences
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


def changed_by_removal(rows: list[Row], k_core: int | None = None) -> list[str]:
    """The shoppers with something that another's removal changes."""
    try:
        before = everything(prepare(frame_of(rows), k_core))
    except DataError:
        return []
    changed = []
    for gone in {shopper(row[0]) for row in rows}:
        rest = [row for row in rows if shopper(row[0]) != gone]
        try:
            after = everything(prepare(frame_of(rest), k_core))
        except DataError:  # nothing is left
            after = {}
        expected = {name: parts for name, parts in before.items() if name != gone}
        changed += [name for name in expected | after if expected.get(name) != after.get(name)]
    return changed


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(row, min_size=2, max_size=40))
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
    assert len(prepare(frame_of(rows)).sequences) == 6
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
    assert sorted(changed_by_removal(rows, k_core=2)) == ["u", "v"]
    assert prepare(frame_of(rows), k_core=2).tainted is True


def test_the_order_of_rows_changes_nothing() -> None:
    frame = frame_of(dense(1, 150))
    before = everything(prepare(frame))
    for seed in range(3):
        assert everything(prepare(frame.sample(frac=1, random_state=seed))) == before
