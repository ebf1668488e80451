"""The platform's event store: what ingest made, sharded by shopper, changed whole or not at all.

store/
  key              secret of this store: which shard a shopper is in, and how an erased one is remembered
  manifest.json    what counts: shards, marks of the sources, hashes of erased shoppers; replaced at once
  7-012.parquet    shard 12 as generation 7 wrote it; a file that the manifest does not name does not count
  lock             held by whoever changes the store

All events of one shopper are in one shard, so that whatever is done for a shopper needs one shard in memory.
"""

import base64
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from clients.data.ids import one_spelling, real_ids
from clients.data.sources.raw import Mark
from clients.data.spellings import numbers
from clients.data.table import OrderKind, Table
from clients.errors import StoreError
from federation.files import PRIVATE, create, replace, sync_folder
from federation.lock import held

SHARDS = 64
SCHEMA = pa.schema(
    [
        ("user_id", pa.large_string()),
        ("item_id", pa.large_string()),
        ("order", pa.float64()),
        ("basket", pa.large_string()),
        ("event", pa.large_string()),
        ("value", pa.float64()),
        ("weight", pa.float64()),
    ]
)
COLUMNS = SCHEMA.names
STAGED = "staged-"
"""Files of an ingest that is not done begin so."""
IDS = ["user_id", "item_id"]
"""Columns of which a shard's file holds each distinct value once, and numbers."""
_DIGEST = 16
_TEXT = pd.StringDtype("pyarrow", na_value=np.nan)


class Manifest(BaseModel):
    """What counts in a store."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = 1
    generation: int = 0
    shards: int = SHARDS
    sharding: Literal["blake2b", "siphash"] = "blake2b"
    """Which keyed hash says a shopper's shard; the second is quicker, the first that of older stores."""
    order_kind: OrderKind | None = None
    files: dict[int, str] = {}
    """Shard → its file."""
    items: str | None = None
    """The catalogue's file, where the store keeps one."""
    added: int = 0
    """How many events were ever added; erasures do not lower it."""
    marks: dict[str, Mark] = {}
    """Source → how far it was read."""
    erased: frozenset[str] = frozenset()
    """Keyed hashes of erased shoppers, hexadecimal."""
    erased_sessions: frozenset[str] = frozenset()
    """The same of anonymous sessions that were named as theirs."""


