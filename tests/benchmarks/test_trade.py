"""The benchmark of a product table within one trade, on made-up shops."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.trade import report
from benchmarks.trade.__main__ import main, public_edges
from benchmarks.trade.shops import Shop, Sold, cut, events_of, selling
from benchmarks.trade.tables import Way, added, releases, ways
from benchmarks.transfer.platforms import Platforms
from clients.platform import Platform
from clients.recommender import PRIOR, federation_default


@pytest.mark.parametrize("sold", list(Sold))
def test_a_trade_is_cut_into_five_shops_with_shoppers_and_items_of_their_own(
    alpha: Platform, sold: Sold
) -> None:
    trade = cut(alpha, sold, seed=3)
    shops = (trade.newcomer, *trade.members)
    shoppers = [set(shop.platform.split.sequences.user_ids) for shop in shops]
    assert len(set.union(*shoppers)) == sum(map(len, shoppers)) == len(alpha)
    for shop in shops:
        names = [alpha.catalogue.item_ids[product] for product in shop.products]
        assert list(shop.platform.catalogue.item_ids) == names
    sizes = {len(shop.products) for shop in shops}
    assert sizes == {len(alpha.catalogue)} if sold is Sold.everything else max(sizes) < len(alpha.catalogue)


@given(st.lists(st.booleans(), min_size=120, max_size=120).filter(any))
@settings(max_examples=20, deadline=None)
def test_what_is_not_sold_was_never_bought_and_the_rest_keeps_its_order(
    platforms: Platforms, kept: list[bool]
) -> None:
    alpha = platforms.loaded["alpha"]
    less = selling(alpha, np.array(kept))
    old, new = alpha.split.sequences, less.split.sequences
    for user in range(0, len(old), 40):
        expected = [alpha.catalogue.item_ids[i] for i in old.user(user)[0] if kept[i]]
        items, groups = new.user(user)
        assert [less.catalogue.item_ids[i] for i in items] == expected
        assert groups.tolist() == list(range(len(expected)))  # one event a group in these shops
    assert less.features.equal(alpha.features[np.flatnonzero(kept)])


def test_events_before_the_test_hold_no_test_target(alpha: Platform) -> None:
    shop = Shop(alpha, np.arange(len(alpha.catalogue)))
    everything, before = events_of(shop, None), events_of(shop, "test")
    user = int(alpha.test_users[0])
    target = alpha.split.test_target[user]
    assert target in everything.products[everything.users == user]
    assert target not in before.products[before.users == user]


def test_the_members_releases_add_up_and_one_noise_is_shared_out(alpha: Platform) -> None:
    trade, edges = cut(alpha, Sold.everything, 0), public_edges(alpha)
    events = [events_of(member, None) for member in trade.members]
    products = len(alpha.catalogue)
    exact = added(releases(events, edges, products, Way(), 0))
    assert (exact.popularity_variance, exact.edges_variance, exact.runs) == (0.0, 0.0, 1)
    one, own = (added(releases(events, edges, products, Way(8.0, own), 0)) for own in (False, True))
    assert own.edges_variance == pytest.approx(4 * one.edges_variance)
    assert np.std(one.popularity - exact.popularity) == pytest.approx(one.popularity_variance**0.5, rel=0.3)
    more = added(releases(events, edges, products, Way(8.0, True, 10), 0))
    assert more.edges_variance == pytest.approx(own.edges_variance / 100)


def test_quick_runs_every_audience_and_continues_where_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--quick", "--seeds", "1", "--trade", "alpha", "--epsilon", "8", "--out", str(tmp_path)]
    assert main([*asked, "--format", "json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert {row["sold"] for row in found["rows"]} == {str(sold) for sold in Sold}
    assert {row["audience"] for row in found["rows"]} == {"first day", "10-shot", "member"}
    names = [
        row["way"] for row in found["rows"] if (row["sold"], row["audience"]) == ("everything", "first day")
    ]
    assert names == ["prior", *(way.name for way in ways([8.0]))]
    assert {row["gain"] for row in found["rows"] if row["way"] in {"prior", "alone"}} == {0.0}
    assert printed.err.count("alpha, each sells") == 3 + 2  # two audiences more where everything is sold
    assert (tmp_path / "curve.svg").exists()
    layers = _layers(tmp_path / "cells")
    assert layers["first day", "prior"] == asdict(PRIOR)
    assert layers["first day", "not private"] == asdict(federation_default(0))
    for audience in ("10-shot", "member"):
        assert not layers[audience, "alone"]["others"]
        assert layers[audience, "not private"][
            "others"
        ]  # too few validation shoppers to say that alone is better
    for cell in (tmp_path / "cells").glob("*.json"):
        cell.write_text(cell.read_text().replace('"shoppers": 160', '"shoppers": -1'), encoding="utf-8")
    assert main(asked) == 0
    again = capsys.readouterr()
    assert again.err == ""
    assert "| alpha | -1 |" in again.out
    assert main([*asked, "--seeds", "2", "--report"]) == 0
    later = capsys.readouterr()
    assert later.err == ""
    assert "| alpha | -1 |" in later.out


def test_a_report_of_nothing_says_that_its_targets_are_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--quick", "--report", "--trade", "alpha", "--out", str(tmp_path)]) == 0
    assert "| open |" in capsys.readouterr().out


def _layers(cells: Path) -> dict[tuple[str, str], dict[str, object]]:
    """Return the local layer of each audience and way where everything is sold."""
    found = {}
    for audience in ("first day", "10-shot", "member"):
        [file] = cells.glob(f"alpha-everything-{audience.replace(' ', '-')}-0-*.json")
        for way, judged in json.loads(file.read_text(encoding="utf-8"))["ways"].items():
            found[audience, way] = judged["layer"]
    return found


def _rows(gains: dict[str, float]) -> report.Rows:
    return [
        {"trade": trade, "sold": "everything", "audience": "first day", "way": report.ONE, "gain": gain}
        for trade, gain in gains.items()
    ]


@pytest.mark.parametrize(
    ("gains", "met"),
    [
        ({"a": 0.5, "b": 0.13}, True),
        ({"a": 0.5, "b": 0.11}, False),
        ({"a": 0.2, "b": 0.2}, False),
        ({}, None),
    ],
)
def test_a_target_asks_for_the_mean_and_for_every_trade(gains: dict[str, float], met: bool | None) -> None:
    assert report.targets(_rows(gains))[0]["met"] is met


def test_a_missing_folder_and_an_unknown_trade_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(tmp_path / "nothing"), "--trade", "beauty", "--out", str(tmp_path)]) == 2
    assert main(["--quick", "--trade", "cars", "--out", str(tmp_path)]) == 2
    assert main(["--quick", "--audience", "nobody", "--out", str(tmp_path)]) == 2
    errors = capsys.readouterr().err
    assert "nobody" in errors
    assert "nothing" in errors
    assert "cars" in errors
