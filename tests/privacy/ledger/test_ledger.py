"""What a ledger grants, refuses and says, on each database where that can differ."""

from __future__ import annotations

import json
import math
import sqlite3

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from privacy.accounting import epsilon
from privacy.errors import (
    AlreadySettledError,
    BudgetRefusedError,
    KeyReusedError,
    LedgerMismatchError,
    LedgerUnreadableError,
    PlanError,
    ReservationError,
)
from privacy.events import Gaussian, PoissonGaussian
from privacy.ledger import NOTHING, Head, Kind, Ledger, LedgerView, Status

EVENT = PoissonGaussian(0.05, 1.0, 10)
DELTA = 1e-6
OUTPUT = "ab" * 32


def kinds(ledger):
    return [str(entry.kind) for entry in ledger.history()]


def test_the_whole_life_of_a_budget(database, population, key, reserve):
    ledger = Ledger.create(database, population=population, epsilon_cap=3.0, delta=DELTA, key=key)
    before, after, cap = ledger.preview(EVENT)
    assert (before, cap) == (0.0, 3.0)
    held = reserve(ledger, "r/0")
    assert ledger.budget().committed == after == epsilon([EVENT], DELTA)
    assert (ledger.budget().spent, ledger.budget().reserved) == (0.0, after)
    ledger.settle(held, OUTPUT)
    assert ledger.budget().spent == after
    granted = 1
    while ledger.preview(EVENT).allowed:
        ledger.settle(reserve(ledger, f"r/{granted}"), OUTPUT)
        granted += 1
    with pytest.raises(BudgetRefusedError) as refusal:
        reserve(ledger, f"r/{granted}")
    assert refusal.value.exit_code == 5
    whole = epsilon([EVENT] * granted, DELTA)
    assert whole <= 3.0 < epsilon([EVENT] * (granted + 1), DELTA)
    reopened = Ledger.open(database, population=population, key=key)
    budget = reopened.budget()
    assert budget.spent == pytest.approx(whole, rel=1e-6)
    assert budget.left == pytest.approx(3.0 - whole, rel=1e-5)
    assert kinds(reopened) == ["open", *["reserve", "settle"] * granted, "refuse"]
    report = reopened.verify(witness=[ledger.head()])
    assert report.ok, report.findings
    assert not report.warnings
    assert report.epsilon == pytest.approx(whole, rel=1e-6)


def test_a_refusal_leaves_the_budget_untouched(ledger, reserve):
    reserve(ledger, "a")
    before = ledger.budget()
    with pytest.raises(BudgetRefusedError, match=r"goes from epsilon .* cap 4"):
        reserve(ledger, "big", PoissonGaussian(0.5, 0.5, 1000))
    assert ledger.budget().committed == before.committed
    assert ledger.reservation("big") is None


