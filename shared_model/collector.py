"""Python's collector of cyclic garbage, where it only costs time."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_off() -> Iterator[None]:
    """Do without the collector for a while, in which nearly all that is made stays: imports, data that is read.

    It would go through all of that again and again, for about a second of a start. Nested blocks end with the outermost.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
