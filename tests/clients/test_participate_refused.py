"""Rounds that a platform refuses: before the ledger is touched, and before anything is trained."""

import numpy as np
import pytest

import clients.participate as module
from clients.errors import PolicyError, RoundError
from clients.outbox import Outbox
from clients.participate import participate
from privacy.errors import (
    BudgetRefusedError,
    LedgerError,
    LedgerUnreadableError,
    PlanError,
)
from privacy.ledger import Kind
from shared_model.encoders import identities_to_json
from shared_model.errors import BadInputError, EncoderError, ExchangeError
from tests.clients.one_round import kinds, never, updates


def test_a_run_that_would_pass_the_cap_later_is_refused_before_its_first_round(
    make_site, ask, start, ledger_of, monkeypatch
):
    site = make_site(cap=5.0)
    monkeypatch.setattr(module, "train_private", lambda *_, **__: pytest.fail("trained"))
    for _ in range(3):
        with pytest.raises(
            BudgetRefusedError, match=r"whole of run 'run-1' .* from epsilon 0 to 7\.\d+, past the cap 5 "
        ):
            participate(site, ask, start(ask))
    entries = [entry.kind for entry in ledger_of(site).history()]
    assert entries == [Kind.OPEN, Kind.REFUSE], "on record, once"


def test_a_ledger_whose_epsilon_is_at_another_delta_is_refused(make_site, ask, start, ledger_of):
    """Its cap would be compared at that δ, which is not the one that is promised."""
    site = make_site()
    other = site.model_copy(update={"delta": 1e-7})
    with pytest.raises(PolicyError, match=r"ledger's delta is 1e-06, the site declares 1e-07"):
        participate(other, ask.model_copy(update={"delta": 1e-7}), start(ask))
    assert kinds(ledger_of(site)) == []


def test_without_a_ledger_nothing_is_trained(make_site, ask, start):
    site = make_site(cap=None)
    with pytest.raises(LedgerUnreadableError):
        participate(site, ask, start(ask))


def test_plain_training_needs_the_site_s_consent_and_leaves_the_ledger_alone(
    make_site, ask, start, ledger_of
):
    plain = ask.model_copy(update={"epsilon": 0.0})
    with pytest.raises(PolicyError, match="allow_plain_training"):
        participate(make_site("strict"), plain, start(ask))
    site = make_site("open", allow_plain_training=True)
    assert participate(site, plain, start(ask)).receipt is None
    assert kinds(ledger_of(site)) == []


def test_what_does_not_fit_is_refused_before_the_ledger_is_touched(make_site, ask, start, ledger_of):
    site = make_site()
    arrays = start(ask)
    with pytest.raises(PolicyError, match="delta"):
        participate(site, ask.model_copy(update={"delta": 1e-5}), arrays)
    other = identities_to_json([i.__class__(i.name, "2", i.sha256, i.dimension) for i in ask.identities])
    with pytest.raises(EncoderError, match=r"/1 .*there.*/2 "):
        participate(site, ask.model_copy(update={"encoder_identities": other}), arrays)
    with pytest.raises(ExchangeError, match="NaN"):
        participate(site, ask, arrays | {"log_isolation": np.array([np.nan], dtype=np.float32)})
    with pytest.raises(ExchangeError, match="unknown"):
        participate(site, ask, arrays | {"popularity": np.zeros(1, dtype=np.float32)})
    assert kinds(ledger_of(site)) == []


def test_a_run_does_not_go_on_past_the_cap(make_site, ask, start, ledger_of, monkeypatch):
    site = make_site(cap=9.0)
    monkeypatch.setattr(module, "train_private", lambda shared, *_: shared)

    def for_ever():
        for number in range(1, 100):
            participate(site, ask.model_copy(update={"round": number}), start(ask))

    with pytest.raises(BudgetRefusedError):
        for_ever()
    assert 8.0 < ledger_of(site).budget().committed <= 9.0


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"encoder_identities": "[]"}, EncoderError),
        ({"encoders": "tinier"}, EncoderError),
        ({"encoders": "nonsense"}, EncoderError),
        ({"epsilon": 2000.0}, PlanError),
        ({"width": 3}, ExchangeError),
    ],
    ids=["no identities", "another encoder", "unknown encoder", "epsilon", "width"],
)
def test_a_request_that_cannot_be_met_is_refused_untrained(
    make_site, ask, start, ledger_of, monkeypatch, change, error
):
    site = make_site()
    monkeypatch.setattr(module, "train_private", never)
    with pytest.raises(error):
        participate(site, ask.model_copy(update=change), start(ask))
    assert ledger_of(site).budget().committed == 0
    assert updates(site) == []


def test_data_that_cannot_be_read_is_refused_uncharged(make_site, ask, start, ledger_of):
    site = make_site()
    site.events.write_text("household,product\n1,2\n")
    with pytest.raises(BadInputError, match=r"events\.csv"):
        participate(site, ask, start(ask))
    assert ledger_of(site).budget().committed == 0


def test_an_update_for_another_spec_in_the_outbox_is_not_sent(make_site, ask, start, monkeypatch):
    monkeypatch.setattr(Outbox, "get", lambda *_: {"secret": np.zeros(3, np.float32)})
    with pytest.raises(RoundError, match="from the outbox"):
        participate(make_site(), ask, start(ask))


def test_a_number_beyond_the_start_s_range_is_refused(make_site, ask, start, ledger_of):
    arrays = start(ask)
    arrays["residual_in"] = np.full_like(arrays["residual_in"], 1.1e6)
    site = make_site()
    with pytest.raises(ExchangeError, match="beyond 1e\\+06"):
        participate(site, ask, arrays)
    assert kinds(ledger_of(site)) == []


def test_an_update_that_diverged_is_replaced_by_its_start(make_site, ask, start, monkeypatch):
    site, real = make_site(), module.train_private

    def diverging(*arguments):
        trained = real(*arguments)
        return trained | {"log_isolation": trained["log_isolation"] * float("nan")}

    monkeypatch.setattr(module, "train_private", diverging)
    sent = participate(site, ask, start(ask))
    assert all(np.array_equal(sent.arrays[name], array) for name, array in start(ask).items())


@pytest.mark.parametrize("damage", ["missing", "garbage", "key"])
def test_without_a_ledger_that_can_be_trusted_nothing_is_trained(make_site, ask, start, monkeypatch, damage):
    site = make_site()
    ledger = site.events.parent / "ledger.sqlite"
    if damage == "missing":
        ledger.unlink()
    elif damage == "garbage":
        ledger.write_bytes(b"garbage" * 1000)
    else:
        for path in ledger.parent.glob("ledger*.key"):
            path.unlink()
    monkeypatch.setattr(module, "train_private", never)
    with pytest.raises(LedgerError):
        participate(site, ask, start(ask))
    assert not list(site.work.glob("**/*.update"))


def test_a_filter_over_all_shoppers_is_refused(make_site, ask, start, ledger_of):
    site = make_site(task={"research_k_core": 2})
    with pytest.raises(PolicyError, match="research_k_core"):
        participate(site, ask, start(ask))
    assert kinds(ledger_of(site)) == []
