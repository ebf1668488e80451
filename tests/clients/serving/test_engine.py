"""Lists against a float64 reference, filters, boosts, diversity, audiences, explanations, profiles."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clients.recommender import LocalLayer, Memories, ScoreParts
from clients.serving.asks import RecommendAsk, Who
from clients.serving.engine import audience, look_up, rank, recommend, similar
from clients.serving.errors import AskError, StoppedError, UnknownIdError
from clients.serving.explain import PastItem, Typed, explain, profile
from clients.serving.history import whole
from clients.serving.shelf import Boost, Filters

EVERYTHING = Filters(in_stock=False, leave_out_seen=False)


def reference(made) -> np.ndarray:
    """Score every item for every shopper with the recommender that evaluation uses, in float64: (U, I)."""
    platform = made.platform
    wide = replace(
        platform,
        split=whole(platform.split.sequences),
        features=platform.features.double(),
        norms=platform.norms.double(),
        scoring=torch.float64,
    )
    users, memories = np.arange(len(platform)), Memories(wide.memory("test"), made.others)
    return ScoreParts(wide, "test", users, memories).blended(made.local).numpy()


def listed(snapshot, shopper="", **ask):
    (answer,) = recommend(snapshot, [RecommendAsk(Who(shopper), **ask)])
    return answer


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 5),
    others=st.booleans(),
    popularity=st.sampled_from([0.0, 0.3]),
    transitions=st.sampled_from([0.0, 2.0]),
    chunk=st.sampled_from([7, 1000]),
    data=st.data(),
)
def test_lists_are_those_of_the_reference(
    make, monkeypatch, seed, others, popularity, transitions, chunk, data
):
    """Scores, order, filters and boosts, whatever the chunk, alone and in a batch."""
    monkeypatch.setattr("clients.serving.candidates.CHUNK", chunk)
    monkeypatch.setattr("clients.serving.candidates.GATHERED", data.draw(st.sampled_from([0, 5, 1000])))
    made = make(seed=seed, local=LocalLayer(popularity, transitions, others=others))
    snapshot, exact = made.snapshot, reference(made)
    frame = made.platform.catalogue.frame
    asks, expected = [], []
    for shopper in data.draw(st.lists(st.integers(0, len(exact) - 1), min_size=1, max_size=4)):
        categories = data.draw(st.frozensets(st.sampled_from(["milk", "lamp", "nothing"])))
        top = data.draw(st.none() | st.floats(0, 40))
        low = data.draw(st.none() | st.floats(0, 0 if top is None else top))
        boost = Boost(data.draw(st.floats(-5, 5)), brand="brand1")
        unseen = data.draw(st.booleans())
        filters = Filters(categories=categories, min_price=low, max_price=top, leave_out_seen=unseen)
        name = snapshot.shoppers.sequences.user_ids[shopper]
        asks.append(RecommendAsk(Who(name), count=9, filters=filters, boosts=(boost,)))
        scores = exact[shopper] + np.where(frame["brand"] == "brand1", boost.add, 0.0)
        good = np.ones(len(frame), dtype=bool)
        if categories:
            good &= frame["category"].isin(categories).to_numpy()
        if top is not None:
            good &= (frame["price"] <= top).to_numpy()
        if low is not None:
            good &= (frame["price"] >= low).to_numpy()
        if unseen:
            good[snapshot.shoppers.sequences.user(shopper)[0]] = False
        expected.append(np.where(good, scores, -np.inf))
    for answer, scores in zip(recommend(snapshot, asks), expected, strict=True):
        count = min(9, int(np.isfinite(scores).sum()))
        assert len(answer.items) == count
        rows = [snapshot.shelf.rows[item.item] for item in answer.items]
        assert len(set(rows)) == count
        np.testing.assert_allclose([i.score for i in answer.items], scores[rows], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(scores[rows], np.sort(scores)[::-1][:count], rtol=1e-4, atol=1e-4)


def test_ranking_gives_the_same_scores_and_says_what_it_does_not_know(make):
    snapshot = make().snapshot
    best = listed(snapshot, "u03", count=40, filters=EVERYTHING)
    ranked = rank(snapshot, Who("u03"), ["i005", "nothing", "i001", "i005", "i030"])
    scores = {item.item: item.score for item in best.items}
    assert ranked.unknown == ("nothing",)
    assert sorted(item.item for item in ranked.items) == ["i001", "i005", "i030"]
    for item in ranked.items:
        assert item.score == pytest.approx(scores[item.item], abs=1e-5)


def test_an_audience_is_the_column_of_the_scores(make):
    made = make(shoppers=15)
    exact = reference(made)
    row = made.snapshot.shelf.rows["i011"]
    found = audience(made.snapshot, "i011", 15)
    names = made.snapshot.shoppers.sequences.user_ids
    order = sorted(range(15), key=lambda u: -exact[u, row])
    assert [name for name, _ in found.shoppers] == [names[u] for u in order]
    np.testing.assert_allclose([s for _, s in found.shoppers], exact[order, row], rtol=1e-4, atol=1e-4)
    owners = {names[u] for u in range(15) if row in made.snapshot.shoppers.sequences.user(u)[0]}
    assert owners
    without = audience(made.snapshot, "i011", 15, leave_out_owners=True)
    assert {name for name, _ in without.shoppers} == set(names) - owners
    with pytest.raises(StoppedError):
        audience(made.snapshot, "i011", stopped=lambda: True)


@pytest.mark.parametrize(
    "who", [Who("u02"), Who("u02", items=("i001", "i009", "i001")), Who(texts=("red lamp",)), Who()]
)
def test_an_explanation_adds_up_to_the_score_of_the_list(make, who):
    snapshot = make().snapshot
    (answer,) = recommend(snapshot, [RecommendAsk(who, count=40, filters=EVERYTHING)])
    for item in answer.items[:3]:
        found = explain(snapshot, who, item.item)
        assert found.score == math.fsum(amount for _, amount in found.reasons)
        assert found.score == pytest.approx(item.score, abs=1e-4)
        by_features = math.fsum(a for reason, a in found.reasons if isinstance(reason, PastItem | Typed))
        assert math.fsum(amount for _, amount in found.words) == pytest.approx(by_features, abs=1e-9)


def test_what_the_session_holds_counts_at_once_and_text_alone_is_enough(make):
    snapshot = make().snapshot
    before = listed(snapshot, "u02")
    (after,) = recommend(snapshot, [RecommendAsk(Who("u02", items=("i004",)))])
    assert [i.score for i in before.items] != [i.score for i in after.items]
    assert "i004" not in [i.item for i in after.items]
    (typed,) = recommend(snapshot, [RecommendAsk(Who(texts=("wooden train",)), count=3)])
    assert not typed.cold
    assert all("train" in item.title or "wooden" in item.title for item in typed.items)


def test_who_is_not_known_gets_what_is_popular(make):
    snapshot = make(local=LocalLayer(0.3, 0.0)).snapshot
    cold = listed(snapshot, "nobody", count=40, filters=EVERYTHING)
    assert cold.cold
    counts = snapshot.arms["model"].scoring.bias.numpy()
    assert [i.score for i in cold.items] == sorted(counts.tolist(), reverse=True)


def test_an_erased_shopper_is_unknown_everywhere(make):
    snapshot = make().snapshot.without(frozenset({"u02"}))
    assert listed(snapshot, "u02").cold
    assert "u02" not in dict(audience(snapshot, "i011").shoppers)
    with pytest.raises(UnknownIdError):
        profile(snapshot, "u02")
    assert not len(look_up(snapshot, Who("u02")).history)


def test_an_empty_shelf_gives_empty_lists(make):
    made = make()
    none = np.zeros(len(made.snapshot.shelf), dtype=bool)
    snapshot = replace(made.snapshot, shelf=replace(made.snapshot.shelf, in_stock=none))
    assert listed(snapshot, "u02").items == ()
    assert listed(snapshot, "u02", diversity=0.5).items == ()
    assert similar(snapshot, "i001", 5, Filters()).items == ()


def test_out_of_stock_is_left_out_unless_wanted(make, tmp_path):
    (tmp_path / "out.txt").write_text("i001\nunknown\n")
    snapshot = make(out_of_stock=tmp_path / "out.txt").snapshot
    assert "i001" not in [i.item for i in listed(snapshot, count=40).items]
    assert "i001" in [i.item for i in listed(snapshot, count=40, filters=EVERYTHING).items]


def test_similar_items_are_the_nearest_by_cosine(make):
    made = make()
    found = similar(made.snapshot, "i006", 39, Filters())
    vectors = torch.nn.functional.normalize(made.platform.features.double(), dim=-1).numpy()
    cosines = vectors @ vectors[6]
    rows = [made.snapshot.shelf.rows[i.item] for i in found.items]
    assert 6 not in rows
    np.testing.assert_allclose([i.score for i in found.items], cosines[rows], atol=1e-5)
    assert (np.diff([i.score for i in found.items]) <= 1e-6).all()
    with pytest.raises(UnknownIdError, match="no such item"):
        similar(made.snapshot, "nothing", 3, Filters())


def test_a_profile_names_what_was_bought(make):
    made = make(shoppers=8)
    found = profile(made.snapshot, "u00")
    assert {name for name, _ in found.categories} <= {"milk", "chair"}
    assert sum(share for _, share in found.categories) == pytest.approx(1)
    assert found.prices is not None
    assert found.prices[0] <= found.prices[1] <= found.prices[2]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: RecommendAsk(Who(), count=0),
        lambda: RecommendAsk(Who(), count=501),
        lambda: RecommendAsk(Who(), diversity=math.nan),
        lambda: RecommendAsk(Who(), diversity=1.1),
        lambda: Boost(math.nan, item="i"),
        lambda: Boost(1.0),
        lambda: Filters(min_price=2, max_price=1),
        lambda: Filters(min_price=math.nan),
        lambda: Filters(max_price=-1),
    ],
)
def test_a_question_that_cannot_be_used_is_refused(wrong):
    with pytest.raises(AskError):
        wrong()
