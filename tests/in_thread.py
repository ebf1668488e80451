"""A gRPC service in an event loop of a thread of its own."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

Serve = Callable[[Callable[[str], None], asyncio.Event], Awaitable[None]]
"""(what is told the address once calls are taken, what is set to end) → until it is set."""


class InThread:
    """Runs `serve` until `stop`; raises here what it raises before it is ready."""

    def __init__(self, serve: Serve) -> None:
        self._ready, self.address, self._error = threading.Event(), "", None
        self._thread = threading.Thread(target=self._run, args=(serve,), daemon=True)
        self._thread.start()
        assert self._ready.wait(60)
        if self._error is not None:
            raise self._error

    def _run(self, serve: Serve) -> None:
        async def until_stopped() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            await serve(self._listening, self._stop)

        try:
            asyncio.run(until_stopped())
        except Exception as error:
            self._error = error
            self._ready.set()

    def _listening(self, address: str) -> None:
        self.address = address
        self._ready.set()

    def stop(self) -> None:
        """End it, and wait for its end."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        assert not self._thread.is_alive()
