"""Looks for an id in everything that lies in a folder: as it is, as the usual hashes of it, and inside Parquet."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clients.data.keyed import keyed_hash
from clients.data.store import EventStore, Manifest


def traces(folder: Path, *names: str, seed: int = 0) -> list[str]:
    """Return `file: what` for each trace; the tombstones of the store's manifest are none.

    Looks again from the start when a file is gone before it was read: a service that runs replaces its files.
    """
    for _ in range(100):
        try:
            return _traces(folder, names, seed)
        except FileNotFoundError:
            continue
    raise AssertionError(f"{folder}: its files never stood still")


def _traces(folder: Path, names: tuple[str, ...], seed: int) -> list[str]:
    keys = [file.read_bytes() for file in folder.rglob("key") if (file.parent / "manifest.json").exists()]
    needles = {what: needle for name in names for what, needle in _needles(name, keys, seed)}
    found = []
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        data = file.read_bytes()
        if file.suffix == ".parquet":
            data += _decoded(file)
        if file.name == "manifest.json":
            data = (
                Manifest.model_validate_json(data)
                .model_copy(update={"erased": frozenset(), "erased_sessions": frozenset()})
                .model_dump_json()
                .encode()
            )
        found += [f"{file.relative_to(folder)}: {what}" for what, needle in needles.items() if needle in data]
    return found


def _needles(name: str, keys: list[bytes], seed: int) -> Iterator[tuple[str, bytes]]:
    text = name.encode()
    yield f"{name} as it is", text
    yield f"{name} in UTF-16", name.encode("utf-16-le")
    for kind in ("md5", "sha1", "sha256", "sha512", "blake2b"):
        digest = hashlib.new(kind, text)
        yield f"{kind} of {name}", digest.digest()
        yield f"{kind} of {name} in hex", digest.hexdigest().encode()
    for key in keys:
        tombstone = EventStore(Path(), key).digests([name])[0]
        yield f"tombstone of {name}", tombstone
        yield f"tombstone of {name} in hex", tombstone.hex().encode()
    for purpose in ("order-user", "held-out"):
        yield f"{purpose} hash of {name}", keyed_hash(seed, purpose, [name]).tobytes()


def _decoded(file: Path) -> bytes:
    """Text of all cells, and of all distinct values that the file keeps, used or not."""
    table = pq.read_table(file)
    text = [name for name in table.column_names if not pa.types.is_floating(table[name].type)]
    coded = pq.read_table(file, read_dictionary=text)
    values = [table[name].cast(pa.large_string()).drop_null().to_pylist() for name in text]
    for name in text:
        for chunk in coded[name].chunks:
            if pa.types.is_dictionary(chunk.type):
                values.append(chunk.dictionary.drop_null().cast(pa.large_string()).to_pylist())
    return "\0".join(value for column in values for value in column).encode()
