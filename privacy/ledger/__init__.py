"""The ledger of record: what was ever released about a population, durable, capped, chained and signed."""

from privacy.ledger.entry import Entry, Kind
from privacy.ledger.ledger import Ledger
from privacy.ledger.receipt import Receipt, Statement
from privacy.ledger.report import Budget, Finding, Head, Preview, RunSpend, VerifyReport
from privacy.ledger.state import NOTHING, Reservation, Status
from privacy.ledger.verify import verify_ledger
from privacy.ledger.view import LedgerView
from privacy.ledger.witness import Witness

__all__ = [
    "NOTHING",
    "Budget",
    "Entry",
    "Finding",
    "Head",
    "Kind",
    "Ledger",
    "LedgerView",
    "Preview",
    "Receipt",
    "Reservation",
    "RunSpend",
    "Statement",
    "Status",
    "VerifyReport",
    "Witness",
    "verify_ledger",
]
