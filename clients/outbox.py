"""The outbox: the one place from which a trained update leaves, written once and for all.

An update is stored durably under the key of its reservation before anything is sent, and only what is stored
is ever sent: a second attempt at the same key (a restarted client, a repeated request) sends the first one's
bytes. The ledger holds their digest, so nothing else passes for them.

    outbox/<sha256 of key>.update   checksum, then the tensors
    outbox/id                       random, made once: it is part of every key, so two folders on one ledger are charged
                                    apart, and a copy of a folder is the same outbox and releases nothing twice
    outbox/lock                     held for a whole round

| the outbox …                                      | outcome                                            |
|---------------------------------------------------|----------------------------------------------------|
| is held by another process                        | RoundError `round.busy`; nothing is changed        |
| holds an update that its ledger does not know     | OutboxError: the ledger is older than the outbox   |
| holds updates, and no id or one that is none      | OutboxError                                        |
| holds a damaged update                            | OutboxError; it is not made again                  |
"""

import contextlib
import os
import re
import secrets
import tempfile
from collections.abc import Collection, Iterator, Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from clients.errors import OutboxError, RoundError
from federation.errors import BusyError, FolderError
from federation.files import PRIVATE, create, sync_folder
from federation.lock import held

_ID = re.compile(r"[0-9a-f]{32}")


class Outbox:
    """Write-once files under a folder, named by a hash of their key."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, key: str) -> Path:
        return self._folder / f"{sha256(key.encode()).hexdigest()}.update"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the outbox for a whole round; raise RoundError if another process does, OutboxError without a folder."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutboxError(f"{self._folder}: cannot be made ({error.strerror}).") from None
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(held(self._folder / "lock", "A round of this platform"))
            except BusyError as error:
                raise RoundError(str(error), "busy") from None
            except FolderError as error:
                raise OutboxError(str(error)) from None
            yield

    def id(self) -> str:
        """Return what tells this outbox from all others, made at the first call; to be called while it is held."""
        path = self._folder / "id"
        try:
            if not path.exists():
                if any(self._folder.glob("*.update")):
                    raise OutboxError(
                        f"{path}: is missing, and updates are here. Restore the folder from a backup; if there is none, "
                        f"move it away: its updates are then never sent again."
                    )
                create(path, secrets.token_hex(16).encode() + b"\n", PRIVATE)
            text = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError, FolderError) as error:
            raise OutboxError(f"{path}: cannot be read or written: {error}.") from None
        if not _ID.fullmatch(text):
            raise OutboxError(f"{path}: is no outbox's id. Restore it from a backup.")
        return text

    def require_known(self, keys: Collection[str]) -> None:
        """Raise OutboxError if an update is stored under a key that is not among `keys`, all that the ledger reserved.

        What was charged is then missing in the ledger, which was put back or begun anew: its budget is not what it says.
        """
        known = {self._path(key).name for key in keys}
        unknown = sorted(path.name for path in self._folder.glob("*.update") if path.name not in known)
        if unknown:
            raise OutboxError(
                f"{self._folder}: holds {len(unknown)} updates that the ledger does not know (the first: {unknown[0]}). "
                "The ledger is older than they are, or another one: restore its newest copy. If it is lost, what was "
                "spent is lost with it, and only who answers for the shoppers' privacy may begin a new one and move "
                "this folder away."
            )

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

    def put(self, key: str, arrays: Mapping[str, NDArray]) -> None:
        """Store `arrays` durably under `key`; what is there already stays. Raise OutboxError if that cannot be."""
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
                    os.link(temporary, self._path(key))  # the first one stays
                sync_folder(self._folder)
            finally:
                os.unlink(temporary)
        except OSError as error:
            raise OutboxError(
                f"{self._folder}: the update cannot be stored: {error}. Nothing was sent; free or repair the disk."
            ) from None
