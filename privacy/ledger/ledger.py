"""The ledger of record: one durable budget per population of shoppers, across runs, models and restarts.

Order of use, every round::

    reservation = ledger.reserve(event, run=…, purpose=…, key=…, …)   # before the first gradient, once ever
    output = train()                                                  # one draw of noise, never another
    outbox.write_once(key, output)                                    # durable
    ledger.settle(reservation, sha256(output))                        # then this output may leave, no other

A reservation is handed out once and stands for one draw of noise. What is reserved counts as spent until it is
settled, and whoever finds it open later, with no stored output, settles it in full with ``NOTHING``: what a dead
attempt drew may have been seen by someone, so it is not drawn again.
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
from privacy.ledger.state import Reservation, Status, check_cap, check_output, check_population
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
        whole: Event | None = None,
    ) -> Reservation:
        """Set budget aside before the first gradient of a release.

        ``key`` names the release for ever, for example ``run/round/fingerprint``, and is reserved once: whoever
        holds the reservation may draw noise for it, and nobody else ever may. ``whole`` is the event of all that
        the run will ask for: its first reservation is granted only if that fits, so that no run starts which
        cannot end.

        A refusal is written down as a ``refuse`` entry, once a key and at most ``MAX_REFUSALS`` until something is
        granted or the cap changes.

        Raises:
            BudgetRefusedError: ε would pass the cap.
            KeyReusedError: the key was reserved before.
            PlanError: a parameter is unusable.
            LedgerError: the ledger cannot be trusted or written. The reservation may have been made all the same
                (a commit whose answer was lost): then it is open, and nobody holds it.
        """
        check_event(event)
        if whole is not None:
            check_event(whole)
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
                refusal = KeyReusedError(
                    f"key {key!r} was reserved before (entry {held.seq}, {held.status}): what is stored for it may be "
                    "sent, and nothing is made for it again"
                )
            else:
                preview, reason = self._view.judge(writer.state, event)
                if whole is not None and not any(r.run == run for r in writer.state.reservations.values()):
                    all_of_it, beyond = self._view.judge(writer.state, whole)
                    if beyond is not None:
                        preview, reason = all_of_it, f"the whole of run {run!r} is too much: {beyond}"
                        body["whole"] = whole.to_json()
                body |= {"epsilon_before": preview.before, "cap": preview.cap}
                if reason is None:
                    writer.append(Kind.RESERVE, body | {"epsilon_after": preview.after})
                else:
                    refusal = BudgetRefusedError(reason)
            if refusal is not None and writer.state.records_refusal_of(key):
                writer.append(Kind.REFUSE, body | {"reason": refusal.code})
        if refusal is not None:
            raise refusal
        return self._chain.state.reservations[key]

    def settle(
        self,
        reservation: Reservation,
        output: str,
        steps_used: int | None = None,
        *,
        evidence: str | None = None,
    ) -> Reservation:
        """Record what the release is, once it is stored; call it before anything leaves.

        Args:
            reservation: what ``reserve`` returned.
            output: the SHA-256 of what was stored, in hex: nothing else may ever leave for this key. ``NOTHING`` if
                nothing was stored, and nothing will be.
            steps_used: fewer than reserved only if the others provably never ran; default: all of them.
            evidence: how that is known; needed to give steps back.

        Raises:
            ReservationError: it is not open in this ledger, or the steps cannot be given back.
            AlreadySettledError: it was settled before.
            PlanError: the output or the number of steps is unusable.
        """
        used = reservation.event.count if steps_used is None else steps_used
        hint = "give how many of the reserved steps ran"
        whole("steps_used", used, at_least=0, at_most=reservation.event.count, hint=hint)
        body: dict[str, Any] = {
            "key": reservation.key,
            "steps_used": used,
            "output": check_output(output),
        }
        with self._chain.writing(self._signer) as writer:
            held = writer.state.reservations.get(reservation.key)
            if held is None or held.seq != reservation.seq:
                raise ReservationError(
                    f"key {reservation.key!r} is not reserved in this ledger: reserve first"
                )
            if held.status is Status.SETTLED:
                raise AlreadySettledError(f"key {held.key!r} (entry {held.seq}) was settled before")
            if used < held.event.count:
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

    def reservations(self) -> list[Reservation]:
        """Every reservation, oldest first."""
        return self._view.reservations()

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
