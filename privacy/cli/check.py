"""`audit verify`: the verifier's report, every damaged entry, and whose word the key is."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from privacy.cli.cross import complaints, cross_cell, cross_documents
from privacy.cli.locate import Place
from privacy.errors import LedgerError, LedgerTamperedError, LedgerUnreadableError, PlanError
from privacy.ledger import Head, VerifyReport, verify_ledger
from privacy.ledger.entry import GENESIS, Row, check_signature, digest
from privacy.ledger.keys import public_from_hex
from privacy.ledger.store import Store

TAMPERED, UNREADABLE = LedgerTamperedError.exit_code, LedgerUnreadableError.exit_code


def fingerprint(public_key: str) -> str:
    """SHA-256 of a public key's 32 raw bytes, in groups of four digits: short enough to read out."""
    text = hashlib.sha256(bytes.fromhex(public_key)).hexdigest()
    return " ".join(text[i : i + 4] for i in range(0, len(text), 4))


def read_public_key(file: Path) -> Ed25519PublicKey:
    """Read an Ed25519 public key: PEM, or its 32 bytes in hex.

    Raises:
        PlanError: it is not one; a private key is refused, for an auditor should not have it.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise PlanError(f"public key {file} cannot be read: {error.strerror}") from None
    if b"PRIVATE KEY" in data:
        raise PlanError(
            f"{file} is a private key, which only the platform may hold: give the public one "
            "(openssl pkey -in KEY -pubout)"
        )
    try:
        if b"BEGIN PUBLIC KEY" in data:
            key = serialization.load_pem_public_key(data)
        else:
            key = public_from_hex(data.decode("ascii").strip())
    except (ValueError, LedgerError):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise PlanError(f"{file} holds no Ed25519 public key: give a PEM file, or 32 bytes in hex")
    return key


def verify_place(
    place: Place, key: Ed25519PublicKey | None, witness: Sequence[Head], *, quick: bool = False
) -> dict[str, Any]:
    """Check one ledger. ``status`` is whole, tampered or unreadable, ``exit_code`` 0, 3 or 4.

    ``quick`` leaves out the other accountants, whose disagreement is a warning.
    """
    document: dict[str, Any] = {
        "population": place.population,
        "ledger": place.name,
        "status": "whole",
        "exit_code": 0,
        "key_from": "the ledger itself" if key is None else "--public-key",
        "witness": sorted({head.seq for head in witness}),
    }
    try:
        report = verify_ledger(place.where, population=place.population, public_key=key, witness=witness)
        findings = [asdict(finding) for finding in report.findings]
        if report.head is None:  # the chain broke: say for every entry whether it holds
            findings = _all_findings(place, key, findings)
    except LedgerUnreadableError as error:
        return document | unreadable(error)
    if findings:
        document |= {"status": "tampered", "exit_code": TAMPERED}
    checks: list[dict[str, Any]] = []
    if not quick and not findings and None not in (report.counts, report.delta, report.epsilon):
        checks = cross_documents(report.counts or {}, report.delta or 0.0, report.epsilon or 0.0)
    facts = _facts(report)
    facts["warnings"] = [*filter(None, [place.recovered]), *facts["warnings"], *complaints(checks)]
    return document | facts | {"findings": findings, "cross_checks": checks}


def damaged(where: str, faults: Sequence[str]) -> dict[str, Any]:
    """The result for a witness of which some lines do not hold."""
    findings = [{"code": LedgerTamperedError.code, "seq": None, "message": text} for text in faults]
    return {
        "ledger": where,
        "status": "tampered",
        "exit_code": TAMPERED,
        "findings": findings,
        "warnings": [],
        "cross_checks": [],
    }


def unreadable(error: LedgerUnreadableError) -> dict[str, Any]:
    """The result for a ledger that cannot be read."""
    finding = {"code": error.code, "seq": None, "message": str(error)}
    return {
        "status": "unreadable",
        "exit_code": UNREADABLE,
        "findings": [finding],
        "warnings": [],
        "cross_checks": [],
    }


def _facts(report: VerifyReport) -> dict[str, Any]:
    head = report.head
    return {
        "entries": report.entries,
        "epsilon": report.epsilon,
        "cap": report.cap,
        "delta": report.delta,
        "head": None if head is None else head.to_json(),
        "fingerprint": None if head is None else fingerprint(head.public_key),
        "warnings": list(report.warnings),
    }


def _all_findings(
    place: Place, key: Ed25519PublicKey | None, first: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The verifier's own finding, which stops at the first, and then each entry that is bad in itself."""
    with Store(place.where, place.population).reading() as transaction:
        meta = transaction.meta()
        try:
            rows = list(transaction.rows())
        except LedgerTamperedError:
            return first
    try:
        key = key or (public_from_hex(meta[1]) if meta else None)
    except LedgerError:
        key = None
    found = {int(seq): message for seq, message in _bad_rows(rows, place.population, key)}
    # The verifier says how far it came; a row that is bad in itself names the entry exactly.
    rest = [f for f in first if not any(re.search(rf"entry {seq}\b", f["message"]) for seq in found)]
    stated = [{"code": LedgerTamperedError.code, "seq": seq, "message": text} for seq, text in found.items()]
    return [*rest, *stated] if stated else first


