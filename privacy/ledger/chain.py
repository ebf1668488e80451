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
from privacy.ledger.entry import GENESIS, Entry, Kind, Row, check_signature, read, signed_bytes, stamp
from privacy.ledger.keys import public_hex
from privacy.ledger.state import LedgerState
from privacy.ledger.store import SCHEMA_VERSION, Store, Transaction

CLOCK_SLACK = timedelta(seconds=1)
"""How far the clock may step back (time synchronisation does) before an append is refused."""

Clock = Callable[[], datetime]


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

    def __init__(self, store: Store, public_key: Ed25519PublicKey, clock: Clock = now) -> None:
        self.store, self.public_key, self.clock = store, public_key, clock
        self._lock = threading.RLock()
        self.entries: list[Entry] = []
        self.rows: list[Row] = []
        self.state = LedgerState(store.population)

    @contextmanager
    def reading(self) -> Iterator[LedgerState]:
        """The state as of now."""
        with self._lock, self.store.reading() as transaction:
            self._sync(transaction)
            yield self.state

    @contextmanager
    def writing(self, signer: Ed25519PrivateKey) -> Iterator[Writer]:
        """The state as of now, and the means to append; every other writer waits. Leaving commits."""
        with self._lock:
            with self.store.writing() as transaction:
                self._sync(transaction)
                writer = Writer(self, transaction, signer)
                yield writer
            self._take(writer.appended)  # only what is durable becomes part of memory

    def found(self, signer: Ed25519PrivateKey, body: Mapping[str, Any]) -> None:
        """Write the first entry of a new ledger."""
        with self._lock:
            with self.store.creating() as transaction:
                transaction.begin_ledger(public_hex(self.public_key))
                writer = Writer(self, transaction, signer)
                writer.append(Kind.OPEN, body)
            self._take(writer.appended)

    def _take(self, rows: list[Row]) -> None:
        for row in rows:
            last = self.entries[-1] if self.entries else None
            entry = read(
                row,
                population=self.store.population,
                seq=len(self.entries),
                prev=self.rows[-1].hash if self.rows else GENESIS,
                not_before=last.time if last else "",
            )
            self.state.apply(entry)
            self.entries.append(entry)
            self.rows.append(row)

    def _sync(self, transaction: Transaction) -> None:
        """Bring memory up to the store, or say why the store cannot be trusted."""
        self._check_owner(transaction)
        known = len(self.rows)
        rows = transaction.rows(max(0, known - 1))
        if known and (not rows or rows[0] != self.rows[-1]):
            raise self._bad(known - 1, "it is gone or changed since it was last read")
        fresh = list(rows[1:] if known else rows)
        self._take(fresh)
        head = transaction.head()
        if not self.rows or head is None:
            raise self._bad(0, "it or the head is gone")
        last = self.rows[-1]
        if head != (last.seq, last.hash) or transaction.count() != len(self.rows):
            raise self._bad(
                last.seq, f"the head says that the last entry is {head[0]}: entries were removed or added"
            )
        if fresh:
            check_signature(last, population=self.store.population, key=self.public_key)

    def _check_owner(self, transaction: Transaction) -> None:
        meta, population = transaction.meta(), self.store.population
        if meta is None:
            others = [repr(name) for name in transaction.populations()[:3]]
            if others:
                raise LedgerMismatchError(
                    f"ledger {self.store.name} is of population {', '.join(others)}, not {population!r}: use "
                    "this population's own ledger, or correct the name"
                )
            raise LedgerUnreadableError(
                f"ledger {self.store.name} holds no population: restore it from backup; empty is never "
                "a fresh budget"
            )
        version, key = meta
        if version != SCHEMA_VERSION:
            raise LedgerUnreadableError(
                f"ledger {self.store.name} has schema {version}, this program knows {SCHEMA_VERSION}: "
                "use the version of fedcart that wrote it"
            )
        if key != public_hex(self.public_key):
            raise LedgerMismatchError(
                f"ledger {self.store.name} of {population!r} belongs to key {key[:16]}…, the given one is "
                f"{public_hex(self.public_key)[:16]}…: give the platform's own key"
            )
        if self.rows and self.state.public_key != key:
            raise self._bad(0, "it names another key than the table does")

    def _bad(self, seq: int, why: str) -> LedgerTamperedError:
        return LedgerTamperedError(
            f"ledger of {self.store.population!r}, entry {seq}: {why}: restore the untouched copy"
        )


class Writer:
    """Appends entries inside one transaction."""

    def __init__(self, chain: Chain, transaction: Transaction, signer: Ed25519PrivateKey) -> None:
        self._chain, self._transaction, self._signer = chain, transaction, signer
        self.state = chain.state
        self.appended: list[Row] = []

    def append(self, kind: Kind, body: Mapping[str, Any]) -> None:
        """Sign and write the next entry.

        Raises:
            LedgerClockError: the clock is more than a second before the last entry.
        """
        rows = [*self._chain.rows[-1:], *self.appended]
        seq = rows[-1].seq + 1 if rows else 0
        entry = Entry(
            population=self._chain.store.population,
            seq=seq,
            time=self._time(),
            kind=kind,
            body=body,
            prev=rows[-1].hash if rows else GENESIS,
        )
        document = entry.document()
        signature = self._signer.sign(signed_bytes(entry.population, seq, entry.hash)).hex()
        row = Row(seq, document, entry.hash, signature)
        self._transaction.append(row)
        self.appended.append(row)

    def _time(self) -> str:
        moment = self._chain.clock()
        time = stamp(moment)
        if not self._chain.entries or time >= self._chain.entries[-1].time:
            return time
        last = self._chain.entries[-1]
        if stamp(moment + CLOCK_SLACK) < last.time:
            raise LedgerClockError(
                f"ledger of {last.population!r}, entry {last.seq} was written at {last.time}, the clock says "
                f"{time}: set the clock right; time never runs backwards in a ledger"
            )
        return last.time
