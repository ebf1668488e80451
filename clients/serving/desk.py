"""Takes questions to the engine's threads: bounded queues, lists in batches that share one pass over the items.

| when                                    | what happens                                                    |
|-----------------------------------------|-----------------------------------------------------------------|
| more than `waiting` questions, or       | FullError at once, nothing is begun                             |
| a quarter as many batches of feedback   |                                                                 |
| the caller goes away                    | its question is let go of, or ends at the next chunk            |
| several lists wait                      | up to `BATCH` of them are made together                         |
| a long question (an audience)           | has a thread of its own, lists do not wait for it               |
| a database that hangs                   | holds `STORES` threads, and neither lists nor other questions   |
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeVar

from clients.feedback import FeedbackEvent, Recorded
from clients.serving.asks import ItemList, RecommendAsk
from clients.serving.current import Current
from clients.serving.feedback import FeedbackSink
from clients.serving.interleave import recommend
from clients.serving.snapshot import Snapshot
from shared_model.errors import FedcartError

BATCH = 16
"""Lists that are made together."""
STORES = 4
"""Batches of feedback that are stored at once."""
T = TypeVar("T")


class FullError(FedcartError):
    """Too many questions wait."""

    exit_code = 1
    code = "serving.full"


class _Places:
    """So many at once, and no more."""

    def __init__(self, limit: int, what: str) -> None:
        self._limit, self._what, self._taken = limit, what, 0

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Take a place; raise FullError."""
        if self._taken >= self._limit:
            raise FullError(f"{self._limit} {self._what} wait already: try again in a moment.")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


class _Threads:
    """So many threads. Whoever waits for one and goes away leaves nothing behind in an executor's queue."""

    def __init__(self, count: int, name: str) -> None:
        self._threads, self._free = ThreadPoolExecutor(count, name), asyncio.Semaphore(count)

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns; it goes on if its caller goes away, and keeps its thread until its end."""
        await self._free.acquire()
        job = asyncio.get_running_loop().run_in_executor(self._threads, work)
        job.add_done_callback(self._done)
        return await asyncio.shield(job)

    def _done(self, job: "asyncio.Future") -> None:
        self._free.release()
        if not job.cancelled():
            job.exception()  # looked at, also where nobody waits any more

    def stop(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Desk:
    """One for each process; use it in `async with`, in one event loop."""

    def __init__(self, current: Current, feedback: FeedbackSink, waiting: int) -> None:
        self._current, self._feedback = current, feedback
        self._lists: OrderedDict[asyncio.Future[ItemList], RecommendAsk] = OrderedDict()
        self._questions = _Places(waiting, "questions")
        self._batches = _Places(max(STORES, waiting // 4), "batches of feedback")
        self._awake = asyncio.Event()
        self._passes, self._others = _Threads(1, "lists"), _Threads(1, "others")
        self._stores = _Threads(STORES, "feedback")

    @asynccontextmanager
    async def working(self) -> AsyncIterator["Desk"]:
        """Answer until the block ends."""
        worker = asyncio.create_task(self._work())
        try:
            yield self
        finally:
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker
            for threads in (self._passes, self._others, self._stores):
                threads.stop()

    async def recommend(self, ask: RecommendAsk) -> ItemList:
        """Return a list; raise FullError, StoppedError."""
        with self._questions.one():
            answer: asyncio.Future[ItemList] = asyncio.get_running_loop().create_future()
            self._lists[answer] = replace(ask, stopped=answer.done)
            self._awake.set()
            try:
                return await answer
            finally:
                self._lists.pop(answer, None)

    async def other(self, question: Callable[[Snapshot, Callable[[], bool]], T]) -> T:
        """Return what `question` makes of the snapshot; it is given what says that nobody waits any more."""
        with self._questions.one():
            gone = False
            try:
                return await self._others.run(lambda: question(self._current.snapshot, lambda: gone))
            except asyncio.CancelledError:
                gone = True
                raise

    async def store(self, batch: Sequence[FeedbackEvent]) -> Recorded:
        """Store feedback durably; raise FullError, StoreError."""
        with self._batches.one():
            return await self._stores.run(lambda: self._feedback.record(batch))

    async def _work(self) -> None:
        while True:
            await self._awake.wait()
            batch = [self._lists.popitem(last=False) for _ in range(min(BATCH, len(self._lists)))]
            if not self._lists:
                self._awake.clear()
            if batch:
                asks = [ask for _, ask in batch]
                found = await self._passes.run(lambda asks=asks: self._answers(asks))  # type: ignore[misc]
                for (answer, _), value in zip(batch, found, strict=True):
                    if not answer.done():
                        if isinstance(value, Exception):
                            answer.set_exception(value)
                        else:
                            answer.set_result(value)

    def _answers(self, asks: list[RecommendAsk]) -> list[ItemList | Exception]:
        try:
            return list(recommend(self._current.snapshot, asks))
        except Exception as error:
            if len(asks) == 1:
                return [error]
            return [self._answers([ask])[0] for ask in asks]  # the one that fails fails alone
