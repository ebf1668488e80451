"""Why privacy code refuses: one hierarchy, stable codes, documented exit codes.

::

    PrivacyError                      1   any refusal of this package
    ├── PlanError                     2   a parameter of a plan, an event or a call is unusable
    ├── MechanismError                6   a gradient sum cannot be released (NaN, inf, wrong accumulation)
    ├── AccountingError               5   no finite ε can be vouched for
    ├── BudgetRefusedError            5   the release would pass the cap in force
    │   └── ReservationError          5   the reservation asked for cannot be had
    │       ├── KeyReusedError        5   its key was reserved before: nothing is made for it again
    │       └── AlreadySettledError   5   it was settled before
    └── LedgerError                   3   the record cannot be used
        ├── LedgerTamperedError       3   chain, signature, order or content is not what was written
        │   ├── LedgerRolledBackError 3   an older or forked copy of what a witness has seen
        │   └── LedgerClockError      3   time ran backwards
        ├── LedgerMismatchError       3   another population, another key, or it exists already
        └── LedgerUnreadableError     4   missing, damaged, locked, full, or from an unknown version

A message says what was wrong, where, with which value, and what to do about it; it may name declared
parameters, never anything taken from shoppers' data. ``code`` says even less and may travel to the server.
"""

from __future__ import annotations


class PrivacyError(Exception):
    """Base of every refusal. ``exit_code`` is the process' exit status, ``code`` is safe to send."""

    exit_code: int = 1
    code: str = "privacy"


class PlanError(PrivacyError):
    """A declared parameter is NaN, infinite, out of range or of the wrong type."""

    exit_code = 2
    code = "plan.invalid"


class MechanismError(PrivacyError):
    """A clipped sum may not be released; no step was taken."""

    exit_code = 6
    code = "mechanism.refused"


class AccountingError(PrivacyError):
    """The accountant cannot vouch for a finite ε, so the answer is no."""

    exit_code = 5
    code = "accounting.unbounded"


class BudgetRefusedError(PrivacyError):
    """The release would take the composed ε past the cap in force."""

    exit_code = 5
    code = "budget.refused"


class ReservationError(BudgetRefusedError):
    """A reservation is unknown, or not in a state that allows what was asked."""

    code = "budget.reservation"


class KeyReusedError(ReservationError):
    """The key was reserved before; a reservation is handed out once."""

    code = "budget.key-reused"


class AlreadySettledError(ReservationError):
    """The reservation is settled: its one output is on record."""

    code = "budget.already-settled"


class LedgerError(PrivacyError):
    """The ledger of record cannot be used as it is."""

    exit_code = 3
    code = "ledger"


class LedgerTamperedError(LedgerError):
    """The record is not what was written; the first bad entry is named."""

    code = "ledger.tampered"


class LedgerRolledBackError(LedgerTamperedError):
    """A witness has seen entries that this copy does not contain."""

    code = "ledger.rollback"


class LedgerClockError(LedgerTamperedError):
    """An entry would be, or is, older than the one before it."""

    code = "ledger.clock"


class LedgerMismatchError(LedgerError):
    """The ledger belongs to another population or another key, or stands where a new one was to be made."""

    code = "ledger.mismatch"


class LedgerUnreadableError(LedgerError):
    """The ledger is missing, damaged, locked, cannot be written, or has an unknown schema version."""

    exit_code = 4
    code = "ledger.unreadable"
