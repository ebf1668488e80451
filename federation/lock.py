"""A lock file that one process holds at a time; the system lets go of it however that process ends."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from federation.errors import BusyError, FolderError

_TRIES, _PAUSE = 10, 0.05


@contextlib.contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold the lock `path`; raise BusyError, which names it and its holder, if another process does.

    The file stays: only the lock counts, which ends with its process, also after kill -9.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FolderError(f"{path}: the lock file cannot be opened ({error.strerror}).") from None
    try:
        try:
            _take(handle)
        except BlockingIOError:
            holder = os.read(handle, 32).decode("ascii", "replace").strip() or "unknown"
            raise BusyError(f"{what} runs already: process {holder} holds {path}. Stop it first.") from None
        except OSError as error:
            raise FolderError(f"{path}: cannot be locked ({error.strerror}); use a local disk.") from None
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(handle)


def _take(handle: int) -> None:
    """Lock a file; raise BlockingIOError if another process has it for longer than `is_held` does."""
    for _ in range(_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_PAUSE)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def turn(path: Path) -> Iterator[None]:
    """Hold the lock `path` for a short change, after those who were there before; raise FolderError."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FolderError(f"{path}: the lock file cannot be opened ({error.strerror}).") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            raise FolderError(f"{path}: cannot be locked ({error.strerror}); use a local disk.") from None
        yield
    finally:
        os.close(handle)


def is_held(path: Path) -> bool:
    """Whether some process holds the lock `path` now."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: those who ask do not see each other
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
