"""An erasure on a real run: data, a trained round, a student, a running service, feedback; then no file knows who."""

import asyncio
import sqlite3
import threading
import tomllib
from types import SimpleNamespace

import grpc
import pandas as pd
import pytest
import tomli_w

from clients.distill.run import distill
from clients.erasure import erase_shopper
from clients.errors import SiteError, StoreError
from clients.feedback import FeedbackStore, Interaction, Kind
from clients.participate import participate
from clients.platform import HashableSite, prepare_platform
from clients.serving.current import Current
from clients.serving.door import Door
from clients.serving.erased import Tombstones, WithoutErased
from clients.serving.load import load_snapshot
from clients.serving.serve import Serving, serve
from clients.serving.v1 import serving_pb2 as m
from clients.serving.v1.serving_pb2_grpc import RecommenderStub
from clients.serving.watch import keep_current, state_of
from clients.tasks import _forgotten
from fedcart import run
from shared_model.vocabulary_file import vocabulary_bytes
from tests.clients.conftest import VOCABULARY
from tests.in_thread import InThread
from tests.traces import traces

WHO, SESSION = "unmistakable-4711", "session-of-nobody-known"


@pytest.fixture
def shop(member):
    """A member whose events are in a database outside its folder; one shopper is called WHO."""
    site = tomllib.loads(member.site_file.read_text())
    events = pd.read_csv(member.path / site.pop("events")).replace({"user_id": {"u02": WHO}})
    database = member.path.parent / "shop.db"
    with sqlite3.connect(database) as connection:
        events.to_sql("orders", connection, index=False)
    site["sources"] = {
        "orders": {"type": "sql", "url": f"sqlite:///{database}", "table": "orders"},
        "feedback": {"type": "feedback"},
    }
    member.site_file.write_text(tomli_w.dumps(site))
    member.vocabulary.write_bytes(vocabulary_bytes(VOCABULARY))
    assert run(["client", "ingest", "--folder", str(member.path)]) == 0
    return member


@pytest.fixture
def service(shop):
    """The service as `client serve` runs it, with its watcher, and its stub."""
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


def feedback(name: str, *, shopper: str = "", session: str = "") -> m.RecordFeedbackRequest:
    about = {"request_id": name, "shopper_id": shopper, "session_id": session}
    shown = m.Impression(event_id=f"{name}-shown", item_ids=["i004", "i005"], model_version="1", **about)
    bought = m.Interaction(event_id=f"{name}-bought", kind="PURCHASE", item_id="i004", **about)
    return m.RecordFeedbackRequest(impressions=[shown], interactions=[bought])


def test_no_file_of_the_platform_knows_an_erased_shopper(shop, service, ask, start, capsys):
    folder, stub = ["--folder", str(shop.path)], service.stub
    site = shop.site()
    ask = ask.model_copy(update={"epsilon": 2.0})
    participate(site, ask, start(ask))
    assert run(["client", "distill", "--neighbours", "5", *folder]) == 0
    assert stub.RecordFeedback(feedback("one", shopper=WHO)).recorded == 2
    assert stub.RecordFeedback(feedback("two", session=SESSION)).recorded == 2
    assert stub.RecordFeedback(feedback("three", shopper="u03")).recorded == 2
    assert run(["client", "ingest", *folder]) == 0
    assert {line.split(":")[0].split("/")[0] for line in traces(shop.path, WHO, SESSION)} >= {
        "store",
        "feedback.sqlite-wal",
    }
    chosen = set((shop.path / "serving").glob("*.json"))
    assert chosen

    assert run(["client", "erase", WHO, "--session", SESSION, *folder]) == 0
    assert traces(shop.path, WHO, SESSION) == []
    assert not [file for file in chosen if file.exists()]
    wait_for(
        lambda: service.current.snapshot.shoppers.find(WHO) is None and len(service.current.sessions) == 1
    )

    # What shops send late, or again, is taken and not kept; a full ingest brings nobody back.
    for again in (
        feedback("one", shopper=WHO),
        feedback("four", shopper=WHO),
        feedback("five", session=SESSION),
    ):
        assert stub.RecordFeedback(again).recorded == 0
    assert stub.RecordFeedback(feedback("six", shopper="u03")).recorded == 2
    assert len(service.current.sessions) == 1, "of u03"
    assert stub.Recommend(m.RecommendRequest(who=m.Who(shopper_id=WHO))).cold
    assert run(["client", "ingest", "--full", *folder]) == 0
    second = ask.model_copy(update={"run_id": "second"})
    participate(shop.site(), second, start(second))
    assert run(["client", "distill", "--neighbours", "5", *folder]) == 0
    assert run(["client", "report", *folder]) == 0
    assert traces(shop.path, WHO, SESSION) == []


