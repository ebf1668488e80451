"""Other accountants' values beside ε of record, as the commands show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from privacy.accounting import cross_checks
from privacy.accounting.accountant import Tally
from privacy.cli.output import number

Checks = Sequence[Mapping[str, Any]]


def cross_documents(counts: Tally, delta: float, record: float) -> list[dict[str, Any]]:
    """What every other accountant says, and whether it fits ``record``."""
    return [asdict(check) for check in cross_checks(counts, delta, record)]


def cross_cell(check: Mapping[str, Any]) -> str:
    """One check for people: value and verdict."""
    value = "" if check["epsilon"] is None else f"{number(check['epsilon'], 4)}  "
    return f"{value}{'' if check['agrees'] else 'DISAGREES: '}{check['note']}"


def complaints(checks: Checks) -> list[str]:
    """A sentence for every check that does not fit."""
    return [f"{check['name']} disagrees: {check['note']}" for check in checks if not check["agrees"]]
