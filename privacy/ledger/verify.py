"""Offline verification: needs the database and the platform's public key, nothing else; writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from privacy.accounting import Accountant
from privacy.errors import (
    AccountingError,
    LedgerError,
    LedgerMismatchError,
    LedgerRolledBackError,
    LedgerTamperedError,
)
from privacy.ledger.chain import Chain
from privacy.ledger.entry import Entry, Kind, check_signature
from privacy.ledger.keys import public_from_hex, public_hex
from privacy.ledger.report import Finding, Head, VerifyReport
from privacy.ledger.state import LedgerState
from privacy.ledger.store import Store

TOLERANCE = 1e-6
"""Relative difference allowed between a recorded ε and its recomputation, beside what round-off explains."""


def verify_ledger(
    url_or_path: str | Path,
    *,
    population: str,
    public_key: Ed25519PublicKey | None = None,
    witness: Sequence[Head] = (),
) -> VerifyReport:
    """Check a ledger from its first entry to its last.

    Args:
        url_or_path: a SQLite file or a database URL.
        population: whose ledger it should be.
        public_key: the platform's key, known from elsewhere; without it the ledger's own word is taken,
            and the report warns.
        witness: heads that someone else kept; the ledger must contain exactly those entries. Without one, a
            restored older copy looks whole.

    Returns:
        A report; it is ``ok`` only if everything holds.

    Raises:
        LedgerUnreadableError: missing, damaged, locked or of an unknown version.
    """
    store = Store(url_or_path, population)
    chain = None
    warnings: list[str] = []
    findings: list[Finding] = []
    recovered = store.recover()
    if recovered is not None:
        warnings.append(recovered)
    try:
        with store.reading() as transaction:
            warnings += transaction.weaknesses()
            meta = transaction.meta()
        if public_key is None:
            if meta is None:
                raise LedgerMismatchError(f"ledger {store.name} knows no population {population!r}")
            public_key = public_from_hex(meta[1])
            warnings.append(
                f"signatures were checked against the key that the ledger itself names ({meta[1]})"
            )
        chain = Chain(store, public_key)
        with chain.reading():
            pass
        for row in chain.rows:
            check_signature(row, population=population, key=public_key)
    except (LedgerTamperedError, LedgerMismatchError) as error:
        read = len(chain.rows) if chain else 0
        return VerifyReport(population, read, (Finding(error.code, read, str(error)),), tuple(warnings))
    for kept in dict.fromkeys(witness):
        findings += _against(kept, chain)
    epsilon, wrong = _recompute(chain.entries, population)
    last = chain.rows[-1]
    return VerifyReport(
        population=population,
        entries=len(chain.rows),
        findings=(*findings, *wrong),
        warnings=tuple(warnings),
        head=Head(population, last.seq, last.hash, public_hex(public_key), last.signature),
        epsilon=epsilon,
        cap=chain.state.cap,
        delta=chain.state.delta,
        counts=chain.state.committed(),
    )


def _against(witness: Head, chain: Chain) -> list[Finding]:
    try:
        witness.check(chain.public_key)
    except LedgerError as error:
        return [Finding(error.code, witness.seq, f"witness: {error}")]
    here = chain.rows[witness.seq].hash if 0 <= witness.seq < len(chain.rows) else None
    if here == witness.hash and witness.population == chain.state.population:
        return []
    what = "is missing here" if here is None else "differs from the one here"
    return [
        Finding(
            LedgerRolledBackError.code,
            witness.seq,
            f"entry {witness.seq} of {witness.population!r} that the witness saw {what}: an older or another "
            "copy was put back; restore the newest copy, do not train, and count what both released",
        )
    ]


def _ends_stretch(entry: Entry, state: LedgerState) -> bool:
    """Whether ε may fall, or the cap differs, from this entry on."""
    if entry.kind is Kind.SETTLE:
        held = state.reservations.get(entry.body["key"])
        return held is not None and entry.body["steps_used"] < held.event.count
    return entry.kind is Kind.CAP


def _recompute(entries: Sequence[Entry], population: str) -> tuple[float | None, list[Finding]]:
    """ε recomputed wherever it can peak, which is before steps are given back or the cap changes.

    Between such entries ε only grows, and the fold has already refused a recorded ε that shrinks, is not the
    one before plus something, or passes the cap; so the last reservation of a stretch decides for all.
    """
    state, accountant = LedgerState(population), Accountant()
    findings: list[Finding] = []
    last_reserve: Entry | None = None
    try:
        for entry in [*entries, None]:
            if last_reserve is not None and (entry is None or _ends_stretch(entry, state)):
                true, recorded = accountant.epsilon(state.committed(), state.delta), state.epsilon
                least, most = accountant.around(state.committed(), state.delta)
                if not least * (1 - TOLERANCE) - 1e-9 <= recorded <= most * (1 + TOLERANCE) + 1e-9:
                    message = (
                        f"entry {last_reserve.seq} of {population!r} records ε {recorded:.6g}, its events "
                        f"compose to {true:.6g}: do not trust this ledger's program"
                    )
                    findings.append(Finding(LedgerTamperedError.code, last_reserve.seq, message))
                last_reserve = None
            if entry is not None:
                state.apply(entry)
                last_reserve = entry if entry.kind is Kind.RESERVE else last_reserve
        return accountant.epsilon(state.committed(), state.delta), findings
    except AccountingError as error:
        return None, [*findings, Finding(error.code, len(entries) - 1, str(error))]
