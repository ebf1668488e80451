"""The outbox: the one place from which a trained update leaves, written once and for all.

An update is stored durably under the key of its reservation before anything is sent, and only what is stored
is ever sent. A second attempt at the same key (a restarted client, a repeated request) sends the first one's
bytes, so that one reservation releases one output, whatever crashes when.
"""

import contextlib
import os
import tempfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from clients.errors import OutboxError


class Outbox:
    """Write-once files under a folder, named by a hash of their key."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, key: str) -> Path:
        return self._folder / f"{sha256(key.encode()).hexdigest()}.update"

    def get(self, key: str) -> dict[str, NDArray] | None:
        """Return what was stored under `key`, or None; raise OutboxError if it is damaged."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OutboxError(f"{path}: the stored update cannot be read: {error}.") from None
        digest, body = data[:32], data[32:]
        if sha256(body).digest() != digest:
            raise OutboxError(
                f"{path}: the stored update is damaged. It was charged, so it is not made again; "
                "restore the file from a backup, or leave this round out."
            )
        try:
            return {name: np.array(array) for name, array in load(body).items()}
        except SafetensorError as error:
            raise OutboxError(f"{path}: the stored update cannot be read: {error}.") from None

    def put(self, key: str, arrays: Mapping[str, NDArray]) -> dict[str, NDArray]:
        """Store `arrays` under `key` unless something is there already; return what is there now."""
        path = self._path(key)
        body = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self._folder, suffix=".tmp")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(sha256(body).digest() + body)
                    file.flush()
                    os.fsync(file.fileno())
                with contextlib.suppress(FileExistsError):
                    os.link(temporary, path)  # the first one stays
                _sync_folder(self._folder)
            finally:
                os.unlink(temporary)
        except OSError as error:
            raise OutboxError(
                f"{self._folder}: the update cannot be stored: {error}. Nothing was sent; "
                "free or repair the disk and run again."
            ) from None
        stored = self.get(key)
        if stored is None:
            raise OutboxError(f"{path}: the update vanished after it was stored. Nothing was sent.")
        return stored


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
