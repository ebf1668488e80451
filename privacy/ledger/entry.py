"""One line of the ledger: canonical JSON, chained by hash, signed.

An entry's document holds everything: population, position, time, the hash of the entry before, what kind
of entry it is and its body. ``hash`` is SHA-256 over the document's canonical text, so it commits to the
whole past. ``signature`` is Ed25519 over (domain, population, position, hash): any signed entry is a *head*
that a witness can keep and check without seeing the document.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from privacy.errors import LedgerTamperedError, PlanError

GENESIS = "0" * 64
"""The hash "before" the first entry."""
_DOMAIN = "fedcart ledger head 1"


class Kind(StrEnum):
    """What an entry records."""

    OPEN = "open"
    RESERVE = "reserve"
    RETRY = "retry"
    SETTLE = "settle"
    REFUSE = "refuse"
    CAP = "cap"
    NOTE = "note"


def canonical(document: Mapping[str, Any]) -> str:
    """JSON with sorted keys, no spaces and ASCII only; NaN and infinities have no text.

    Raises:
        PlanError: a value is NaN, infinite or not JSON.
    """
    try:
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PlanError(f"an entry cannot be written down: {error}") from error


def digest(text: str) -> str:
    """SHA-256 of an entry's canonical text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def signed_bytes(population: str, seq: int, entry_hash: str) -> bytes:
    """What the platform's key signs for one entry."""
    return canonical({"domain": _DOMAIN, "population": population, "seq": seq, "hash": entry_hash}).encode()


@dataclass(frozen=True)
class Row:
    """An entry as the database holds it."""

    seq: int
    document: str
    hash: str
    signature: str


@dataclass(frozen=True)
class Entry:
    """An entry, read and checked.

    Args:
        seq: position, from 0.
        time: UTC, ISO 8601 with microseconds; never before the entry before.
        kind: what it records.
        body: the facts; JSON values only.
        prev: hash of the entry before.
        hash: this entry's hash.
    """

    seq: int
    time: str
    kind: Kind
    body: Mapping[str, Any]
    prev: str
    hash: str


def stamp(moment: datetime) -> str:
    """UTC time as text that sorts as time does."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def compose_document(
    population: str, seq: int, time: str, prev: str, kind: Kind, body: Mapping[str, Any]
) -> str:
    """The canonical text of a new entry."""
    return canonical(
        {
            "population": population,
            "seq": seq,
            "time": time,
            "prev": prev,
            "kind": str(kind),
            "body": dict(body),
        }
    )


def read(row: Row, *, population: str, seq: int, prev: str, not_before: str) -> Entry:
    """Check one row against its place in the chain and return the entry; the signature is checked apart.

    Raises:
        LedgerTamperedError: it is not the entry that belongs here.
    """

    def bad(why: str) -> LedgerTamperedError:
        return LedgerTamperedError(
            f"ledger of {population!r}, entry {seq}: {why}: the record was changed after it was written; "
            "restore the untouched copy, do not train"
        )

    if row.seq != seq:
        raise bad(f"found entry {row.seq} in its place")
    if digest(row.document) != row.hash:
        raise bad("its hash does not fit its content")
    try:
        document = json.loads(row.document)
        if canonical(document) != row.document:
            raise bad("its text is not canonical")
        entry = Entry(
            seq=document["seq"],
            time=document["time"],
            kind=Kind(document["kind"]),
            body=document["body"],
            prev=document["prev"],
            hash=row.hash,
        )
        written_for = document["population"]
        datetime.fromisoformat(entry.time)
    except (ValueError, KeyError, TypeError, PlanError) as error:
        raise bad(f"its content cannot be read ({type(error).__name__})") from error
    if entry.seq != seq or written_for != population:
        raise bad(f"it was written as entry {entry.seq} of {written_for!r}")
    if entry.prev != prev:
        raise bad("it does not follow the entry before it")
    if not isinstance(entry.body, dict):
        raise bad("its body is not an object")
    if entry.time < not_before:
        raise bad(f"its time {entry.time} is before {not_before}, the time of the entry before it")
    return entry


def check_signature(row: Row, *, population: str, key: Ed25519PublicKey) -> None:
    """Raise LedgerTamperedError unless ``key`` signed this row."""
    try:
        key.verify(bytes.fromhex(row.signature), signed_bytes(population, row.seq, row.hash))
    except (InvalidSignature, ValueError) as error:
        raise LedgerTamperedError(
            f"ledger of {population!r}, entry {row.seq}: its signature is not from the platform's key: the "
            "record was changed or written by another key; restore the untouched copy, do not train"
        ) from error
