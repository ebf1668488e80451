"""Files written whole or not at all, and never over what is there."""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from federation.errors import FolderError, KeyFileError
from shared_model.errors import BadInputError

PRIVATE, PUBLIC = 0o600, 0o644


def create(path: Path, data: bytes, mode: int = PUBLIC) -> None:
    """Write a new file durably; raise BadInputError if something is there, FolderError if it cannot be written."""
    with _written(path, data, mode) as temporary:
        try:
            os.link(temporary, path)  # atomic, and never over an existing file
        except FileExistsError:
            raise BadInputError(f"{path}: is there already, and is not overwritten.") from None


def replace(path: Path, data: bytes, mode: int = PUBLIC) -> None:
    """Write a file durably over the old one: a crash leaves the old or the new, whole."""
    with _written(path, data, mode) as temporary:
        os.replace(temporary, path)


@contextlib.contextmanager
def _written(path: Path, data: bytes, mode: int) -> Iterator[Path]:
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
        sync_folder(path.parent)
    except OSError as error:
        raise FolderError(f"{path}: cannot be written ({error.strerror}).") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Make a folder, for its owner only, with what `fill` writes: all of it or nothing.

    Raises BadInputError if `path` is there and not an empty folder.
    """
    if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
        raise BadInputError(f"{path}: is there already, and is not overwritten. Choose another folder.")
    new: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))  # mode 0700
        fill(new)
        os.rename(new, path)  # over an empty folder at most
        sync_folder(path.parent)
    except OSError as error:
        raise FolderError(f"{path}: cannot be made ({error.strerror}).") from None
    finally:
        if new is not None:
            shutil.rmtree(new, ignore_errors=True)


def read_material(path: Path, limit: int = 65536) -> bytes:
    """Return a file that came from elsewhere; raise BadInputError if it cannot be read or is over `limit` bytes."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read ({error.strerror}).") from None
    if len(data) > limit:
        raise BadInputError(f"{path}: is larger than {limit} bytes, so it is not what was asked for.")
    return data


def read_private(path: Path) -> bytes:
    """Return a private file; raise KeyFileError if it is missing, unreadable, or not for its owner alone."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        data = path.read_bytes()
    except FileNotFoundError:
        raise KeyFileError(f"{path}: is missing; restore it from a backup.") from None
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read ({error.strerror}).") from None
    if mode & 0o077:
        raise KeyFileError(f"{path}: has mode {mode:04o}, so others can read it; run chmod 600 {path}.")
    return data
