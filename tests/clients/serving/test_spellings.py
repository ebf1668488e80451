"""A running service knows shoppers and items by any certain spelling of their ids, and forgets them so."""

import asyncio
import tomllib
from types import SimpleNamespace

import grpc
import pandas as pd
import pytest
import tomli_w

from clients.data.store import open_store
from clients.feedback import FeedbackStore
from clients.serving.current import Current
from clients.serving.door import Door
from clients.serving.erased import Tombstones, WithoutErased
from clients.serving.load import load_snapshot
from clients.serving.serve import Serving, serve
from clients.serving.v1 import serving_pb2 as m
from clients.serving.v1.serving_pb2_grpc import RecommenderStub
from clients.serving.watch import keep_current, state_of
from fedcart import run
from tests.in_thread import InThread
from tests.traces import traces

SPELLINGS = ("17002", "17002.0", "17002.00", " 17002 ")


@pytest.fixture
def shop(member):
    """A member whose shoppers and items are numbers: floats in one file, integers in the other."""
    site = tomllib.loads(member.site_file.read_text())
    data = member.path.parent / "data"
    events, items = pd.read_csv(data / "events.csv"), pd.read_csv(data / "items.csv")
    events["user_id"] = events["user_id"].str[1:].astype(int) + 17000
    events["item_id"] = events["item_id"].str[1:].astype(int) + 1000
    (data / "exports").mkdir()
    events[::2].astype({"user_id": "float64"}).to_csv(data / "exports" / "old.csv", index=False)
    events[1::2].astype({"item_id": "float64"}).to_parquet(data / "exports" / "new.parquet")
    items["item_id"] = items["item_id"].str[1:].astype(float) + 1000
    items.to_csv(data / "items.csv", index=False)
    (data / "gone.txt").write_text("1007.0\n")
    site.pop("events")
    site["sources"] = {
        "shop": {"type": "files", "path": str(data / "exports")},
        "feedback": {"type": "feedback"},
    }
    site.setdefault("serving", {})["out_of_stock"] = str(data / "gone.txt")
    member.site_file.write_text(tomli_w.dumps(site))
    assert run(["client", "ingest", "--folder", str(member.path)]) == 0
    return member


@pytest.fixture
def service(shop):
    """The service with its watcher, and its stub."""
    site = shop.site()
    erased, store = Tombstones(site), FeedbackStore(site.feedback)
    current = Current(load_snapshot(shop), erased=erased)
    settings = site.serving.model_copy(update={"port": 0})
    serving = Serving(current, settings, Door(None), WithoutErased(store, erased))

    async def watched(ready, stop):
        watcher = asyncio.create_task(keep_current(shop, current, state_of(shop), 0.05))
        await serve(serving, ready, stop)
        watcher.cancel()

    running = InThread(watched)
    with grpc.insecure_channel(running.address) as channel:
        yield SimpleNamespace(stub=RecommenderStub(channel), current=current, store=store)
    running.stop()
    store.close()


def test_answers_are_the_same_for_any_certain_spelling(service):
    stub = service.stub
    assert len(service.current.snapshot.shoppers.rows) == 12

    def lists(shopper, spell):
        who = m.Who(shopper_id=shopper, item_ids=[spell(1003)])
        filters = m.Filters(exclude_item_ids=[spell(1004), spell(1005)])
        boosts = [m.Boost(add=2.0, item_id=spell(1006))]
        found = stub.Recommend(m.RecommendRequest(who=who, count=40, filters=filters, boosts=boosts))
        ranked = stub.Rank(m.RankRequest(who=who, candidate_ids=[spell(1001), spell(1002), "none"]))
        assert list(ranked.unknown_item_ids) == ["none"]
        return (
            [(item.item_id, item.score) for item in found.items],
            [item.item_id for item in ranked.items],
            [item.item_id for item in stub.SimilarItems(m.SimilarItemsRequest(item_id=spell(1001))).items],
            stub.Explain(m.ExplainRequest(who=who, item_id=spell(1001))).score,
            stub.Profile(m.ProfileRequest(shopper_id=shopper)).events,
            len(stub.Audience(m.AudienceRequest(item_id=spell(1001), leave_out_owners=True)).shoppers),
        )

    plain = lists("17002", str)
    named = [item for item, _ in plain[0]]
    assert not {"1004", "1005", "1007"} & set(named)
    assert "1006" in named
    assert all(item.isdigit() for item in named)
    for shopper in SPELLINGS:
        assert lists(shopper, lambda number: f"{number}.0") == plain


def test_feedback_and_erasure_reach_a_shopper_by_any_certain_spelling(shop, service):
    stub, current = service.stub, service.current
    for number, shopper in enumerate(SPELLINGS):
        about = {"event_id": f"e{number}", "shopper_id": shopper, "request_id": "r"}
        done = m.Interaction(kind="PURCHASE", item_id="1003.0", **about)
        assert stub.RecordFeedback(m.RecordFeedbackRequest(interactions=[done])).recorded == 1
    assert service.store.shoppers() == ["17002"]
    assert (len(current.sessions), current.sessions.shoppers()) == (1, ["17002"])
    assert run(["client", "erase", "17002.00", "--folder", str(shop.path)]) == 0
    assert service.store.shoppers() == []
    assert "17002" not in set(open_store(shop.site().store).shoppers())
    assert traces(shop.path, "17002") == []
    wait_until_unknown(current)
    for number, shopper in enumerate(SPELLINGS):
        late = m.Interaction(
            event_id=f"l{number}", shopper_id=shopper, kind="CLICK", item_id="1003", request_id="r"
        )
        assert stub.RecordFeedback(m.RecordFeedbackRequest(interactions=[late])).recorded == 0
        with pytest.raises(grpc.RpcError) as refused:
            stub.Profile(m.ProfileRequest(shopper_id=shopper))
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def wait_until_unknown(current):
    for _ in range(400):
        if current.snapshot.shoppers.find("17002.0") is None and not len(current.sessions):
            return
        asyncio.run(asyncio.sleep(0.05))
    raise AssertionError("the service knows the shopper still")


@pytest.mark.parametrize("field", ["shopper_id", "item_id"])
def test_an_id_that_a_float_did_not_hold_is_refused_before_it_blocks_an_ingest(service, field):
    event = m.Interaction(event_id="e", shopper_id="a", item_id="1003", kind="CLICK")
    setattr(event, field, "12345678901234567890.0")
    with pytest.raises(grpc.RpcError, match="does not hold so many digits") as refused:
        service.stub.RecordFeedback(m.RecordFeedbackRequest(interactions=[event]))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_word_for_nobody_is_nobody(service):
    event = m.Interaction(event_id="e", shopper_id="null", session_id="s", item_id="1003", kind="CLICK")
    assert service.stub.RecordFeedback(m.RecordFeedbackRequest(interactions=[event])).recorded == 1
    assert service.store.shoppers() == []
    assert service.current.sessions.shoppers() == []