@dataclass(frozen=True)
class EventStore:
    """A store's folder, which `open_store` made."""

    path: Path
    key: bytes

    @property
    def manifest_file(self) -> Path:
        """What counts."""
        return self.path / "manifest.json"

    def manifest(self) -> Manifest:
        """Read what counts now; raise StoreError."""
        try:
            manifest = Manifest.model_validate_json(self.manifest_file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValidationError):
            raise StoreError(
                f"{self.manifest_file}: cannot be read. Restore the whole folder from a backup."
            ) from None
        if manifest.version != 1:
            raise StoreError(
                f"{self.manifest_file}: version {manifest.version}; use the fedcart that wrote it."
            )
        return manifest

    def digests(self, shoppers: list[str]) -> list[bytes]:
        """Keyed hashes (BLAKE2b, 16 bytes) of shoppers: an erased one cannot be guessed without the key."""
        keyed = hashlib.blake2b(digest_size=_DIGEST, key=self.key)  # copied: the key is hashed once
        digests = []
        for shopper in shoppers:
            one = keyed.copy()
            one.update(shopper.encode())
            digests.append(one.digest())
        return digests

    def erased(self, shopper: str) -> bool:
        """Whether a shopper was erased, and is to stay unknown."""
        return self.digests([one_spelling(shopper)])[0].hex() in self.manifest().erased

    def erased_session(self, session: str) -> bool:
        """Whether a session was erased with its shopper."""
        return self.digests([one_spelling(session)])[0].hex() in self.manifest().erased_sessions

    def holds(self, shopper: str) -> bool:
        """Whether there are events of a shopper; raise StoreError."""
        manifest, shopper = self.manifest(), one_spelling(shopper)
        number = int(self.shards_of(manifest, pa.array([shopper], pa.large_string()))[0])
        return bool(pc.any(pc.equal(self.shard(manifest, number)["user_id"], shopper)).as_py())

    def shoppers(self) -> Iterator[str]:
        """All shoppers of whom there are events; raise StoreError."""
        for name in self.manifest().files.values():
            yield from pc.unique(self._read(name, columns=["user_id"])["user_id"]).to_pylist()

    def shards_of(self, manifest: Manifest, ids: pa.Array) -> npt.NDArray[np.int64]:
        """The shard of each shopper, from the keyed hash of the id's number: spellings of one number are in one shard."""
        shoppers = numbers(ids).to_numpy(zero_copy_only=False)
        if manifest.sharding == "blake2b":
            data = b"".join(digest[:8] for digest in self.digests(list(shoppers)))
            hashes = np.frombuffer(data, dtype="<u8")
        else:
            key = hashlib.blake2b(b"shards", digest_size=12, key=self.key).digest()
            hashes = pd.util.hash_array(shoppers, hash_key=base64.b64encode(key).decode(), categorize=False)
        return (hashes % np.uint64(manifest.shards)).astype(np.int64)

    def shard(self, manifest: Manifest, number: int) -> pa.Table:
        """The events of one shard, columns as in SCHEMA; raise StoreError."""
        name = manifest.files.get(number)
        return SCHEMA.empty_table() if name is None else self._read(name, schema=SCHEMA)

    def size(self, manifest: Manifest) -> int:
        """How many events there are; raise StoreError."""
        return sum(len(self._read(name, columns=["order"])) for name in manifest.files.values())

    def tables(self) -> Iterator[Table]:
        """Each shard that holds events, as an interactions table, of which IDS are categories."""
        manifest = self.manifest()
        for number in sorted(manifest.files):
            events = self._read(manifest.files[number], columns=COLUMNS, read_dictionary=IDS)
            if len(events):
                frame = to_frame(events)
                names = {name: name for name in COLUMNS}
                source = str(self.path)
                yield Table(frame, source, ((source, len(frame)),), names, {}, manifest.order_kind)

    def _read(self, name: str, **options: Any) -> pa.Table:
        try:
            return pq.read_table(self.path / name, partitioning=None, **options)
        except (OSError, pa.ArrowException) as error:
            raise StoreError(
                f"{self.path / name}: cannot be read ({type(error).__name__}). Restore the whole folder from a "
                "backup, or delete it and ingest again (erased shoppers must then be erased again)."
            ) from None

    @contextmanager
    def changing(self) -> Iterator[Manifest]:
        """Hold the lock, clear away what a crash left, and give what counts; raise BusyError."""
        with held(self.path / "lock", "An ingest or erasure of this store"):
            manifest = self.manifest()
            self.clear(manifest)
            yield manifest

    def write(self, name: str, table: pa.Table) -> None:
        """Write a file that does not count yet, durably; raise StoreError."""
        path = self.path / name
        try:
            # Nothing looks for single rows of a shard: no statistics.
            pq.write_table(
                table,
                path,
                compression="zstd",
                use_dictionary=[*IDS, "basket", "event"],
                dictionary_pagesize_limit=2**30,
                write_statistics=False,
            )
            with path.open("rb") as file:
                os.fsync(file.fileno())
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"{path}: cannot be written: {' '.join(str(error).split())[:200]}") from None

    def commit(self, manifest: Manifest) -> None:
        """Make a manifest the one that counts, then delete what it no longer names."""
        sync_folder(self.path)
        replace(self.manifest_file, manifest.model_dump_json(indent=1).encode() + b"\n", PRIVATE)
        self.clear(manifest)

    def clear(self, manifest: Manifest) -> None:
        """Delete data files that do not count."""
        named = {*manifest.files.values(), manifest.items}
        for file in (*self.path.glob("*.parquet"), *self.path.glob(f"{STAGED}*.arrow")):
            if file.name not in named:
                file.unlink(missing_ok=True)

    def erase(self, shopper: str, sessions: Sequence[str] = ()) -> int:
        """Delete a shopper's events and remember to keep shopper and sessions out, in one step; return how many went."""
        shopper = one_spelling(shopper)
        digest = self.digests([shopper])[0]
        theirs = {one.hex() for one in self.digests(real_ids(sessions))}
        with self.changing() as manifest:
            number = int(self.shards_of(manifest, pa.array([shopper], pa.large_string()))[0])
            events = self.shard(manifest, number)
            stay = pc.not_equal(events["user_id"], shopper)
            left = events.filter(stay)
            generation = manifest.generation + 1
            files = dict(manifest.files)
            if len(left) < len(events):
                files[number] = file_name(generation, number)
                self.write(files[number], left)
            changed = {
                "generation": generation,
                "files": files,
                "erased": manifest.erased | {digest.hex()},
                "erased_sessions": manifest.erased_sessions | theirs,
            }
            self.commit(manifest.model_copy(update=changed))
        return len(events) - len(left)


def open_store(path: Path, shards: int = SHARDS) -> EventStore:
    """Open a store, or make an empty one; raise StoreError where it is neither."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = path / "key"
        if not key.exists():
            if (path / "manifest.json").exists():
                raise StoreError(f"{key}: is missing. Restore the whole folder from a backup.")
            create(key, os.urandom(32), PRIVATE)
        store = EventStore(path, key.read_bytes())
    except OSError as error:
        raise StoreError(f"{path}: cannot be used as event store ({error.strerror}).") from None
    if not store.manifest_file.exists():
        with held(path / "lock", "An ingest or erasure of this store"):
            if not store.manifest_file.exists():
                empty = Manifest(shards=shards, sharding="siphash")
                replace(store.manifest_file, empty.model_dump_json().encode(), PRIVATE)
    return store


def file_name(generation: int, shard: int) -> str:
    """The file that a generation writes for a shard."""
    return f"{generation}-{shard:03}.parquet"


def to_frame(events: pa.Table) -> pd.DataFrame:
    """Events of SCHEMA as a frame: IDS as categories, other text as `str`, numbers as float64 with NaN."""
    return pd.DataFrame({name: _column(events[name]) for name in events.column_names}, copy=False)


def _column(column: pa.ChunkedArray) -> Any:
    if pa.types.is_floating(column.type):
        return column.to_numpy()
    if not pa.types.is_dictionary(column.type):
        return pd.array(column, dtype=_TEXT)
    whole = column.unify_dictionaries().combine_chunks()
    ids = pd.Index(pd.array(whole.dictionary, dtype=_TEXT))
    return pd.Categorical.from_codes(whole.indices.to_numpy(), categories=ids, validate=False)
