"""Which ledgers are meant: a SQLite file, a database URL, or the folder of a run with several of them."""

from __future__ import annotations

import stat
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from privacy.cli.output import warn
from privacy.errors import LedgerUnreadableError, PlanError
from privacy.ledger import LedgerView
from privacy.ledger.location import database_url, shown
from privacy.ledger.state import check_population
from privacy.ledger.store import Store


@dataclass(frozen=True)
class Place:
    """One population's ledger.

    Args:
        where: a SQLite file or a database URL.
        population: whose ledger.
        recovered: what had to be undone to find out whose it is.
    """

    where: str | Path = field(repr=False)  # may hold a password
    population: str
    recovered: str | None = None

    @property
    def name(self) -> str:
        """Where it is, without a password."""
        return shown(self.where)

    def open(self) -> LedgerView:
        """Open it to read; a remark on standard error says what had to be undone."""
        view = LedgerView.open(self.where, population=self.population)
        view.recovered = view.recovered or self.recovered
        if view.recovered is not None:
            warn(f"{self.population}: {view.recovered}")
        return view


def ledger_files(ledger: str) -> list[str | Path]:
    """Where the ledgers are that ``ledger`` stands for: itself, or all of a run's folder.

    Raises:
        PlanError: not a database URL.
        LedgerUnreadableError: there is nothing to read.
    """
    if "://" in ledger:
        try:
            url = database_url(ledger)
        except LedgerUnreadableError as error:
            raise PlanError(str(error)) from None
        if url.get_backend_name() == "sqlite" and not url.database:
            raise PlanError("the ledger's database URL names no file: expected sqlite:///path")
        return [ledger]
    path = Path(ledger)
    try:
        if not stat.S_ISDIR(path.stat().st_mode):
            with path.open("rb"):
                return [path]
        found: list[str | Path] = [*sorted((path / "ledgers").glob("*.sqlite")), *_lasting(path)]
    except OSError as error:
        raise LedgerUnreadableError(
            f"ledger {shown(ledger)} cannot be read: {error.strerror}: check the path, or restore it from backup"
        ) from None
    if not found:
        raise LedgerUnreadableError(
            f"folder {ledger} holds no ledgers/*.sqlite: give a ledger or the folder of a run"
        )
    return found


def _lasting(folder: Path) -> list[str | Path]:
    """Ledgers outside a run's folder that its sites name, because they outlive the run."""
    found: list[str | Path] = []
    for site in sorted((folder / "sites").glob("*.toml")):
        try:
            named = tomllib.loads(site.read_text(encoding="utf-8")).get("ledger")
        except ValueError:
            continue
        if not isinstance(named, str) or not named:
            continue
        where: str | Path = named if "://" in named else Path(named)
        own = isinstance(where, Path) and where.parent.name == "ledgers"
        if own and (folder / "ledgers" / Path(named).name).exists():
            continue
        found.append(where)
    return found


def _place(where: str | Path) -> Place:
    store = Store(where, "")
    recovered = store.recover()
    with store.reading() as transaction:
        names = sorted(transaction.populations())
    if len(names) == 1:
        return Place(where, names[0], recovered)
    name = shown(where)
    if not names:
        raise LedgerUnreadableError(f"ledger {name} holds no population: restore it from backup")
    raise PlanError(
        f"ledger {name} holds {len(names)} populations ({', '.join(names[:10])}): choose one with --population"
    )


def places(
    ledger: str, population: str | None, unreadable: list[LedgerUnreadableError] | None = None
) -> list[Place]:
    """Every ledger that is meant, with its population.

    Args:
        ledger: a SQLite file, a database URL, or the folder of a run.
        population: only this one's.
        unreadable: where ledgers that cannot be read are noted; without it the first of them is raised.

    Raises:
        PlanError: the population's name must be given, or is not one.
        LedgerError: there is nothing to read.
    """
    if population is not None:
        check_population(population)
    found = []
    try:
        files = ledger_files(ledger)
        if population is not None and len(files) == 1:
            return [Place(files[0], population)]
    except LedgerUnreadableError as error:
        if unreadable is None:
            raise
        unreadable.append(error)
        return []
    for where in files:
        try:
            found.append(_place(where))
        except LedgerUnreadableError as error:
            if unreadable is None:
                raise
            unreadable.append(error)
    if population is None:
        return found
    chosen = [place for place in found if place.population == population]
    if not (chosen or unreadable):
        raise PlanError(f"no ledger in {shown(ledger)} is of population {population!r}")
    return chosen


def one_place(ledger: str, population: str | None) -> Place:
    """The one ledger that is meant.

    Raises:
        PlanError: several are.
    """
    found = places(ledger, population)
    if len(found) > 1:
        names = ", ".join(sorted(place.population for place in found)[:10])
        raise PlanError(f"{shown(ledger)} holds {len(found)} ledgers ({names}): choose one with --population")
    return found[0]
