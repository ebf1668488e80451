"""The benchmark of a table shared within one trade, on made-up shops."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.same_trade.__main__ import finished_cells, main
from benchmarks.same_trade.report import CellKey
from benchmarks.same_trade.study import Size
from benchmarks.same_trade.trade import Range, cut, selling
from benchmarks.transfer.platforms import Platforms
from benchmarks.transfer.quick import quick_recipe, quick_study, write_shops
from clients.platform import Platform


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    study = quick_study()
    return Platforms(study, quick_recipe(), write_shops(tmp_path_factory.mktemp("shops"), study)).loaded[
        "alpha"
    ]


@pytest.mark.parametrize("sold", list(Range))
def test_a_trade_is_cut_into_other_shoppers_and_the_items_asked_for(platform: Platform, sold: Range) -> None:
    trade = cut(platform, sold, judged=60, shots=20, seed=3)
    large, small = (set(p.split.sequences.user_ids) for p in (trade.large, trade.served))
    assert not large & small
    assert len(small) == 60
    assert set(trade.own.split.sequences.user_ids) < small
    assert len(trade.own) == 20
    items = [set(p.catalogue.item_ids) for p in (trade.large, trade.served)]
    whole = set(platform.catalogue.item_ids)
    if sold is Range.same:
        assert items == [whole, whole]
    elif sold is Range.apart:
        assert not items[0] & items[1]
        assert items[0] | items[1] == whole
    else:
        assert 0 < len(items[0] & items[1]) < len(items[0])


@given(st.lists(st.booleans(), min_size=120, max_size=120).filter(any))
@settings(max_examples=20, deadline=None)
def test_what_is_not_sold_was_never_bought_and_the_rest_keeps_its_order(
    platform: Platform, kept: list[bool]
) -> None:
    less = selling(platform, np.array(kept))
    old, new = platform.split.sequences, less.split.sequences
    for user in range(0, len(old), 40):
        expected = [platform.catalogue.item_ids[i] for i in old.user(user)[0] if kept[i]]
        items, groups = new.user(user)
        assert [less.catalogue.item_ids[i] for i in items] == expected
        assert groups.tolist() == list(range(len(expected)))  # one event a group in these shops
    assert less.features.equal(platform.features[np.flatnonzero(kept)])


def test_quick_prints_every_way_and_a_gain_of_none_where_nobody_joined(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = [
        "--quick",
        "--seeds",
        "1",
        "--trade",
        "alpha",
        "--sold",
        "same",
        "--epsilon",
        "8",
        "--format",
        "json",
    ]
    assert main(asked) == 0
    rows = json.loads(capsys.readouterr().out)["cells"]
    assert [row["way"] for row in rows] == ["alone", "not private", "ε = 8"]
    assert rows[0]["gains"] == [0.0]
    assert all(0 < row["ndcg@10"] < row["recall@10"] < 1 for row in rows)


def test_finished_cells_are_not_run_again(platform: Platform, tmp_path: Path) -> None:
    keys: list[CellKey] = [("alpha", Range.same, 0)]
    first = finished_cells({"alpha": platform}, keys, Size(60, 20, 16), [8.0], tmp_path)
    (kept,) = tmp_path.glob("alpha-same-0-*.json")
    kept.write_text(json.dumps(first[keys[0]] | {"large": -1}), encoding="utf-8")
    assert (
        finished_cells({"alpha": platform}, keys, Size(60, 20, 16), [8.0], tmp_path)[keys[0]]["large"] == -1
    )
    kept.write_text("{", encoding="utf-8")
    assert finished_cells({"alpha": platform}, keys, Size(60, 20, 16), [8.0], tmp_path) == first


def test_a_missing_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path / "nothing"), "--trade", "beauty"]) == 2
    assert "nothing" in capsys.readouterr().err


def test_an_unknown_trade_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--trade", "cars"]) == 2
    assert "cars" in capsys.readouterr().err