def test_what_is_recorded_while_a_shopper_is_erased_does_not_stay(shop, service):
    """Feedback that passed the check before the tombstone was set, and was stored after the erasure deleted rows."""
    erased, events = Tombstones(shop.site()), [Interaction("late", WHO, "i004", Kind.CLICK, 1.0)]

    class Slow:
        """Stores once the erasure is done."""

        erase = service.store.erase

        def record(self, batch):
            erase_shopper(shop, WHO)
            return service.store.record(batch)

    assert WithoutErased(Slow(), erased).record(events).accepted == 1
    assert traces(shop.path, WHO) == []


def test_a_reader_that_keeps_the_journal_is_told_of_and_erasing_again_ends_it(tmp_path):
    store = FeedbackStore(tmp_path / "feedback.sqlite")
    store.record([Interaction("a", WHO, "i", Kind.CLICK, 1.0), Interaction("b", "u", "i", Kind.CLICK, 1.0)])
    store.engine.dispose()
    reader = sqlite3.connect(tmp_path / "feedback.sqlite")
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM feedback_interactions").fetchall()
    impatient = FeedbackStore(tmp_path / "feedback.sqlite")
    with impatient.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 50")
    with pytest.raises(StoreError, match="Run it again"):
        impatient.erase(WHO)
    reader.close()
    assert impatient.erase(WHO) == 0
    assert traces(tmp_path, WHO) == []
    assert impatient.erase("", ["no-session"]) == 0, "nobody's rows are not the anonymous ones"
    impatient.close()
    store.close()


def test_a_student_of_data_that_changed_meanwhile_does_not_stay(shop, monkeypatch):
    from clients.distill import run as module

    real = module.install_student

    def installed(*given):
        erase_shopper(shop, WHO)
        return real(*given)

    monkeypatch.setattr(module, "install_student", installed)
    with pytest.raises(SiteError, match="changed meanwhile"):
        distill(shop, (), 5)
    assert not (shop.path / "students").exists()


def test_what_serving_chose_on_data_that_changed_meanwhile_does_not_stay(shop, monkeypatch):
    """The service reads the old data, a shopper is erased, and then what was chosen with the shopper is written."""
    from clients.serving import load as module

    real = module.choose_local

    def chosen(platform):
        erase_shopper(shop, WHO)
        return real(platform)

    monkeypatch.setattr(module, "choose_local", chosen)
    assert load_snapshot(shop).shoppers.find(WHO) is None
    assert list((shop.path / "serving").glob("*.json")) == []


def test_the_worker_lets_go_of_data_that_changed(shop):
    """What is cached for the next round holds the shopper; the loop that waits for tasks looks each second."""
    data = HashableSite(shop.site())
    prepare_platform(data, ("tiny",), 6)
    assert _forgotten(shop, data) == data
    assert prepare_platform.cache_info().currsize > 0
    erase_shopper(shop, WHO)
    after = _forgotten(shop, data)
    assert after != data
    assert prepare_platform.cache_info().currsize == 0
    shop.site_file.write_text("name = ")
    assert _forgotten(shop, after) is after


def wait_for(true) -> None:
    done = threading.Event()
    for _ in range(600):
        if true():
            return
        done.wait(0.05)
    raise AssertionError("it did not happen")
