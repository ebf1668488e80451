"""Independent trainings side by side: torch works outside the interpreter's lock."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_threads(work: Callable[[T], R], items: Sequence[T], done: Callable[[int, R], None]) -> list[R]:
    """Return `work` of each item, in order; `done` is told how many are done, and the newest result.

    The first error ends everything that has not begun, and is raised.
    """
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        futures = [pool.submit(work, item) for item in items]
        for number, future in enumerate(as_completed(futures), start=1):
            done(number, future.result())
        return [future.result() for future in futures]
    finally:
        pool.shutdown(cancel_futures=True)
