"""The chain in memory and in the store, kept together: read, check, fold; sign, append, commit.

On every use the store's head, the count and the last entry seen are compared with memory and only new entries
are read, so a round costs a few milliseconds. Each entry commits to all before it, so checking every hash
and the *last* signature proves the whole chain; ``verify`` checks every signature besides.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from privacy.errors import (
    LedgerClockError,
    LedgerMismatchError,
    LedgerTamperedError,
    LedgerUnreadableError,
)
from privacy.ledger.entry import (
    GENESIS,
    Entry,
    Kind,
    Row,
    check_signature,
    compose_document,
    digest,
    read,
    signed_bytes,
    stamp,
)
from privacy.ledger.keys import public_hex
from privacy.ledger.state import LedgerState
from privacy.ledger.store import SCHEMA_VERSION, Store, Transaction

CLOCK_SLACK = timedelta(seconds=1)
"""How far the clock may step back (time synchronisation does) before an append is refused."""


def now() -> datetime:
    """The present in UTC."""
    return datetime.now(UTC)


class Chain:
    """One population's entries. Safe to share between threads; other processes synchronise by the store.

    Args:
        store: where the rows are.
        public_key: the only key whose signatures count.
        clock: the time to stamp entries with.
    """

    def __init__(
        self, store: Store, public_key: Ed25519PublicKey, clock: Callable[[], datetime] = now
    ) -> None:
        self._store, self._public_key, self._clock = store, public_key, clock
        self._lock = threading.RLock()
        self.entries: list[Entry] = []
        self.rows: list[Row] = []
        self.state = LedgerState(store.population)

    @contextmanager
    def reading(self) -> Iterator[LedgerState]:
        """The state as of now."""
        with self._lock, self._store.reading() as transaction:
            self._sync(transaction)
            yield self.state

    @contextmanager
    def writing(self, signer: Ed25519PrivateKey) -> Iterator[Writer]:
        """The state as of now, and the means to append; every other writer waits. Leaving commits."""
        with self._lock:
            with self._store.writing() as transaction:
                self._sync(transaction)
                writer = Writer(self, transaction, signer)
                yield writer
            # Only what is durable becomes part of memory.
            self._take(writer.appended)

    def found(self, signer: Ed25519PrivateKey, body: Mapping[str, Any]) -> None:
        """Write the first entry of a new ledger."""
        with self._lock:
            with self._store.creating() as transaction:
                transaction.begin_ledger(public_hex(self._public_key))
                writer = Writer(self, transaction, signer)
                writer.append(Kind.OPEN, body)
            self._take(writer.appended)

    def _take(self, rows: list[Row]) -> None:
        for row in rows:
            last = self.entries[-1] if self.entries else None
            entry = read(
                row,
                population=self._store.population,
                seq=len(self.entries),
                prev=last.hash if last else GENESIS,
                not_before=last.time if last else "",
            )
            self.state.apply(entry)
            self.entries.append(entry)
            self.rows.append(row)

    def _sync(self, transaction: Transaction) -> None:
        name, population = self._store.name, self._store.population
        meta = transaction.meta()
        if meta is None:
            others = transaction.populations()
            if others:
                raise LedgerMismatchError(
                    f"ledger {name} is of population {', '.join(map(repr, others[:3]))}, not {population!r}: open "
                    "the ledger of this population, or correct its name"
                )
            raise LedgerUnreadableError(
                f"ledger {name} holds no population: restore it from backup; an empty ledger is never a budget"
            )
        version, key = meta
        if version != SCHEMA_VERSION:
            raise LedgerUnreadableError(
                f"ledger {name} has schema version {version}, this program reads {SCHEMA_VERSION}: use the "
                "version of fedcart that wrote it"
            )
        if key != public_hex(self._public_key):
            raise LedgerMismatchError(
                f"ledger {name} of {population!r} belongs to key {key[:16]}…, not {public_hex(self._public_key)[:16]}…"
                ": give the platform's own key"
            )
        head = transaction.head()
        known = len(self.rows)
        rows = transaction.rows(max(0, known - 1))
        if known and (not rows or rows[0] != self.rows[-1]):
            raise LedgerTamperedError(
                f"ledger of {population!r}, entry {known - 1}: it is gone or changed since it was last read: "
                "restore the untouched copy, do not train"
            )
        fresh = list(rows[1:] if known else rows)
        self._take(fresh)
        if not self.rows or head is None:
            raise LedgerTamperedError(
                f"ledger of {population!r}, entry 0: it or the head is gone; do not train"
            )
        last = self.rows[-1]
        if head != (last.seq, last.hash) or transaction.count() != len(self.rows):
            raise LedgerTamperedError(
                f"ledger of {population!r}, entry {last.seq}: the head says the last entry is {head[0]}: entries "
                "were removed or added; restore the untouched copy, do not train"
            )
        if fresh:
            check_signature(last, population=population, key=self._public_key)
            if self.state.public_key != key:
                raise LedgerTamperedError(
                    f"ledger of {population!r}, entry 0: it names another key than the table"
                )


class Writer:
    """Appends entries inside one transaction."""

    def __init__(self, chain: Chain, transaction: Transaction, signer: Ed25519PrivateKey) -> None:
        self._chain, self._transaction, self._signer = chain, transaction, signer
        self.state = chain.state
        self.appended: list[Row] = []

    def append(self, kind: Kind, body: Mapping[str, Any]) -> int:
        """Sign and write the next entry; returns its position.

        Raises:
            LedgerClockError: the clock is more than a second before the last entry.
        """
        chain = self._chain
        population = chain._store.population
        last = chain.entries[-1] if chain.entries else None
        seq = len(chain.entries) + len(self.appended)
        prev = self.appended[-1].hash if self.appended else (last.hash if last else GENESIS)
        moment = chain._clock()
        time = stamp(moment)
        if last is not None and time < last.time:
            if stamp(moment + CLOCK_SLACK) < last.time:
                raise LedgerClockError(
                    f"ledger of {population!r}, entry {last.seq} was written at {last.time}, but the clock says "
                    f"{time}: set the clock right; nothing is recorded with a time that runs backwards"
                )
            time = last.time
        document = compose_document(population, seq, time, prev, kind, body)
        entry_hash = digest(document)
        signature = self._signer.sign(signed_bytes(population, seq, entry_hash)).hex()
        row = Row(seq, document, entry_hash, signature)
        self._transaction.append(row)
        self.appended.append(row)
        return seq
