"""Offline verification: needs the database and the platform's public key, nothing else, and writes nothing."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from privacy.accounting import Accountant
from privacy.errors import (
    AccountingError,
    LedgerClockError,
    LedgerError,
    LedgerRolledBackError,
    LedgerTamperedError,
)
from privacy.ledger.chain import Chain
from privacy.ledger.entry import Entry, Kind, check_signature
from privacy.ledger.keys import public_from_hex, public_hex
from privacy.ledger.report import Finding, Head, VerifyReport
from privacy.ledger.state import LedgerState
from privacy.ledger.store import Store

_TOLERANCE = 1e-6
"""Relative difference allowed between a recorded ε and its recomputation (round-off allowances)."""


def verify_ledger(
    url_or_path: str | Path,
    *,
    population: str,
    public_key: Ed25519PublicKey | None = None,
    witness: Head | None = None,
) -> VerifyReport:
    """Check a ledger from its first entry to its last.

    Args:
        url_or_path: a SQLite file or a database URL.
        population: whose ledger it should be.
        public_key: the platform's key, known from elsewhere; without it the ledger's own word is taken,
            and the report warns.
        witness: a head that someone else kept; the ledger must contain exactly that entry.

    Returns:
        A report; it is ``ok`` only if everything holds.

    Raises:
        LedgerUnreadableError: missing, damaged, locked or of an unknown version.
        LedgerMismatchError: of another population or key.
    """
    store = Store(url_or_path, population)
    warnings = []
    with store.reading() as transaction:
        meta = transaction.meta()
        missing = transaction.missing_triggers()
    if missing:
        warnings.append(
            f"the database no longer refuses changes by itself: missing triggers {', '.join(missing)}"
        )
    if public_key is None and meta is not None:
        public_key = public_from_hex(meta[1])
        warnings.append(f"signatures were checked against the key the ledger names itself, {meta[1][:16]}…")
    chain = Chain(store, public_key) if public_key is not None else None
    findings: list[Finding] = []
    head = None
    try:
        assert chain is not None
        with chain.reading():
            pass
        for row in chain.rows:
            check_signature(row, population=population, key=public_key)
    except LedgerTamperedError as error:
        entries = len(chain.rows) if chain else 0
        findings.append(Finding(error.code, entries, str(error)))
        return VerifyReport(population, entries, tuple(findings), tuple(warnings))
    last = chain.rows[-1]
    head = Head(population, last.seq, last.hash, public_hex(public_key), last.signature)
    if witness is not None:
        findings += _against(witness, chain, public_key)
    epsilon, wrong = _recompute(chain.entries, population)
    findings += wrong
    return VerifyReport(
        population,
        len(chain.rows),
        tuple(findings),
        tuple(warnings),
        head,
        epsilon,
        chain.state.cap,
        chain.state.delta,
    )


def _against(witness: Head, chain: Chain, public_key: Ed25519PublicKey) -> list[Finding]:
    try:
        witness.check(public_key)
    except LedgerError as error:
        return [Finding(error.code, witness.seq, f"witness: {error}")]
    here = chain.rows[witness.seq] if witness.seq < len(chain.rows) else None
    if here is not None and here.hash == witness.hash and witness.population == here_population(chain):
        return []
    what = "is missing here" if here is None else "differs from the one here"
    return [
        Finding(
            LedgerRolledBackError.code,
            witness.seq,
            f"entry {witness.seq} that the witness has seen {what}: an older or forked copy was put back; "
            "restore the newest copy, do not train",
        )
    ]


def here_population(chain: Chain) -> str:
    """The population a chain is of."""
    return chain.state.population


def _recompute(entries: list[Entry], population: str) -> tuple[float | None, list[Finding]]:
    """ε recomputed wherever it peaks: composition only grows until steps are given back or the cap moves."""
    state, accountant = LedgerState(population), Accountant()
    findings: list[Finding] = []
    pending: Entry | None = None

    def check() -> None:
        nonlocal pending
        if pending is not None:
            true = accountant.epsilon(state.committed(), state.delta)
            recorded = pending.body["epsilon_after"]
            if not abs(true - recorded) <= _TOLERANCE * max(true, 1e-6) + 1e-9:
                message = (
                    f"entry {pending.seq} records ε {recorded:.6g}, but its events compose to {true:.6g}"
                )
                findings.append(Finding(LedgerTamperedError.code, pending.seq, message))
            pending = None

    try:
        for entry in entries:
            if entry.kind in (Kind.SETTLE, Kind.CAP):
                check()
            state.apply(entry)
            if entry.kind is Kind.RESERVE:
                pending = entry
        check()
        return accountant.epsilon(state.committed(), state.delta), findings
    except AccountingError as error:
        return None, [*findings, Finding(error.code, len(entries) - 1, str(error))]


_ = LedgerClockError
