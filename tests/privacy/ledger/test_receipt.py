"""A receipt says what its ledger's key signed, and nothing else passes."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privacy.errors import LedgerError, LedgerMismatchError, LedgerTamperedError
from privacy.events import PoissonGaussian
from privacy.ledger import Ledger, Receipt, Statement

STATEMENT = Statement("toys", "run-1", 3, "ab" * 32, "cd" * 32, "ef" * 32, "chacha20-os-entropy")


@pytest.fixture(scope="module")
def ledger(tmp_path_factory) -> Ledger:
    """A ledger with one settled release."""
    path: Path = tmp_path_factory.mktemp("receipts") / "toys.sqlite"
    made = Ledger.create(path, population="toys", epsilon_cap=9.0, delta=1e-6)
    event = PoissonGaussian(0.1, 2.0, 5)
    held = made.reserve(
        event, run="run-1", purpose="round 3", key="k", model_fingerprint="cd" * 32, code_version="1"
    )
    made.settle(held, "ab" * 32)
    return made


def test_it_holds_the_budget_and_the_head_and_travels_whole(ledger):
    receipt = ledger.receipt(STATEMENT)
    budget = ledger.budget()
    assert (receipt.committed, receipt.cap, receipt.delta) == (budget.committed, budget.cap, budget.delta)
    assert receipt.head == ledger.head()
    receipt.check()
    assert Receipt.from_mapping(receipt.to_mapping()) == receipt
    assert ledger.receipt(STATEMENT) == receipt, "the same again, byte for byte"


FIELDS = [
    "platform",
    "run",
    "round",
    "plan",
    "base",
    "update",
    "noise",
    "committed",
    "cap",
    "delta",
    "head",
    "signature",
]


@given(name=st.sampled_from(FIELDS), data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_field_can_be_changed(ledger, name, data):
    said = ledger.receipt(STATEMENT).to_mapping()
    kind = {int: st.integers(), float: st.floats(), str: st.text(max_size=130)}[type(said[name])]
    said[name] = data.draw(kind.filter(lambda value: value != said[name]))
    with pytest.raises(LedgerError):
        Receipt.from_mapping(said).check()


@given(
    document=st.dictionaries(
        st.sampled_from((*FIELDS, "users")), st.none() | st.text() | st.floats() | st.integers()
    )
)
def test_whatever_a_stranger_sends_is_refused_by_name(document):
    with pytest.raises(LedgerMismatchError, match=r"receipt|head"):
        Receipt.from_mapping(document)


def test_the_head_of_another_ledger_cannot_be_put_in(ledger, tmp_path):
    other = Ledger.create(tmp_path / "other.sqlite", population="toys", epsilon_cap=9.0, delta=1e-6)
    receipt = replace(ledger.receipt(STATEMENT), head=other.head())
    with pytest.raises(LedgerTamperedError, match="round 3 of 'run-1': its signature is not from the key"):
        receipt.check()


def test_a_head_is_not_taken_for_a_receipt(ledger):
    """What signs heads signs receipts too; neither signature can stand for the other."""
    receipt = ledger.receipt(STATEMENT)
    with pytest.raises(LedgerTamperedError):
        replace(receipt, signature=receipt.head.signature).check()
    with pytest.raises(LedgerTamperedError):
        replace(receipt.head, signature=receipt.signature).check()
