"""Cleaning: each rejected row counted once under its reason; what cannot be used at all is an error."""

import json
import math
from dataclasses import replace

import pandas as pd
import pytest

from clients.data import (
    Catalogue,
    InteractionColumns,
    Table,
    clean_interactions,
    interactions_table,
    research_k_core,
)
from clients.data.busiest import Busiest
from clients.data.report import merged
from clients.errors import DataError

NOW = 1_600_000_000.0
FULL = InteractionColumns(event="event", value="value")


def rows(*events: tuple[object, ...]) -> Table:
    frame = pd.DataFrame(list(events), columns=["user_id", "item_id", "timestamp", "event", "value"])
    return interactions_table(frame.astype(object), FULL, "e.csv")


def test_each_row_is_counted_under_one_reason(letters: Catalogue) -> None:
    good = [("u", item, str(100 + n), "buy", "1") for n, item in enumerate("abc")]
    table = rows(
        *good,
        good[0],  # duplicate
        good[1],  # duplicate
        (None, "a", "100", "buy", "1"),
        ("", "a", "nonsense", "buy", "inf"),  # three faults, the first counts
        ("u", " ", "100", "buy", "1"),
        ("u", "a", "nonsense", "buy", "1"),
        ("u", "a", None, "buy", "1"),
        ("u", "a", "-1", "buy", "1"),
        ("u", "a", str(NOW + 86_401), "buy", "1"),
        ("u", "a", "110", "buy", "inf"),
        ("u", "a", "111", "buy", "many"),
        ("u", "a", "112", "view", "1"),
        ("u", "a", "113", None, "1"),
        ("u", "zz", "114", "buy", "1"),
        ("v", "a", "115", "buy", "1"),
        ("v", "b", "116", "buy", "1"),
    )
    kept, report = clean_interactions(table, letters, events=["buy"], min_events=3, now=NOW)
    assert report.dropped == {
        "missing_user_id": 2,
        "missing_item_id": 1,
        "bad_time": 2,
        "negative_time": 1,
        "future_time": 1,
        "bad_value": 2,
        "other_event": 2,
        "duplicate": 2,
        "unknown_item": 1,
        "too_short": 2,
    }
    assert (report.read, report.kept, report.users, report.items) == (19, 3, 1, 3)
    assert report.read == report.kept + sum(report.dropped.values())
    assert kept.frame["item_id"].tolist() == ["a", "b", "c"]
    assert report.examples["bad_time"] == "e.csv, row 9, column 'timestamp': 'nonsense'"
    assert report.examples["bad_value"] == "e.csv, row 13, column 'value': 'inf'"
    assert report.examples["unknown_item"] == "e.csv, row 17, column 'item_id': 'zz'"


def test_what_is_on_the_edge_stays(letters: Catalogue) -> None:
    table = rows(("u", "a", "0", "x", None), ("u", "b", str(NOW + 86_400), "x", "-3"))
    _, report = clean_interactions(table, letters, min_events=2, now=NOW)
    assert (report.kept, report.dropped) == (2, {})


def test_without_now_the_future_is_not_judged(letters: Catalogue) -> None:
    _, report = clean_interactions(rows(("u", "a", "1e12", "x", None)), letters, min_events=1)
    assert report.kept == 1


def test_rows_that_differ_in_a_mapped_column_are_no_duplicates(letters: Catalogue) -> None:
    table = rows(("u", "a", "1", "x", "1"), ("u", "a", "1", "x", "2"))
    assert clean_interactions(table, letters, min_events=1)[1].kept == 2


def test_positions_may_be_negative_but_not_missing(letters: Catalogue) -> None:
    frame = pd.DataFrame({"user_id": "u", "item_id": list("abc"), "pos": [-1.0, math.nan, 2.0]})
    _, report = clean_interactions(interactions_table(frame), letters, min_events=1, now=NOW)
    assert report.dropped == {"bad_position": 1}


