"""The ledger of record: one durable budget per population of shoppers, across runs, models and restarts.

Order of use, every round::

    reservation = ledger.reserve(event, run=…, purpose=…, key=…, …)   # before the first gradient
    output = train()                                                  # may crash, may be run again
    outbox.write_once(key, output)                                    # durable
    ledger.settle(reservation)                                        # then the output may leave

What is reserved counts as spent until it is settled, so a crash anywhere can only over-count.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.accounting import check_delta
from privacy.checks import text, whole
from privacy.errors import (
    AlreadySettledError,
    BudgetRefusedError,
    KeyReusedError,
    LedgerMismatchError,
    ReservationError,
)
from privacy.events import Event
from privacy.ledger.chain import Chain, now
from privacy.ledger.entry import Entry, Kind
from privacy.ledger.keys import key_path, load_key_file, make_key_file, public_hex
from privacy.ledger.receipt import Receipt, Statement
from privacy.ledger.report import Budget, Head, Preview, RunSpend, VerifyReport
from privacy.ledger.state import Reservation, Status, check_cap, check_population
from privacy.ledger.store import SCHEMA_VERSION, Store
from privacy.ledger.view import LedgerView, check_event

_log = logging.getLogger("fedcart.ledger")


class Ledger:
    """See the module. Make one with ``create`` (once, ever) or ``open``.

    Safe to share between threads; any number of processes may open the same ledger.
    """

    def __init__(self, url_or_path: str | Path, chain: Chain, signer: Ed25519PrivateKey) -> None:
        self._chain, self._signer = chain, signer
        self._view = LedgerView(url_or_path, chain)
        self.population = chain.store.population

    @classmethod
    def create(
        cls,
        url_or_path: str | Path,
        *,
        population: str,
        epsilon_cap: float,
        delta: float,
        key: Ed25519PrivateKey | None = None,
        clock: Callable[[], datetime] = now,
    ) -> Ledger:
        """Start the one ledger of a population about which nothing was ever released.

        Args:
            url_or_path: a SQLite file, or a database URL such as ``postgresql+psycopg://…``.
            population: its declared name.
            epsilon_cap: the most that may ever be spent, in [0, 1000].
            delta: δ of every ε in this ledger; it never changes.
            key: the platform's signing key; for a SQLite file it may be left out, and ``<name>.key`` is made.
            clock: where the time comes from.

        Raises:
            PlanError: a parameter is unusable.
            LedgerMismatchError: the population has a ledger here already.
            LedgerUnreadableError: the database cannot be written.
        """
        store = Store(url_or_path, check_population(population))
        cap, delta = check_cap(epsilon_cap), check_delta(delta)
        signer = key if key is not None else make_key_file(_key_path(store))
        chain = Chain(store, signer.public_key(), clock)
        key_text = public_hex(signer.public_key())
        chain.found(signer, {"cap": cap, "delta": delta, "public_key": key_text, "schema": SCHEMA_VERSION})
        return cls(url_or_path, chain, signer)

    @classmethod
    def open(
        cls,
        url_or_path: str | Path,
        *,
        population: str,
        key: Ed25519PrivateKey | None = None,
        clock: Callable[[], datetime] = now,
    ) -> Ledger:
        """Open an existing ledger and check its chain. A write that did not finish is undone, with a warning.

        Raises:
            LedgerUnreadableError: there is none, or it cannot be read; never a fresh budget.
            LedgerMismatchError: it is another population's or another key's.
            LedgerTamperedError: it is not what was written.
        """
        store = Store(url_or_path, check_population(population))
        store.require()
        recovered = store.recover()
        if recovered is not None:
            _log.warning("ledger %s: %s", store.name, recovered)
        signer = key if key is not None else load_key_file(_key_path(store))
        chain = Chain(store, signer.public_key(), clock)
        with chain.reading():
            return cls(url_or_path, chain, signer)

    def reserve(
        self,
        event: Event,
        *,
        run: str,
        purpose: str,
        key: str,
        model_fingerprint: str,
        code_version: str,
    ) -> Reservation:
        """Set budget aside before the first gradient of a release.

        ``key`` names the release for ever, for example ``run/round/fingerprint``. Asking again with the same
        key while it is open returns the same reservation and writes a ``retry`` entry. That is sound because
        an output leaves only from a durable, write-once outbox after ``settle``: whatever a crashed attempt
        computed was never seen by anyone, so exactly one output per reservation is ever released.

        Raises:
            BudgetRefusedError: ε would pass the cap; a ``refuse`` entry says so.
            KeyReusedError: the key stands for another event, run, purpose or model.
            AlreadySettledError: the key is settled: send the stored output again.
            PlanError: a parameter is unusable.
            LedgerError: the ledger cannot be trusted or written; nothing was reserved.
        """
        check_event(event)
        body: dict[str, Any] = {
            "event": event.to_json(),
            "run": text("run", run),
            "purpose": text("purpose", purpose),
            "key": text("key", key),
            "model_fingerprint": text("model_fingerprint", model_fingerprint),
            "code_version": text("code_version", code_version),
        }
        refusal: BudgetRefusedError | None = None
        with self._chain.writing(self._signer) as writer:
            held = writer.state.reservations.get(key)
            if held is not None:
                refusal = self._clash(held, event, run, purpose, model_fingerprint)
                if refusal is None:
                    writer.append(Kind.RETRY, {"key": key, "code_version": code_version})
            else:
                preview, reason = self._view.judge(writer.state, event)
                body |= {"epsilon_before": preview.before, "cap": preview.cap}
                if reason is None:
                    writer.append(Kind.RESERVE, body | {"epsilon_after": preview.after})
                else:
                    refusal = BudgetRefusedError(reason)
            if refusal is not None:
                writer.append(Kind.REFUSE, body | {"reason": refusal.code})
        if refusal is not None:
            raise refusal
        return self._chain.state.reservations[key]

    @staticmethod
    def _clash(
        held: Reservation, event: Event, run: str, purpose: str, model_fingerprint: str
    ) -> BudgetRefusedError | None:
        if held.status is Status.SETTLED:
            return AlreadySettledError(
                f"key {held.key!r} was settled (reserved in entry {held.seq}): send its stored output again"
            )
        asked = (event, run, purpose, model_fingerprint)
        if asked != (held.event, held.run, held.purpose, held.model_fingerprint):
            return KeyReusedError(
                f"key {held.key!r} stands for {held.event} of run {held.run!r}, purpose {held.purpose!r}, "
                f"model {held.model_fingerprint!r} (entry {held.seq}): use another key"
            )
        return None

    def settle(
        self, reservation: Reservation, steps_used: int | None = None, *, evidence: str | None = None
    ) -> Reservation:
        """Record that the release was made and its output stored; call it before the output leaves.

        Args:
            reservation: what ``reserve`` returned.
            steps_used: fewer than reserved only if the others provably never ran; default: all of them.
            evidence: how that is known; needed to give steps back, which a retried reservation cannot.

        Raises:
            ReservationError: it is not open in this ledger, or the steps cannot be given back.
            AlreadySettledError: it was settled before.
        """
        used = reservation.event.count if steps_used is None else steps_used
        hint = "give how many of the reserved steps ran"
        whole("steps_used", used, at_least=0, at_most=reservation.event.count, hint=hint)
        body: dict[str, Any] = {"key": reservation.key, "steps_used": used}
        with self._chain.writing(self._signer) as writer:
            held = writer.state.reservations.get(reservation.key)
            if held is None or held.seq != reservation.seq:
                raise ReservationError(
                    f"key {reservation.key!r} is not reserved in this ledger: reserve first"
                )
            if held.status is Status.SETTLED:
                raise AlreadySettledError(f"key {held.key!r} (entry {held.seq}) was settled before")
            if used < held.event.count:
                if held.retries:
                    raise ReservationError(
                        f"key {held.key!r} was retried {held.retries} times: earlier ones may have run the "
                        "steps; settle all of them"
                    )
                if evidence is None:
                    raise ReservationError(
                        f"giving back {held.event.count - used} steps of {held.key!r} needs proof that they "
                        "never ran: say how it is known, or settle all of them"
                    )
                body["evidence"] = text("evidence", evidence)
            writer.append(Kind.SETTLE, body)
        return self._chain.state.reservations[reservation.key]

    def change_cap(self, new_cap: float, reason: str) -> None:
        """Put another cap in force. It may be below what is spent: then everything is refused."""
        body = {"cap": check_cap(new_cap), "reason": text("reason", reason)}
        with self._chain.writing(self._signer) as writer:
            writer.append(Kind.CAP, body | {"before": writer.state.cap})

    def note(self, message: str) -> None:
        """Write a remark into the record; never anything taken from shoppers' data."""
        with self._chain.writing(self._signer) as writer:
            writer.append(Kind.NOTE, {"text": text("note", message, at_most=2000)})

    def check_writable(self) -> None:
        """Raise LedgerUnreadableError if nothing could be appended now; appends nothing."""
        with self._chain.writing(self._signer):
            pass

    def budget(self) -> Budget:
        """What is spent, reserved and left."""
        return self._view.budget()

    def preview(self, event: Event) -> Preview:
        """What reserving ``event`` would do to ε, without writing anything; ``after`` is inf if unbounded."""
        return self._view.preview(event)

    def reservation(self, key: str) -> Reservation | None:
        """The reservation that ``key`` stands for, open or settled."""
        return self._view.reservation(key)

    def history(self) -> Iterator[Entry]:
        """Every entry, oldest first."""
        return self._view.history()

    def runs(self) -> list[RunSpend]:
        """Every run's share, in the order of their first reservation."""
        return self._view.runs()

    def head(self) -> Head:
        """The last entry, signed: for the server or another witness to keep."""
        return self._view.head()

    def receipt(self, statement: Statement) -> Receipt:
        """The statement with the budget and the head as they are now, signed; call it after ``settle``."""
        return Receipt.sign(statement, self._view.budget(), self._view.head(), self._signer)

    def verify(self, witness: Sequence[Head] = ()) -> VerifyReport:
        """Check everything from the start: chain, signatures, clock, content, recomputed ε, witness."""
        return self._view.verify(witness)


def _key_path(store: Store) -> Path:
    if store.path is None:
        raise LedgerMismatchError(f"ledger {store.name} is on a server: give the platform's signing key")
    return key_path(store.path)
