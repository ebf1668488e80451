"""What nobody waits for is let go of, and what is kept has a size: desk and sessions, without a network."""

import asyncio
import gc
import threading
import tracemalloc
import weakref

import pytest

from clients.errors import StoreError
from clients.feedback import Recorded
from clients.serving import desk as module
from clients.serving.asks import RecommendAsk, Who
from clients.serving.current import Current
from clients.serving.desk import STORES, Desk, FullError
from clients.serving.sessions import SessionLimits, Sessions


class Hanging:
    """A store, and a pass over the items, that begin and do not end until they are released."""

    def __init__(self) -> None:
        self.begun, self.release = 0, threading.Event()

    def __call__(self, *_: object) -> Recorded:
        self.begun += 1
        self.release.wait(30)
        raise StoreError("gone")

    record = __call__


class Heavy(str):
    """A text that can be watched."""


async def _cancelled(begin, count: int) -> None:
    """Begin so many calls one after the other, and let each go once it waits."""
    for _ in range(count):
        task = asyncio.ensure_future(begin())
        await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("kind", ["lists", "others", "feedback"])
def test_callers_who_go_away_leave_nothing_in_a_queue(make, monkeypatch, kind):
    """The engine, or the database, hangs meanwhile; each question would be kept until it goes on."""
    hanging, heavy = Hanging(), []
    monkeypatch.setattr(module, "recommend", hanging)

    def text() -> str:
        made = Heavy("x" * 1000)
        heavy.append(weakref.ref(made))
        return made

    async def run() -> None:
        async with Desk(Current(make().snapshot), hanging, 50).working() as desk:
            begin = {
                "lists": lambda: desk.recommend(RecommendAsk(Who(texts=(text(),)))),
                "others": lambda: _other(desk, hanging, text()),
                "feedback": lambda: desk.store([text()]),
            }[kind]
            try:
                await _cancelled(begin, 300)
                gc.collect()
                kept = sum(one() is not None for one in heavy)
                assert 0 < hanging.begun <= STORES
                assert kept <= STORES + 1, "those that are being worked on, and the last that went"
            finally:
                hanging.release.set()

    asyncio.run(run())


async def _other(desk: Desk, hanging: Hanging, text: str) -> object:
    return await desk.other(lambda *_: hanging(text))


def test_feedback_that_waits_for_a_database_takes_no_place_of_a_list(make):
    hanging = Hanging()

    async def run() -> None:
        async with Desk(Current(make().snapshot), hanging, 16).working() as desk:
            waiting = [asyncio.ensure_future(desk.store([])) for _ in range(4)]
            await asyncio.sleep(0.01)
            with pytest.raises(FullError, match="4 batches of feedback wait already"):
                await desk.store([])
            assert (await desk.recommend(RecommendAsk(Who("u02")))).items
            assert await desk.other(lambda snapshot, _: snapshot.version) == "v1"
            hanging.release.set()
            assert {type(one) for one in await asyncio.gather(*waiting, return_exceptions=True)} == {
                StoreError
            }

    asyncio.run(run())


def test_sessions_have_a_size_that_is_the_memory_they_take():
    limit = 2**20
    tracemalloc.start()
    try:
        sessions = Sessions(SessionLimits(bytes=limit))
        before = tracemalloc.get_traced_memory()[0]
        for n in range(3_000):
            for event in range(n % 7 + 1):
                sessions.add(f"shopper-{n}", f"session-{n}", f"{n}-{event}".ljust(200 + n % 300, "x"))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0 < len(sessions) < 3_000
    assert limit / 2 < taken < limit
    assert sessions.joined(Who(session="session-2999")).items
    assert not sessions.joined(Who(session="session-0")).items, "the one that rested longest went"
    for n in range(3_000):
        sessions.end(f"session-{n}")
    assert (len(sessions), sessions._bytes) == (0, 0)


def test_a_session_that_rests_is_forgotten_though_nobody_asks():
    now = [0.0]
    sessions = Sessions(SessionLimits(seconds=10), lambda: now[0])
    sessions.add("u", "one", "i")
    now[0] = 6.0
    sessions.add("u", "two", "i")
    now[0] = 11.0
    sessions.rest()
    assert sessions.names() == ["two"]
    now[0] = 17.0
    sessions.rest()
    assert len(sessions) == 0
