"""Every call, and the shell: a shopper who is not known, an item nobody has, an id that is not there, an empty shop."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace

import grpc
import numpy as np
import pytest

from clients.serving.v1 import serving_pb2 as m
from clients.serving.v1.serving_pb2_grpc import RecommenderStub
from fedcart import run

STRANGER, NOTHING = m.Who(shopper_id="stranger"), "no-such-item"


@pytest.fixture
def shop(make, served) -> Iterator[SimpleNamespace]:
    """Return a stub, what it serves, the id of an item that nobody has, and what makes every item go out of stock."""
    snapshot = make(items=80, shoppers=8).snapshot
    service = served(snapshot)
    had = set(snapshot.shoppers.sequences.items.tolist())
    untouched = next(item for row, item in enumerate(snapshot.shelf.ids) if row not in had)

    def sell_out() -> None:
        none = np.zeros(len(snapshot.shelf), dtype=bool)
        service.current.swap(replace(snapshot, shelf=replace(snapshot.shelf, in_stock=none)))

    with grpc.insecure_channel(service.address) as channel:
        stub = RecommenderStub(channel)
        yield SimpleNamespace(
            stub=stub, snapshot=snapshot, current=service.current, untouched=untouched, sell_out=sell_out
        )


def stream(stub: RecommenderStub, who: m.Who, *items: str) -> list[m.RecommendResponse]:
    """Return the lists of a session: after it was opened, and after each item."""
    opened = m.StreamRequest(open=m.RecommendRequest(who=who, count=5))
    later = [m.StreamRequest(item_id=item) for item in items]
    return [answer.list for answer in stub.Stream(iter([opened, *later]))]


def not_found(call: Callable[[], object]) -> bool:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_shopper_who_is_not_known(shop):
    stub = shop.stub
    popular = [i.item_id for i in stub.Recommend(m.RecommendRequest(who=m.Who())).items]
    listed = stub.Recommend(m.RecommendRequest(who=STRANGER))
    assert listed.cold
    assert [i.item_id for i in listed.items] == popular
    ranked = stub.Rank(m.RankRequest(who=STRANGER, candidate_ids=[shop.untouched, popular[0]]))
    assert ranked.cold
    assert [i.item_id for i in ranked.items] == [popular[0], shop.untouched]
    assert not_found(lambda: stub.Profile(m.ProfileRequest(shopper_id="stranger")))
    explained = stub.Explain(m.ExplainRequest(who=STRANGER, item_id=popular[0]))
    assert [(c.popularity, c.others) for c in explained.contributions] in (
        [(True, False), (True, True)],
        [(True, True), (True, False)],
    )
    assert explained.score == pytest.approx(listed.items[0].score, abs=1e-5)
    first, second = stream(stub, STRANGER, "i004")
    assert first.cold
    assert [i.item_id for i in first.items] == popular[:5]
    assert not second.cold


def test_an_item_that_nobody_has(shop):
    stub, item, known = shop.stub, shop.untouched, m.Who(shopper_id="u02")
    everything = stub.Recommend(m.RecommendRequest(who=known, count=80))
    scores = {i.item_id: i.score for i in everything.items}
    ranked = stub.Rank(m.RankRequest(who=known, candidate_ids=[item]))
    assert ranked.items[0].score == pytest.approx(scores[item], abs=1e-5)
    assert len(stub.SimilarItems(m.SimilarItemsRequest(item_id=item)).items) == 10
    assert len(stub.Audience(m.AudienceRequest(item_id=item)).shoppers) == 8
    assert len(stub.Audience(m.AudienceRequest(item_id=item, leave_out_owners=True)).shoppers) == 8
    explained = stub.Explain(m.ExplainRequest(who=known, item_id=item))
    assert explained.score == pytest.approx(scores[item], abs=1e-4)
    counted = [c for c in explained.contributions if c.popularity or c.taken_after_item_id]
    assert all(c.others for c in counted), "only others' shoppers have it"
    _, after = stream(stub, STRANGER, item)
    assert not after.cold
    assert item not in [i.item_id for i in after.items]


def test_an_id_that_is_not_there(shop):
    stub, session = shop.stub, m.Who(item_ids=[NOTHING])
    listed = stub.Recommend(m.RecommendRequest(who=session))
    assert (listed.cold, list(listed.unknown_item_ids)) == (True, [NOTHING])
    ranked = stub.Rank(m.RankRequest(who=session, candidate_ids=[NOTHING, "other"]))
    assert (len(ranked.items), list(ranked.unknown_item_ids)) == (0, [NOTHING, NOTHING, "other"])
    for call in (
        lambda: stub.SimilarItems(m.SimilarItemsRequest(item_id=NOTHING)),
        lambda: stub.Audience(m.AudienceRequest(item_id=NOTHING)),
        lambda: stub.Explain(m.ExplainRequest(who=m.Who(shopper_id="u02"), item_id=NOTHING)),
    ):
        assert not_found(call)
    _, after = stream(stub, STRANGER, NOTHING)
    assert (after.cold, list(after.unknown_item_ids)) == (True, [NOTHING])


def test_a_shop_in_which_nothing_is_left(shop):
    """A catalogue without items is never served; what is left of one may still be nothing, and so may its shoppers."""
    shop.sell_out()
    stub = shop.stub
    assert not stub.Recommend(m.RecommendRequest(who=m.Who(shopper_id="u02"), diversity=0.5)).items
    assert not stub.SimilarItems(m.SimilarItemsRequest(item_id="i001")).items
    assert not any(found.items for found in stream(stub, STRANGER, "i004", shop.untouched))
    assert stub.Rank(m.RankRequest(candidate_ids=["i001"])).items  # candidates are the caller's
    assert stub.Explain(m.ExplainRequest(who=m.Who(shopper_id="u02"), item_id="i001")).words
    shop.current.erase(frozenset(shop.snapshot.shoppers.sequences.user_ids))
    assert not stub.Audience(m.AudienceRequest(item_id="i001")).shoppers
    assert not_found(lambda: stub.Profile(m.ProfileRequest(shopper_id="u02")))


@pytest.mark.parametrize(
    ("question", "cold", "unknown", "count"),
    [
        (["stranger"], True, [], 10),
        (["--item", "no-such-item"], True, ["no-such-item"], 10),
        (["stranger", "--item", "untouched"], False, [], 10),
        (["u01", "--category", "no-such-category"], False, [], 0),
    ],
    ids=["stranger", "unknown", "untouched", "nothing left"],
)
def test_the_shell(member, capsys, question, cold, unknown, count):
    items = member.site().items
    items.write_text(items.read_text() + "untouched,velvet cushion,cushion,brand9,3.0\n")
    asked = ["client", "recommend", *question, "--folder", str(member.path)]
    assert run([*asked, "--format", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["cold"], answer["unknown_item_ids"], len(answer["items"])) == (cold, unknown, count)
    assert "untouched" not in [i["item_id"] for i in answer["items"]] or question[-1] != "untouched"
    assert run(asked) == 0
    shown = capsys.readouterr().out
    assert ("nothing is known" in shown) == cold
    assert ("not in the catalogue: no-such-item" in shown) == bool(unknown)