def test_spending_without_a_finite_epsilon_is_refused(ledger, reserve):
    assert ledger.preview(PoissonGaussian(1.0, 0.1, 10**7)).after == math.inf
    with pytest.raises(BudgetRefusedError, match="no meaningful"):
        reserve(ledger, "x", PoissonGaussian(1.0, 0.1, 10**7))
    assert kinds(ledger) == ["open", "refuse"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_accountant_that_answers_nonsense_means_refusal(ledger, reserve, monkeypatch, value):
    """NaN passes every test of the form ``x > cap``."""
    monkeypatch.setattr("privacy.accounting.loss.PrivacyLoss.epsilon", lambda self, delta: value)
    with pytest.raises(BudgetRefusedError):
        reserve(ledger, "x")


@pytest.mark.parametrize("cap", [0.0, -0.0, 5e-324, 1e-300])
def test_tiny_caps_have_no_way_through(tmp_path, reserve, cap):
    ledger = Ledger.create(tmp_path / "l", population="shop", epsilon_cap=cap, delta=DELTA)
    for event in (EVENT, Gaussian(1e6), PoissonGaussian(1e-9, 1e6, 1)):
        preview = ledger.preview(event)
        if preview.after > 0:
            with pytest.raises(BudgetRefusedError):
                reserve(ledger, repr(event), event)
    assert ledger.budget().committed <= cap


def test_a_cap_that_is_met_exactly_is_met_and_one_ulp_less_is_not(tmp_path, reserve):
    exact = epsilon([EVENT], DELTA)
    reserve(Ledger.create(tmp_path / "a", population="p", epsilon_cap=exact, delta=DELTA), "k")
    below = math.nextafter(exact, 0)
    with pytest.raises(BudgetRefusedError):
        reserve(Ledger.create(tmp_path / "b", population="p", epsilon_cap=below, delta=DELTA), "k")


class TestKey:
    @pytest.mark.parametrize("settled", [False, True])
    @pytest.mark.parametrize(
        "change", [{}, {"event": EVENT.with_count(9)}, {"run": "other"}, {"code_version": "2"}]
    )
    def test_it_is_reserved_once_whatever_is_asked_for(self, ledger, reserve, settled, change):
        held = reserve(ledger, "r/1")
        if settled:
            ledger.settle(held, OUTPUT)
        committed = ledger.budget().committed
        for _ in range(3):
            with pytest.raises(KeyReusedError, match="was reserved before"):
                reserve(ledger, "r/1", **change)
        assert ledger.budget().committed == committed
        assert kinds(ledger) == ["open", "reserve", *["settle"] * settled, "refuse"]

    def test_an_open_one_survives_a_restart_and_is_handed_to_nobody(self, ledger, reserve, tmp_path):
        reserve(ledger, "r/1")
        ledger.change_cap(0.0, "stop")
        again = Ledger.open(tmp_path / "shop.ledger", population="shop")
        with pytest.raises(KeyReusedError):
            reserve(again, "r/1")
        assert again.reservation("r/1").status is Status.OPEN


class TestWhole:
    def test_a_run_that_cannot_end_does_not_begin_and_the_refusal_is_on_record(self, ledger, reserve):
        with pytest.raises(BudgetRefusedError, match="the whole of run 'run-1' is too much"):
            reserve(ledger, "r/1", whole=EVENT.with_count(1000))
        assert kinds(ledger) == ["open", "refuse"]
        assert list(ledger.history())[-1].body["whole"] == EVENT.with_count(1000).to_json()
        reserve(ledger, "r/1", whole=EVENT.with_count(20))
        assert ledger.verify().ok

    def test_a_run_that_has_begun_is_judged_round_by_round(self, ledger, reserve):
        reserve(ledger, "r/1", whole=EVENT)
        reserve(ledger, "r/2", whole=EVENT.with_count(1000))


class TestRefusals:
    def test_the_same_one_is_on_record_once(self, ledger, reserve):
        for _ in range(5):
            with pytest.raises(BudgetRefusedError):
                reserve(ledger, "big", EVENT.with_count(10_000))
        assert kinds(ledger) == ["open", "refuse"]

    def test_many_do_not_fill_the_disk(self, ledger, reserve, tmp_path, monkeypatch):
        monkeypatch.setattr("privacy.ledger.state.MAX_REFUSALS", 3)
        refused = 0
        for number in range(9):
            with pytest.raises(BudgetRefusedError):
                reserve(ledger, f"big/{number}", EVENT.with_count(10_000))
            refused += 1
        assert (refused, kinds(ledger).count("refuse")) == (9, 3)
        assert Ledger.open(tmp_path / "shop.ledger", population="shop").verify().ok
        reserve(ledger, "small")
        with pytest.raises(BudgetRefusedError):
            reserve(ledger, "big/0", EVENT.with_count(10_000))
        assert kinds(ledger)[-1] == "refuse", "after a grant they are written down again"


class TestSettle:
    def test_twice_is_refused(self, ledger, reserve):
        held = reserve(ledger, "r/1")
        ledger.settle(held, OUTPUT)
        with pytest.raises(AlreadySettledError):
            ledger.settle(held, OUTPUT)

    def test_unused_steps_come_back_only_with_evidence(self, ledger, reserve):
        held = reserve(ledger, "r/1")
        with pytest.raises(ReservationError, match="needs proof"):
            ledger.settle(held, OUTPUT, steps_used=4)
        settled = ledger.settle(held, OUTPUT, steps_used=4, evidence="stopped by the operator after step 4")
        assert (settled.status, settled.charged) == (Status.SETTLED, 4)
        assert ledger.budget().committed == epsilon([EVENT.with_count(4)], DELTA)
        assert ledger.verify().ok

    def test_nothing_used_costs_nothing(self, ledger, reserve):
        ledger.settle(
            reserve(ledger, "r/1"), OUTPUT, steps_used=0, evidence="no user was sampled before the stop"
        )
        assert ledger.budget().committed == 0.0
        assert ledger.runs()[0].epsilon == 0.0

    def test_what_was_released_is_on_record(self, ledger, reserve, tmp_path):
        assert reserve(ledger, "r/1").output is None
        ledger.settle(ledger.reservation("r/1"), OUTPUT)
        ledger.settle(reserve(ledger, "r/2"), NOTHING)
        again = Ledger.open(tmp_path / "shop.ledger", population="shop")
        assert [r.output for r in again.reservations()] == [OUTPUT, NOTHING]
        assert [r.charged for r in again.reservations()] == [10, 10], "nothing is charged in full"

    @pytest.mark.parametrize("bad", ["", "nothing ", "AB" * 32, "ab" * 31, None, b"ab" * 32, 5])
    def test_an_output_is_a_digest_or_nothing(self, ledger, reserve, bad):
        held = reserve(ledger, "r/1")
        with pytest.raises(PlanError, match="output = "):
            ledger.settle(held, bad)
        assert ledger.reservation("r/1").status is Status.OPEN

    @pytest.mark.parametrize("bad", [-1, 11, 1.0, True, math.nan])
    def test_impossible_steps_are_refused(self, ledger, reserve, bad):
        held = reserve(ledger, "r/1")
        with pytest.raises(PlanError, match="steps_used"):
            ledger.settle(held, OUTPUT, steps_used=bad, evidence="x")

    def test_a_reservation_of_another_ledger_is_refused(self, ledger, reserve, tmp_path):
        other = Ledger.create(tmp_path / "other", population="shop", epsilon_cap=4.0, delta=DELTA)
        with pytest.raises(ReservationError, match="not reserved in this ledger"):
            other.settle(reserve(ledger, "r/1"), OUTPUT)


class TestCap:
    def test_below_what_is_spent_refuses_everything(self, ledger, reserve):
        ledger.settle(reserve(ledger, "r/1"), OUTPUT)
        ledger.change_cap(0.5, "the board decided")
        assert ledger.budget().left == 0.0
        with pytest.raises(BudgetRefusedError):
            reserve(ledger, "r/2", Gaussian(1e6))
        ledger.change_cap(4.0, "the board decided again")
        reserve(ledger, "r/2")
        assert ledger.verify().ok

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -1e-9, -1, 1001, True, None, "6"])
    def test_bad_caps_are_refused(self, ledger, tmp_path, bad):
        with pytest.raises(PlanError, match="epsilon_cap"):
            ledger.change_cap(bad, "why")
        with pytest.raises(PlanError, match="epsilon_cap"):
            Ledger.create(tmp_path / "new", population="shop", epsilon_cap=bad, delta=DELTA)


