"""A process of its own for tests that fork: it publishes or rolls back in children that are killed, or all at once.

    python killed.py FOLDER RUNS kill publish|rollback    kill -9 before each step on the disk, until one child ends
    python killed.py FOLDER RUNS together                 publish every run in a child of its own, all at once

RUNS is a pickled list of finished runs. Prints what the store holds after each child, as a JSON line. It forks, which a
process in which gRPC works must not.
"""

import json
import os
import pickle
import signal
import sys
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

from federation.validity import now
from server.folder import ServerFolder
from server.registry.run import FinishedRun
from server.registry.store import ModelStore

STEPS = ("fsync", "rename", "replace", "link", "mkdir", "unlink", "fchmod")


def fork(action: Callable[[], object], last_step: int | None = None) -> int:
    """Run `action` in a child, which is killed before its step number `last_step`; return its process id."""
    child = os.fork()
    if child:
        return child
    left = [last_step or -1]

    def stepping(real: Callable) -> Callable:
        def call(*arguments: object, **options: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    for name in STEPS:
        setattr(os, name, stepping(getattr(os, name)))
    code = 1
    try:
        action()
        code = 0
    finally:
        os._exit(code)


def tell(fed: ServerFolder, ended: str) -> None:
    store = ModelStore.open(fed)
    listing = store.listing()
    seen = {
        "ended": ended,
        "runs": [published.card.run.id for published in store.all()],
        "serial": listing.serial if listing else 0,
        "current": listing.number(listing.current) if listing else 0,
    }
    print(json.dumps(seen))  # noqa: T201


def kill(fed: ServerFolder, action: Callable[[], object]) -> None:
    for step in count(1):
        _, status = os.waitpid(fork(action, step), 0)
        killed = os.WIFSIGNALED(status)
        tell(fed, "killed" if killed else f"exit {os.WEXITSTATUS(status)}")
        if not killed:
            break


def main(folder: str, file: str, what: str, how: str = "") -> None:
    fed, runs = ServerFolder(Path(folder)), read_runs(file)
    if what == "together":
        children = [fork(lambda run=run: ModelStore.open(fed).publish(run, now())) for run in runs]
        for child in children:
            tell(fed, f"exit {os.WEXITSTATUS(os.waitpid(child, 0)[1])}")
    elif how == "publish":
        kill(fed, lambda: ModelStore.open(fed).publish(runs[0], now()))
    else:
        kill(fed, lambda: ModelStore.open(fed).make_current("1", "", now()))


def read_runs(file: str) -> Sequence[FinishedRun]:
    return pickle.loads(Path(file).read_bytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