@pytest.mark.parametrize(
    ("event", "options", "message"),
    [
        ((None, "a", "1", "x", "1"), {}, r"missing user id.*row 1, column 'user_id': missing.*columns\.user"),
        (("u", "a", "later", "x", "1"), {}, r"bad time.*column 'timestamp': 'later'.*ISO 8601"),
        (("u", "a", "1577836800000", "x", "1"), {}, r"future time.*order_unit to 'ms'"),
        (("u", "zz", "1", "x", "1"), {}, "unknown item.*'zz'.*same ids"),
        (("u", "a", "1", "x", "1"), {"min_events": 2}, "too short.*Lower min_events"),
        (("u", "a", "1", "x", "1"), {"events": ["buy"]}, "other event.*'x'.*Set events"),
    ],
)
def test_nothing_usable_names_file_column_and_fix(
    letters: Catalogue, event: tuple[object, ...], options: dict, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        clean_interactions(rows(event), letters, **({"min_events": 1, "now": NOW} | options))
    assert str(caught.value).startswith("e.csv: none of the 1 rows can be used")


def test_an_event_filter_needs_the_column(letters: Catalogue) -> None:
    table = interactions_table(pd.DataFrame({"user_id": ["u"], "item_id": ["a"], "pos": [0]}))
    with pytest.raises(DataError, match=r"columns\.event"):
        clean_interactions(table, letters, events=["buy"])


def test_min_events_below_one_is_refused(letters: Catalogue) -> None:
    with pytest.raises(DataError, match="at least 1, not 0"):
        clean_interactions(rows(("u", "a", "1", "x", "1")), letters, min_events=0)


def test_the_report_as_json_holds_no_value_from_the_data(letters: Catalogue) -> None:
    table = rows(("u", "a", "1", "x", "1"), ("u", "secret-item", "2", "x", "1"))
    _, report = clean_interactions(table, letters, min_events=1)
    assert "secret-item" not in json.dumps(report.to_dict())
    assert any("secret-item" in line for line in report.lines())


def test_the_busiest_account_is_found_in_parts_and_named_where_it_is_no_person(letters: Catalogue) -> None:
    people = [(f"u{n}", "a", str(n), "x", "1") for n in range(60)]
    robot = [("robot", "b", str(n), "x", "1") for n in range(900)]
    parts = [
        clean_interactions(rows(*some), letters, min_events=1)[1] for some in (people[:9], people[9:] + robot)
    ]
    whole = replace(merged(parts, "all"), users=61)
    assert whole.busiest == Busiest(900, "robot")
    assert "  the busiest account has 900 of 960 events (93.8%), 57 times the average: 'robot'. " in "".join(
        whole.lines()
    )
    assert "robot" not in json.dumps(whole.to_dict()) + repr(whole)
    assert not any("busiest" in line for line in parts[0].lines())
    assert Busiest.of(pd.Series([], dtype=str)) == Busiest()


def test_k_core_repeats_until_stable_and_taints(letters: Catalogue) -> None:
    events = [("u", "a"), ("u", "b"), ("v", "a"), ("v", "b"), ("w", "a"), ("w", "c")]
    frame = pd.DataFrame(events, columns=["user_id", "item_id"]).assign(pos=range(6))
    kept, report = clean_interactions(interactions_table(frame), letters, min_events=1)
    assert report.tainted is False
    core, tainted = research_k_core(kept, report, 2)
    assert core.frame["user_id"].tolist() == ["u", "u", "v", "v"]  # w falls once c has fallen
    assert tainted.dropped == {"k_core": 2}
    assert tainted.tainted is True
    assert (tainted.kept, tainted.users, tainted.items) == (4, 2, 2)
    assert any("TAINTED" in line for line in tainted.lines())


@pytest.mark.parametrize(("k", "message"), [(9, "no 9-core.*Lower k"), (0, "at least 1")])
def test_k_core_that_leaves_nothing(letters: Catalogue, k: int, message: str) -> None:
    kept, report = clean_interactions(rows(("u", "a", "1", "x", "1")), letters, min_events=1)
    with pytest.raises(DataError, match=message):
        research_k_core(kept, report, k)