def test_triggers_refuse_change_and_removal(database, population, key, reserve):
    ledger = Ledger.create(database, population=population, epsilon_cap=4.0, delta=DELTA, key=key)
    reserve(ledger, "r/1")
    statements = [
        "UPDATE ledger_entries SET document = 'x'",
        "DELETE FROM ledger_entries",
        "UPDATE ledger_meta SET public_key = 'x'",
        "DELETE FROM ledger_meta",
    ]
    dialect = sa.make_url(database).get_backend_name()
    if dialect == "postgresql":
        statements += ["TRUNCATE ledger_entries", "TRUNCATE ledger_meta"]
    if dialect == "sqlite":
        statements += [f"INSERT OR REPLACE INTO ledger_entries VALUES ('{population}', 0, 'x', 'x', 'x')"]
    engine = sa.create_engine(database, poolclass=sa.NullPool)
    for statement in statements:
        with engine.connect() as connection:
            if dialect == "sqlite":
                connection.exec_driver_sql("PRAGMA recursive_triggers = ON")
            with pytest.raises(sa.exc.DBAPIError, match="append-only"):
                connection.exec_driver_sql(statement)
    assert ledger.verify().ok


def test_missing_triggers_are_pointed_out(ledger, tmp_path):
    with sqlite3.connect(tmp_path / "shop.ledger") as connection:
        connection.execute("DROP TRIGGER ledger_entries_no_delete")
    report = ledger.verify()
    assert report.ok
    assert "ledger_entries_no_delete" in report.warnings[0]