def _bad_rows(rows: list[Row], population: str, key: Ed25519PublicKey | None) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    before, place = GENESIS, 0
    for row in rows:
        faults = []
        if row.seq != place:
            missing = f"{place}" if row.seq == place + 1 else f"{place} to {row.seq - 1}"
            faults.append(f"what should come before it (entry {missing}) is missing")
        if digest(row.document) != row.hash:
            faults.append("its hash does not fit its content")
        elif row.seq == place and _field(row, "prev") != before:
            faults.append("it does not follow the entry before it")
        if key is not None:
            try:
                check_signature(row, population=population, key=key)
            except LedgerTamperedError:
                faults.append("it is not signed by the platform's key")
        if faults:
            found.append((row.seq, f"entry {row.seq} of {population!r}: {'; '.join(faults)}"))
        before, place = row.hash, row.seq + 1
    return found


def _field(row: Row, name: str) -> Any:
    try:
        document = json.loads(row.document)
    except (ValueError, RecursionError):
        return None
    return document.get(name) if isinstance(document, Mapping) else None


def verdict_lines(document: Mapping[str, Any]) -> list[str]:
    """One ledger's result for people."""
    whose = f"  {document['population']}" if "population" in document else ""
    where = f"  ({document['ledger']})" if "ledger" in document else ""
    lines = [document["status"].upper() + whose + where]
    if document["status"] == "whole":
        head = document["head"]
        lines.append(
            f"  {document['entries']} entries; ε recomputed from them {document['epsilon']:.4f} of "
            f"{document['cap']:g} at δ = {document['delta']:g}"
        )
        lines.append(f"  head: entry {head['seq']}, {head['hash']}")
        lines += [f"  cross-check {check['name']}: {cross_cell(check)}" for check in document["cross_checks"]]
    lines += [f"  - {finding['message']}" for finding in document["findings"][:20]]
    if len(document["findings"]) > 20:
        lines.append(f"  … and {len(document['findings']) - 20} more; --format json lists all")
    if document.get("fingerprint"):
        lines.append(f"  key, from {document['key_from']}: {document['fingerprint']}")
        if document["key_from"] != "--public-key":
            lines.append(
                "    compare this fingerprint with the platform's by another way, or use --public-key"
            )
    seen = document.get("witness")
    if seen:
        entries = f"{len(seen)} entries, {seen[0]} to {seen[-1]}" if len(seen) > 1 else f"entry {seen[0]}"
        lines.append(f"  compared with what a witness saw: {entries}")
    elif document["status"] == "whole":
        lines.append("  no witness was compared: an older copy put back would look whole")
    own_word = "signatures were checked against the key that the ledger itself names"
    lines += [f"  warning: {w}" for w in document["warnings"] if not w.startswith(own_word)]
    return lines
