"""Whatever happens in whatever order, what was released never passes the cap that was in force."""

from __future__ import annotations

import sqlite3
import uuid

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from privacy.accounting import epsilon
from privacy.errors import BudgetRefusedError, KeyReusedError, LedgerUnreadableError
from privacy.events import Gaussian, PoissonGaussian
from privacy.ledger import Ledger, Status

DELTA = 1e-6
TOLERANCE = 1 + 1e-6
EVENTS = st.one_of(
    st.builds(PoissonGaussian, st.sampled_from([0.05, 0.1]), st.just(1.5), st.integers(1, 20)),
    st.builds(Gaussian, st.just(12.0), st.integers(1, 3)),
)
CAPS = st.sampled_from([0.0, 0.8, 1.5, 2.5, 4.0])


class LedgerMachine(RuleBasedStateMachine):
    """Two handles on one ledger, as two processes would have, against a plain list of what was charged."""

    def __init__(self, url, key):
        super().__init__()
        self.url, self.key, self.population = url, key, f"p-{uuid.uuid4().hex[:8]}"
        self.cap = 2.5
        Ledger.create(url, population=self.population, epsilon_cap=self.cap, delta=DELTA, key=key)
        self.handles = [self.fresh(), self.fresh()]
        self.charged = {}  # key -> event, exactly what an auditor would count
        self.open = set()
        self.names = 0

    def fresh(self):
        return Ledger.open(self.url, population=self.population, key=self.key)

    def teardown(self):
        report = self.fresh().verify()
        assert report.ok, report.findings
        assert report.epsilon == pytest.approx(self.spent(), rel=1e-6)

    def spent(self):
        return epsilon([e for e in self.charged.values() if e is not None], DELTA)

    def ask(self, which, key, event):
        return self.handles[which].reserve(
            event, run="r", purpose="update", key=key, model_fingerprint="m", code_version="1"
        )

    def granted(self, key, event):
        self.charged[key] = event
        self.open.add(key)
        assert self.spent() <= self.cap * TOLERANCE, "the cap was passed"

    @rule(which=st.sampled_from([0, 1]), event=EVENTS)
    def reserve(self, which, event):
        self.names += 1
        key = f"k{self.names}"
        would_be = epsilon([*[e for e in self.charged.values() if e is not None], event], DELTA)
        try:
            self.ask(which, key, event)
        except BudgetRefusedError:
            assert would_be >= self.cap / TOLERANCE, "refused although it fits"
        else:
            self.granted(key, event)

    @precondition(lambda self: self.open)
    @rule(which=st.sampled_from([0, 1]), data=st.data())
    def reserve_again(self, which, data):
        key = data.draw(st.sampled_from(sorted(self.open)))
        with pytest.raises(KeyReusedError):
            self.ask(which, key, self.charged[key])

    @precondition(lambda self: self.open)
    @rule(which=st.sampled_from([0, 1]), data=st.data())
    def settle(self, which, data):
        key = data.draw(st.sampled_from(sorted(self.open)))
        held = self.handles[which].reservation(key)
        count = held.event.count
        used = data.draw(st.integers(0, count))
        self.handles[which].settle(held, "ab" * 32, steps_used=used, evidence="the model says so")
        self.open.remove(key)
        self.charged[key] = held.event.with_count(used) if used else None

    @rule(which=st.sampled_from([0, 1]), cap=CAPS)
    def change_cap(self, which, cap):
        self.handles[which].change_cap(cap, "machine")
        self.cap = cap

    @rule(which=st.sampled_from([0, 1]), event=EVENTS, durable=st.booleans())
    def crash_while_reserving(self, which, event, durable):
        """The process dies in the commit: before it is durable, or after but before anyone is told."""
        commit = Connection.commit

        def dying(connection):
            if durable:
                commit(connection)
            raise OperationalError("COMMIT", {}, sqlite3.OperationalError("gone"))

        self.names += 1
        key = f"k{self.names}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Connection, "commit", dying)
            with pytest.raises(LedgerUnreadableError):
                self.ask(which, key, event)
        self.handles[which] = self.fresh()
        found = self.handles[which].reservation(key)
        if found is not None:
            assert durable
            self.granted(key, event)

    @rule(which=st.sampled_from([0, 1]))
    def reopen(self, which):
        self.handles[which] = self.fresh()

    @invariant()
    def the_ledger_says_what_an_auditor_counts(self):
        budget = self.handles[0].budget()
        assert budget.committed == pytest.approx(self.spent(), rel=1e-6, abs=1e-9)
        assert budget.cap == self.cap
        assert budget.left >= 0.0
        held = self.handles[1].budget()
        assert held.committed == pytest.approx(budget.committed, rel=1e-6)
        assert self.open == {k for k in self.charged if self.handles[1].reservation(k).status is Status.OPEN}


def test_no_history_passes_the_cap(database, key):
    examples = 8 if database.startswith("sqlite") else 3
    run_state_machine_as_test(
        lambda: LedgerMachine(database, key),
        settings=settings(max_examples=examples, stateful_step_count=12, deadline=None),
    )
