"""Takes questions to the engine's threads: a bounded queue, lists in batches that share one pass over the items.

| when                              | what happens                                         |
|-----------------------------------|-------------------------------------------------------|
| more than `waiting` questions     | FullError at once, nothing is begun                   |
| the caller goes away              | its work is not begun, or ends at the next chunk      |
| several lists wait                | up to `BATCH` of them are made together               |
| a long question (an audience)     | has a thread of its own, lists do not wait for it     |
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeVar

from clients.serving.asks import ItemList, RecommendAsk
from clients.serving.current import Current
from clients.serving.interleave import recommend
from clients.serving.snapshot import Snapshot
from shared_model.errors import FedcartError

BATCH = 16
"""Lists that are made together."""
T = TypeVar("T")
_Waiting = tuple[RecommendAsk, "asyncio.Future[ItemList]"]


class FullError(FedcartError):
    """Too many questions wait."""

    exit_code = 1
    code = "serving.full"


class Desk:
    """One for each process; use it in `async with`, in one event loop."""

    def __init__(self, current: Current, waiting: int) -> None:
        self._current, self._limit = current, waiting
        self._lists: deque[_Waiting] = deque()
        self._open = 0
        self._awake = asyncio.Event()
        self._threads = [ThreadPoolExecutor(1, "lists"), ThreadPoolExecutor(1, "others")]

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
            for threads in self._threads:
                threads.shutdown(wait=False, cancel_futures=True)

    async def recommend(self, ask: RecommendAsk) -> ItemList:
        """Return a list; raise FullError, StoppedError."""
        with self._place():
            answer: asyncio.Future[ItemList] = asyncio.get_running_loop().create_future()
            self._lists.append((replace(ask, stopped=answer.done), answer))
            self._awake.set()
            return await answer

    async def other(self, question: Callable[[Snapshot, Callable[[], bool]], T]) -> T:
        """Return what `question` makes of the snapshot; it is given what says that nobody waits any more."""
        with self._place():
            gone = False
            loop = asyncio.get_running_loop()
            try:
                return await loop.run_in_executor(
                    self._threads[1], lambda: question(self._current.snapshot, lambda: gone)
                )
            except asyncio.CancelledError:
                gone = True
                raise

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        if self._open >= self._limit:
            raise FullError(f"{self._limit} questions wait already: try again in a moment.")
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._awake.wait()
            batch = [self._lists.popleft() for _ in range(min(BATCH, len(self._lists)))]
            batch = [(ask, answer) for ask, answer in batch if not answer.done()]
            if not self._lists:
                self._awake.clear()
            if batch:
                asks = [ask for ask, _ in batch]
                found = await loop.run_in_executor(self._threads[0], self._answers, asks)
                for (_, answer), value in zip(batch, found, strict=True):
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
