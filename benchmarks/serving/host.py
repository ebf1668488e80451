"""The served process of the benchmarks: `python -m benchmarks.serving.host ITEMS SHOPPERS WIDTH SEED FOLDER [faults]`.

Every call is asked for the token, as a platform's own service asks. With `faults` it exchanges its snapshot (model and
catalogue) every second, and its database is away every other second. It prints its address, and on SIGTERM ends.
"""

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving.shop import made_snapshot
from clients.errors import StoreError
from clients.feedback import FeedbackEvent, FeedbackStore, Recorded
from clients.serving.current import Current
from clients.serving.door import Door, bearer
from clients.serving.serve import Serving, serve
from clients.serving.steady import steady, warm
from clients.site import ServingSettings
from federation.supervise import configure_log

TOKEN = "benchmark-token-0123456789"  # noqa: S105  (of a made-up shop)
SHOWN = bearer(TOKEN)
"""The metadata of a call."""


class Away:
    """A store that cannot be reached every other second."""

    def __init__(self, store: FeedbackStore) -> None:
        self._store = store

    def record(self, batch: Sequence[FeedbackEvent]) -> Recorded:
        """Store the batch, or raise StoreError."""
        if int(time.monotonic()) % 2:
            raise StoreError("the benchmark's database is away")
        return self._store.record(batch)


def main() -> None:
    """Serve until SIGTERM."""
    configure_log()
    items, shoppers, width, seed = map(int, sys.argv[1:5])
    folder, faults = Path(sys.argv[5]), "faults" in sys.argv[6:]
    current = Current(made_snapshot(items, shoppers, width, seed, folder))
    store = FeedbackStore(folder / "feedback.sqlite")
    sink: FeedbackStore | Away = store
    if faults:
        sink = Away(store)
        other = made_snapshot(items + 100, shoppers, width, seed + 1, folder, version="v2")
        for snapshot in (current.snapshot, other):
            warm(snapshot)  # as the service's own watcher does
        threading.Thread(target=_swap, args=(current, [other, current.snapshot]), daemon=True).start()
    steady(current.snapshot)
    asyncio.run(_serve(Serving(current, ServingSettings(port=0), Door(TOKEN), sink)))


def _swap(current: Current, snapshots: list) -> None:
    while True:
        for snapshot in snapshots:
            time.sleep(1.0)
            current.swap(snapshot)


async def _serve(serving: Serving) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    def ready(address: str) -> None:
        sys.stdout.write(address + "\n")
        sys.stdout.flush()

    await serve(serving, ready, stop)


if __name__ == "__main__":
    main()
