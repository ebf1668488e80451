"""The report: rates from their definition, intervals that hold when lists of one shopper are alike."""

import math

import numpy as np
import pandas as pd
import pytest

from clients.data import load_platform
from clients.errors import FeedbackError
from clients.feedback import FeedbackStore, Impression, Interaction, Kind
from clients.feedback.estimate import mean_over_lists
from clients.feedback.report import Period, feedback_report

DAY = 86_400.0
MONDAY = 1_699_833_600.0


@pytest.fixture(scope="module")
def data():
    items = pd.DataFrame({"item_id": list("abcd"), "title": list("abcd"), "category": ["x", "x", "y", None]})
    rows = [(u, item, t) for u in "uvw" for t, item in enumerate("aab")]
    events = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    return load_platform(events, items, seed=0)


def shown(event, shopper, items, arm="old", version="1", time=MONDAY, session="", request=None):
    return Impression(event, request or f"r{event}", shopper, tuple(items), time, session, version, arm)


def did(event, request, item, kind=Kind.CLICK, shopper="u"):
    return Interaction(event, shopper, item, kind, MONDAY + 5, request_id=request)


@pytest.fixture
def report(tmp_path, data):
    def make(events, period=Period.all):
        store = FeedbackStore(tmp_path / "feedback.sqlite")
        store.record(events)
        found = feedback_report(store, data, period)
        store.close()
        return found

    return make


def test_rates_are_what_they_are_defined_to_be(report):
    (group,) = report(
        [
            shown("1", "u", "abc"),
            shown("2", "u", "dc"),
            shown("3", "", "a", session="s"),
            shown("4", "v", "zb"),
            did("c1", "r1", "a"),
            did("c2", "r1", "b"),
            did("c3", "r2", "a"),  # r2 did not show a
            did("c4", "", "c"),  # of no list
            did("p1", "r1", "b", Kind.PURCHASE),
            did("c5", "r4", "b"),
        ]
    ).groups
    assert (group.lists, group.shoppers, group.coverage) == (4, 3, 1.0)
    assert group.metrics["click_through"].value == 2 / 4
    assert group.metrics["conversion"].value == 1 / 4
    assert group.metrics["diversity"].value == pytest.approx(2 / 3), (
        "a-b alike, a-c and b-c not; others have one"
    )
    rare, often = -math.log2(1 / 4), -math.log2(4 / 4)
    lists = [(2 * often + rare) / 3, rare, often, often]
    assert group.metrics["novelty"].value == pytest.approx(np.mean(lists))


def test_a_click_counts_for_the_first_list_of_its_request_only(report):
    (group,) = report(
        [
            shown("1", "u", "a", request="r"),
            shown("2", "u", "a", time=MONDAY + 1, request="r"),
            did("c", "r", "a"),
        ]
    ).groups
    assert group.metrics["click_through"].value == 0.5


def test_versions_arms_and_periods_are_apart_and_arms_are_compared(report):
    events = []
    for i in range(20):
        arm = "new" if i % 2 else "old"
        events.append(
            shown(f"e{i}", f"u{i}", "ab", arm, version=str(i % 4 // 2), time=MONDAY + DAY * (i // 10) * 7)
        )
        if arm == "new" or i % 4 == 0:
            events.append(did(f"c{i}", f"re{i}", "a"))
    found = report(events, Period.week)
    assert {(g.period, g.model_version, g.arm) for g in found.groups} == {
        (week, version, arm)
        for week in ("2023-11-13", "2023-11-20")
        for version in "01"
        for arm in ("new", "old")
    }
    (difference,) = found.differences
    assert (difference.arm, difference.against) == ("old", "new")
    found = difference.metrics["click_through"]
    assert found.value == pytest.approx(0.5 - 1.0)
    assert found.low < found.value < found.high < 0


def test_nothing_shown_is_an_empty_report(report):
    assert report([]).to_dict() == {"groups": [], "differences": [], "preferences": []}


def test_intervals_hold_where_lists_of_a_shopper_are_alike():
    """95 % of intervals hold the truth, though each shopper's lists are copies; a plain binomial one would not."""
    rng = np.random.default_rng(3)
    held = plain = 0
    for _ in range(400):
        counts = rng.integers(1, 12, 150)
        liked = rng.random(150) < 0.3
        values, shoppers = np.repeat(liked, counts).astype(float), np.repeat(np.arange(150), counts)
        found = mean_over_lists(values, shoppers)
        held += found.low <= 0.3 <= found.high
        half = 1.96 * math.sqrt(found.value * (1 - found.value) / len(values))
        plain += abs(found.value - 0.3) <= half
    assert held / 400 == pytest.approx(0.95, abs=0.035)
    assert plain / 400 < 0.75


def test_one_shopper_has_no_interval_and_no_list_no_value():
    assert math.isnan(mean_over_lists(np.array([1.0, 0.0]), np.array([4, 4])).low)
    assert math.isnan(mean_over_lists(np.array([np.nan]), np.array([4])).value)


def test_lists_that_two_arms_made_are_won_by_who_added_more_clicked_items(report):
    """+1, −1, 0 and 0 over three shoppers; the interval is that of a mean over lists by shopper."""
    made = {"arm": "interleaved", "item_arms": ("new", "old", "new", "")}

    def list_of(event, shopper, version="1"):
        return Impression(event, f"r{event}", shopper, tuple("abcd"), MONDAY, "", version, **made)

    found = report(
        [
            list_of("1", "u"),
            list_of("2", "u"),
            list_of("3", "v"),
            list_of("4", "w"),
            list_of("5", "w", version="2"),
            did("c1", "r1", "a"),
            did("c2", "r1", "b"),
            did("c3", "r1", "c"),
            did("c4", "r2", "b"),
            did("c5", "r3", "d"),  # nobody's
            did("c6", "r5", "c"),
            did("p1", "r4", "a", Kind.PURCHASE),
        ]
    )
    first, second = found.preferences
    assert (first.model_version, first.arm, first.against, first.lists) == ("1", "new", "old", 4)
    expected = mean_over_lists(np.array([1.0, -1.0, 0.0, 0.0]), np.array([0, 0, 1, 2]))
    assert (first.wins.value, first.wins.variance) == (expected.value, expected.variance)
    assert (second.lists, second.wins.value, math.isnan(second.wins.variance)) == (1, 1.0, True)
    assert {group.arm for group in found.groups} == {"interleaved"}


def test_an_arm_s_name_cannot_stand_for_an_item_s():
    with pytest.raises(FeedbackError, match="stands between"):
        shown("1", "u", "a", arm="old//new")
