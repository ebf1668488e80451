"""One line of the ledger: canonical JSON, chained by hash, signed.

An entry's document holds everything: population, position, time, the hash of the entry before, what kind
of entry it is and its body. ``hash`` is SHA-256 over the document's canonical text, so it commits to the
whole past. ``signature`` is Ed25519 over (domain, population, position, hash): any signed entry is a *head*
that a witness can keep and check without seeing the document.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from privacy.errors import LedgerClockError, LedgerTamperedError, PlanError

GENESIS = "0" * 64
"""The hash "before" the first entry."""
_DOMAIN = "fedcart ledger head 1"
_SIGNATURE = re.compile(r"[0-9a-f]{128}")
_ADVICE = "restore the untouched copy, do not train"


class Kind(StrEnum):
    """What an entry records."""

    OPEN = "open"
    RESERVE = "reserve"
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


def stamp(moment: datetime) -> str:
    """UTC time as text that sorts as time does."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


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
        population: whose ledger it is in.
        seq: position, from 0.
        time: UTC, ISO 8601 with microseconds; never before the entry before.
        kind: what it records.
        body: the facts; JSON values only.
        prev: hash of the entry before.
    """

    population: str
    seq: int
    time: str
    kind: Kind
    body: Mapping[str, Any]
    prev: str

    def document(self) -> str:
        """The canonical text that is hashed and stored."""
        return canonical(
            {
                "population": self.population,
                "seq": self.seq,
                "time": self.time,
                "kind": str(self.kind),
                "body": dict(self.body),
                "prev": self.prev,
            }
        )

    @property
    def hash(self) -> str:
        """SHA-256 of the document."""
        return digest(self.document())


def read(row: Row, *, population: str, seq: int, prev: str, not_before: str) -> Entry:
    """Check one row against its place in the chain and return the entry; the signature is checked apart.

    Raises:
        LedgerTamperedError: it is not the entry that belongs here.
        LedgerClockError: it is older than the entry before it.
    """

    def bad(why: str) -> LedgerTamperedError:
        return LedgerTamperedError(f"ledger of {population!r}, entry {seq}: {why}: {_ADVICE}")

    if row.seq != seq:
        raise bad(f"entry {row.seq} stands in its place")
    if digest(row.document) != row.hash:
        raise bad("its hash does not fit its content")
    try:
        fields = json.loads(row.document)
        entry = Entry(**{**fields, "kind": Kind(fields["kind"])})
        text = entry.document()
        time = stamp(datetime.fromisoformat(entry.time))
    except (ValueError, KeyError, TypeError, AttributeError, PlanError) as error:
        raise bad(f"its content cannot be read ({type(error).__name__})") from error
    if text != row.document or time != entry.time:
        raise bad("its text is not the canonical one")
    if type(entry.seq) is not int or entry.seq != seq or entry.population != population:
        raise bad(f"it was written as entry {entry.seq} of {entry.population!r}")
    if entry.prev != prev:
        raise bad("it does not follow the entry before it")
    if entry.time < not_before:
        raise LedgerClockError(
            f"ledger of {population!r}, entry {seq}: its time {entry.time} is before {not_before} of the "
            f"entry before it: {_ADVICE}"
        )
    return entry


def check_signature(row: Row, *, population: str, key: Ed25519PublicKey) -> None:
    """Raise LedgerTamperedError unless ``key`` signed this row."""
    try:
        if not _SIGNATURE.fullmatch(row.signature):
            raise ValueError(row.signature)
        key.verify(bytes.fromhex(row.signature), signed_bytes(population, row.seq, row.hash))
    except (InvalidSignature, ValueError) as error:
        raise LedgerTamperedError(
            f"ledger of {population!r}, entry {row.seq}: it is not signed by the platform's key: {_ADVICE}"
        ) from error
