"""Lists that two arms make together: the draft's rules, its fairness, and the way from a list to the report."""

import itertools
from dataclasses import replace

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.errors import SiteError
from clients.feedback import FeedbackStore
from clients.feedback.report import feedback_report
from clients.recommender import LocalLayer
from clients.serving.asks import RecommendAsk, ScoredItem, Who
from clients.serving.interleave import recommend, team_draft
from clients.serving.load import make_snapshot
from clients.serving.shelf import Filters
from clients.serving.v1 import serving_pb2 as m
from clients.serving.v1.serving_pb2_grpc import RecommenderStub
from clients.site import read_site

PRIOR = LocalLayer(0.9, 0.0)
rankings = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8)


def ranking(items, arm) -> list[ScoredItem]:
    return [ScoredItem(item, 1.0, "", arm) for item in items]


@given(rankings, rankings, st.integers(0, 10), st.data())
def test_the_draft_takes_turns_and_each_arm_adds_its_best(first, second, count, data):
    drafted = team_draft(ranking(first, "A"), ranking(second, "B"), count, lambda: data.draw(st.booleans()))
    items = [item.item for item in drafted]
    assert len(items) == len(set(items)) == min(count, len({*first, *second}))
    for at, item in enumerate(drafted):
        before, arms = items[:at], [i.arm for i in drafted[:at]]
        if item.arm:
            own = first if item.arm == "A" else second
            assert item.item == next(i for i in own if i not in before), "its best that is not there yet"
            other = "B" if item.arm == "A" else "A"
            assert arms.count(item.arm) <= arms.count(other), "it is its turn"
            assert "" not in arms
        else:
            assert any(all(i in before for i in own) for own in (first, second)), "one has nothing left"


@pytest.mark.parametrize("place", range(6))
def test_alike_lists_share_every_place_evenly(place):
    """Over all coins, each place belongs as often to one arm as to the other: no preference where there is none."""
    owners = []
    for coins in itertools.product([True, False], repeat=3):
        toss = iter(coins)
        drafted = team_draft(ranking("abcdef", "A"), ranking("abcdef", "B"), 6, lambda toss=toss: next(toss))
        owners.append(drafted[place].arm)
    assert owners.count("A") == owners.count("B") == 4


@pytest.fixture
def mixed(make):
    """A snapshot in which both arms make each list, and what each would say alone."""
    made = make(arms={"model": 0.5, "prior": 0.5}, compare="interleaved")
    layers = {"model": made.local, "prior": PRIOR}
    return make_snapshot(made.platform, made.model, layers, made.others, made.site, made.platform)


def test_lists_are_drafted_from_both_arms_within_the_filters(mixed):
    filters = Filters(max_price=30.0, leave_out_seen=True)
    ask = RecommendAsk(Who("u02"), 8, filters)
    alone = {
        arm: [i.item for i in recommend(replace(mixed.only(arm), interleaved=False), [ask])[0].items]
        for arm in ("model", "prior")
    }
    assert alone["model"] != alone["prior"]
    (found,) = recommend(mixed, [ask])
    assert (found.arm, len(found.items)) == ("interleaved", 8)
    assert sorted(i.arm for i in found.items) == ["model"] * 4 + ["prior"] * 4
    for item in found.items:
        assert item.item in alone[item.arm]
        assert mixed.shelf.prices[mixed.shelf.rows[item.item]] <= 30.0


def test_before_the_first_model_the_one_arm_makes_the_list(mixed, make):
    made = make(arms={"model": 0.5, "prior": 0.5}, compare="interleaved")
    alone = make_snapshot(made.platform, made.model, {"prior": PRIOR}, made.others, made.site, made.platform)
    (found,) = recommend(alone, [RecommendAsk(Who("u02"), 3)])
    assert (found.arm, {i.arm for i in found.items}) == ("prior", {""})


def test_clicks_on_a_served_list_are_credited_in_the_report(mixed, served, tmp_path, make):
    """Each shopper clicks what the model added: it wins every list."""
    store = FeedbackStore(tmp_path / "feedback.sqlite")
    service = served(mixed, feedback=store)
    with grpc.insecure_channel(service.address) as channel:
        stub = RecommenderStub(channel)
        for shopper in ("u01", "u02", "u03"):
            found = stub.Recommend(m.RecommendRequest(who=m.Who(shopper_id=shopper), count=6))
            assert found.header.arm == "interleaved"
            of = {"shopper_id": shopper, "request_id": found.header.request_id}
            shown = m.Impression(
                event_id=f"{shopper}-shown",
                model_version=found.header.model_version,
                arm=found.header.arm,
                item_ids=[i.item_id for i in found.items],
                item_arms=[i.arm for i in found.items],
                **of,
            )
            clicks = [
                m.Interaction(event_id=f"{shopper}-{i.item_id}", kind="CLICK", item_id=i.item_id, **of)
                for i in found.items
                if i.arm == "model"
            ]
            stub.RecordFeedback(m.RecordFeedbackRequest(impressions=[shown], interactions=clicks))
        explained = stub.Explain(m.ExplainRequest(who=m.Who(shopper_id="u01"), item_id="i001"))
        assert explained.header.arm == "model"
        bad = m.Impression(event_id="x", request_id="r", shopper_id="u", item_ids=["a", "b"], item_arms=["A"])
        with pytest.raises(grpc.RpcError) as refused:
            stub.RecordFeedback(m.RecordFeedbackRequest(impressions=[bad]))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "item_arms: 1 for 2 items" in refused.value.details()
    platform = make().platform
    report = feedback_report(store, _data(platform))
    store.close()
    (group,) = report.groups
    assert (group.arm, group.lists) == ("interleaved", 3)
    (preference,) = report.preferences
    assert (preference.arm, preference.against, preference.lists) == ("model", "prior", 3)
    assert preference.wins.value == 1.0


def _data(platform):
    from clients.data.load import PlatformData

    return PlatformData(platform.catalogue, platform.split.sequences, *platform.reports)


def test_interleaving_needs_both_arms():
    text = """
name = "s"
events = "e"
items = "i"
population_size = 1
epsilon_cap = 1
ledger = "l"
work = "w"
cache = "c"
[serving]
compare = "interleaved"
"""
    with pytest.raises(SiteError, match="needs both arms"):
        read_site(text, "client.toml")
