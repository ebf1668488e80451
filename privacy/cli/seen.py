"""Which heads a witness saw: one that `audit head` printed, or the file that the server of a run kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from privacy.cli.locate import Place
from privacy.errors import LedgerError, LedgerUnreadableError, PlanError
from privacy.ledger import Head
from privacy.ledger.witness import NAME, read_witness_file


@dataclass(frozen=True)
class Seen:
    """What a witness saw.

    Args:
        where: the file.
        heads: the heads in it, of one population or several.
        faults: what is wrong with lines of it.
        single: it is one head, and no run's file.
    """

    where: str
    heads: tuple[Head, ...] = ()
    faults: tuple[str, ...] = ()
    single: bool = False

    @property
    def populations(self) -> list[str]:
        """Whose heads these are."""
        return sorted({head.population for head in self.heads})

    def of(self, population: str, *, alone: bool) -> tuple[Head, ...]:
        """The heads that a ledger must hold; a single head is meant for a ledger that stands alone."""
        if self.single and alone:
            return self.heads
        return tuple(head for head in self.heads if head.population == population)

    def require_one_of(self, found: Sequence[Place], faults: Sequence[LedgerUnreadableError]) -> None:
        """Raise PlanError if none of the ledgers can be compared: probably the wrong file was given."""
        alone = len(found) + len(faults) == 1
        if faults or any(self.of(place.population, alone=alone) for place in found):
            return
        raise PlanError(
            f"witness {self.where} saw {', '.join(self.populations)}, which none of the ledgers is of: give the "
            "witness of a run in which this population took part"
        )

    def without_ledger(self, found: Sequence[Place], population: str | None) -> list[LedgerUnreadableError]:
        """Populations of a run's own witness whose ledger is not among the run's."""
        there = {place.population for place in found}
        return [
            LedgerUnreadableError(
                f"the ledger of {name!r} is not here, and witness {self.where} saw it: restore it from backup"
            )
            for name in self.populations
            if name not in there and population in (None, name)
        ]


def read_witness(where: Path) -> Seen:
    """Read a head, the witness file of a run, or that of a run's folder.

    Raises:
        PlanError: it is none of them.
    """
    file = where / NAME if where.is_dir() else where
    if where.is_dir() and not file.exists():
        raise PlanError(f"witness {where} is a folder without {NAME}: only runs with privacy keep one")
    try:
        head = _single(file)
        found = None if head else read_witness_file(file)
    except (OSError, LedgerError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PlanError(f"witness {file} cannot be read: {reason}") from None
    if head is not None:
        return Seen(str(file), (head,), single=True)
    if found is None or not found.kept:
        raise PlanError(
            f"witness {file} holds no head as `fedcart audit head` prints it or a run's {NAME} keeps it"
        )
    return Seen(str(file), tuple(kept.head for kept in found.kept), found.faults)


def _single(file: Path) -> Head | None:
    try:
        document = json.loads(file.read_bytes())
        return Head.from_json(document) if isinstance(document, dict) else None
    except (ValueError, RecursionError, LedgerError):
        return None


def own_witness(ledger: str) -> Seen:
    """What the run's own server saw, if ``ledger`` is the folder of a run and a witness file lies in it.

    Raises:
        LedgerUnreadableError: the file cannot be read.
    """
    file = Path(ledger) / NAME
    try:
        there = "://" not in ledger and file.exists()
    except OSError:
        there = False
    if not there:
        return Seen(str(file))
    found = read_witness_file(file)
    return Seen(str(file), tuple(kept.head for kept in found.kept), found.faults)
