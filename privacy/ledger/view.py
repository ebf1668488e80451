"""Reading a ledger: budgets, previews, history and proofs. Needs the public key only and writes nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from privacy.accounting import Accountant, tally
from privacy.accounting.gaussian import gaussian_loss
from privacy.errors import AccountingError, LedgerMismatchError, PlanError
from privacy.events import Event, Gaussian, PoissonGaussian
from privacy.ledger.chain import Chain
from privacy.ledger.entry import Entry
from privacy.ledger.keys import public_from_hex, public_hex
from privacy.ledger.report import Budget, Head, Preview, RunSpend, VerifyReport
from privacy.ledger.state import LedgerState, Reservation, Status, check_population
from privacy.ledger.store import Store
from privacy.ledger.verify import verify_ledger


def check_event(event: object) -> Event:
    """The event, with its privacy loss ready: the slow part, done before others have to wait.

    Raises:
        PlanError: not an event.
    """
    if not isinstance(event, PoissonGaussian | Gaussian):
        raise PlanError(f"event is a {type(event).__name__}: give a PoissonGaussian or a Gaussian")
    gaussian_loss(event.sample_rate, event.noise_multiplier)
    return event


class LedgerView:
    """What an auditor can see of a ledger; a ``Ledger`` is one of these and a signing key.

    Args:
        url_or_path: where the ledger is.
        chain: its entries.
        recovered: what had to be undone to read it.
    """

    def __init__(self, url_or_path: str | Path, chain: Chain, recovered: str | None = None) -> None:
        self._where, self._chain, self.recovered = url_or_path, chain, recovered
        self._accountant = Accountant()
        self.population = chain.store.population

    @classmethod
    def open(
        cls, url_or_path: str | Path, *, population: str, public_key: Ed25519PublicKey | None = None
    ) -> LedgerView:
        """Open a ledger to read it.

        Args:
            url_or_path: a SQLite file or a database URL.
            population: whose ledger it should be.
            public_key: the platform's key, known from elsewhere; without it the ledger's own word is taken.

        Raises:
            LedgerError: missing, unreadable, another population's or key's, or not what was written.
        """
        store = Store(url_or_path, check_population(population))
        recovered = store.recover()
        if public_key is None:
            with store.reading() as transaction:
                meta = transaction.meta()
            if meta is None:
                raise LedgerMismatchError(f"ledger {store.name} knows no population {population!r}")
            public_key = public_from_hex(meta[1])
        chain = Chain(store, public_key)
        with chain.reading():
            return cls(url_or_path, chain, recovered)

    def judge(self, state: LedgerState, event: Event) -> tuple[Preview, str | None]:
        """What reserving would do, and why not (None: granted). Whatever cannot be computed is refused."""
        # Spending never lowers ε; another process may have composed the same events in another order, and
        # found a little more.
        before = max(self._epsilon(state), 0.0 if state.given_back else state.epsilon)
        cap = state.cap
        advice = "wait for a higher cap, or run fewer steps, a lower sample rate or more noise"
        try:
            after = self._accountant.epsilon(state.committed() + tally([event]), state.delta)
        except AccountingError as error:
            return Preview(before, math.inf, cap), f"population {self.population!r}: {error}: {advice}"
        after = max(after, before)  # NaN, if first, stays NaN
        if not after <= cap:  # NaN too
            return Preview(before, after, cap), (
                f"population {self.population!r} goes from epsilon {before:.4g} to {after:.4g}, past the cap "
                f"{cap:.4g} (delta {state.delta:g}): {advice}"
            )
        return Preview(before, after, cap), None

    def _epsilon(self, state: LedgerState) -> float:
        return self._accountant.epsilon(state.committed(), state.delta)

    def budget(self) -> Budget:
        """What is spent, reserved and left."""
        with self._chain.reading() as state:
            spent = self._accountant.epsilon(state.spent, state.delta)  # first: the rest is composed onto it
            committed = self._epsilon(state)
            spent = min(committed, spent)
            return Budget(
                population=self.population,
                spent=spent,
                reserved=committed - spent,
                committed=committed,
                cap=state.cap,
                left=max(0.0, state.cap - committed),
                delta=state.delta,
                entries=len(self._chain.entries),
            )

    def preview(self, event: Event) -> Preview:
        """What reserving ``event`` would do to ε, without writing anything; ``after`` is inf if unbounded."""
        check_event(event)
        with self._chain.reading() as state:
            return self.judge(state, event)[0]

    def reservation(self, key: str) -> Reservation | None:
        """The reservation that ``key`` stands for, open or settled."""
        with self._chain.reading() as state:
            return state.reservations.get(key)

    def reservations(self) -> list[Reservation]:
        """Every reservation, oldest first."""
        with self._chain.reading() as state:
            return list(state.reservations.values())

    def history(self) -> Iterator[Entry]:
        """Every entry, oldest first."""
        with self._chain.reading():
            return iter(tuple(self._chain.entries))

    def runs(self) -> list[RunSpend]:
        """Every run's share, in the order of their first reservation."""
        with self._chain.reading() as state:
            grouped: dict[str, list[Reservation]] = {}
            for reservation in state.reservations.values():
                grouped.setdefault(reservation.run, []).append(reservation)
            return [self._run(run, members, state.delta) for run, members in grouped.items()]

    def _run(self, run: str, members: list[Reservation], delta: float) -> RunSpend:
        charged = [m.event.with_count(m.charged) for m in members if m.charged]
        return RunSpend(
            run=run,
            reservations=len(members),
            open=sum(m.status is Status.OPEN for m in members),
            steps=sum(m.charged for m in members if isinstance(m.event, PoissonGaussian)),
            epsilon=self._accountant.epsilon(tally(charged), delta),
        )

    def head(self) -> Head:
        """The last entry, signed: for the server or another witness to keep."""
        with self._chain.reading():
            row = self._chain.rows[-1]
        return Head(self.population, row.seq, row.hash, public_hex(self._chain.public_key), row.signature)

    def verify(self, witness: Sequence[Head] = ()) -> VerifyReport:
        """Check everything from the start: chain, signatures, clock, content, recomputed ε, witness."""
        return verify_ledger(
            self._where, population=self.population, public_key=self._chain.public_key, witness=witness
        )