def test_runs_show_each_share(ledger, reserve):
    ledger.settle(reserve(ledger, "a/0", run="a"), OUTPUT)
    reserve(ledger, "b/0", run="b", event=EVENT.with_count(5))
    reserve(ledger, "b/m", run="b", event=Gaussian(20.0), purpose="metrics")
    a, b = ledger.runs()
    assert (a.run, a.reservations, a.open, a.steps) == ("a", 1, 0, 10)
    assert (b.run, b.reservations, b.open, b.steps) == ("b", 2, 2, 5)
    assert a.epsilon == epsilon([EVENT], DELTA)
    assert b.epsilon == epsilon([EVENT.with_count(5), Gaussian(20.0)], DELTA)
    assert max(a.epsilon, b.epsilon) < ledger.budget().committed < a.epsilon + b.epsilon


def test_entries_say_what_why_and_by_which_code(ledger, reserve):
    reserve(ledger, "r/1")
    ledger.note("quarterly review done")
    entries = list(ledger.history())
    body = entries[1].body
    assert body["event"] == EVENT.to_json()
    assert (body["run"], body["purpose"], body["model_fingerprint"]) == ("run-1", "update", "m0")
    assert body["code_version"] == "1"
    assert body["epsilon_before"] == 0.0
    assert entries[2].kind is Kind.NOTE
    assert [e.prev for e in entries[1:]] == [e.hash for e in entries[:-1]]


@pytest.mark.parametrize("bad", ["", "  ", "a\nb", "x" * 401, None, 7, b"x"])
def test_bad_texts_are_refused(ledger, reserve, bad):
    for field in ("key", "run", "purpose", "model_fingerprint", "code_version"):
        given = {"key": "k", field: bad}
        with pytest.raises(PlanError, match=field):
            reserve(ledger, given.pop("key"), **given)
    with pytest.raises(PlanError, match="event is a"):
        ledger.preview(None)
    with pytest.raises(PlanError, match="event is a dict"):
        reserve(ledger, "k", {"kind": "gaussian"})
    assert kinds(ledger) == ["open"]


def test_heads_survive_json_and_prove_themselves(ledger, reserve):
    reserve(ledger, "r/1")
    head = ledger.head()
    again = Head.from_json(json.loads(json.dumps(head.to_json())))
    assert again == head
    again.check(ledger._signer.public_key())
    with pytest.raises(LedgerMismatchError):
        Head.from_json({**head.to_json(), "seq": True})
    with pytest.raises(LedgerMismatchError):
        again.check(Ed25519PrivateKey.generate().public_key())


def test_an_auditor_reads_without_the_private_key(ledger, reserve, tmp_path):
    reserve(ledger, "r/1")
    (tmp_path / "shop.ledger.key").unlink()
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(ledger.head().public_key))
    for key in (public, None):
        view = LedgerView.open(tmp_path / "shop.ledger", population="shop", public_key=key)
        assert view.budget() == ledger.budget()
        assert [e.hash for e in view.history()] == [e.hash for e in ledger.history()]
        assert view.verify([ledger.head()]).ok
    assert not hasattr(view, "reserve")
    with pytest.raises(LedgerMismatchError, match="knows no population"):
        LedgerView.open(tmp_path / "shop.ledger", population="other")
    other = Ed25519PrivateKey.generate().public_key()
    with pytest.raises(LedgerMismatchError, match="own key"):
        LedgerView.open(tmp_path / "shop.ledger", population="shop", public_key=other)


def test_two_handles_see_each_other(ledger, reserve, tmp_path):
    other = Ledger.open(tmp_path / "shop.ledger", population="shop")
    held = reserve(ledger, "r/1")
    assert other.budget().committed == ledger.budget().committed > 0
    other.settle(held, OUTPUT)
    assert ledger.reservation("r/1").status is Status.SETTLED


def test_looking_whether_it_can_be_written_appends_nothing(tmp_path):
    ledger = Ledger.create(tmp_path / "l.sqlite", population="shop", epsilon_cap=1.0, delta=1e-6)
    before = ledger.head()
    ledger.check_writable()
    assert ledger.head() == before
    (tmp_path / "l.sqlite").unlink()
    with pytest.raises(LedgerUnreadableError):
        ledger.check_writable()
    assert not (tmp_path / "l.sqlite").exists()
