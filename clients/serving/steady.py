"""What makes single answers late in a process that serves, and is taken from it before the first call.

- *Threads.* A list from an index, or from a small catalogue, is a millisecond of work. Shared among threads it waits for
  the slowest of them at every step; on a busy machine that is tens of milliseconds.
- *The collector* goes through every object once in a while: half a million of imported modules and data that stay as long
  as the process. Frozen, they are left out. A snapshot is freed without the collector when it is exchanged (tested).
"""

import gc

import torch

from clients.serving.snapshot import Snapshot

FEW = 20_000
"""So few items are scored on one thread."""


def steady(snapshot: Snapshot) -> None:
    """Prepare this process for serving; call it once, with what is served first."""
    few = len(snapshot.shelf) <= FEW
    if all(few or arm.index is not None for arm in snapshot.arms.values()):
        torch.set_num_threads(1)
    gc.collect()
    gc.freeze()


def warm(snapshot: Snapshot) -> None:
    """Make what only some questions need, so that none of them waits for it: fitted encoders, how rare words are."""
    snapshot.encode(("",))
    _ = snapshot.shelf.frequencies
