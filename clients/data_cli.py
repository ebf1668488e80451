"""`fedcart client ingest`, `fresh`, `erase` and `report`. What they print stays on the platform.

Exit codes are those of `fedcart.py`.
"""

import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TaskID, TextColumn, TimeElapsedColumn

from clients.data.catalogue import Catalogue
from clients.data.images import pictured
from clients.data.ingest import Ingested, ingest
from clients.data.store import EventStore, open_store
from clients.data.summary import summarise
from clients.erasure import erase_shopper
from clients.errors import SiteError
from clients.feedback.estimate import Estimate
from clients.feedback.report import METRICS, Period, feedback_report
from clients.feedback.store import FeedbackStore
from clients.folder import ClientFolder
from clients.fresh import fresh_events
from clients.platform import read_catalogue, read_data
from clients.site import SiteSettings
from privacy.cli.output import Format, number, write_json, write_lines, write_table

data_commands = typer.Typer()

FolderOption = Annotated[
    Path, typer.Option(envvar="FEDCART_CLIENT", help="The platform's folder; the current one where left out.")
]
FormatOption = Annotated[Format, typer.Option(help="What is printed on standard output.")]


@data_commands.command("ingest")
def ingest_command(
    folder: FolderOption = Path(),
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="Read the sources from their beginning: finds what came in later than they allow for.",
        ),
    ] = False,
    anew: Annotated[
        bool,
        typer.Option(
            "--anew", help="The same, and keep only what they have now: for rows that changed or went there."
        ),
    ] = False,
    format: FormatOption = Format.table,
) -> None:
    """Read what is new in this platform's sources into its event store, from which it trains.

    Progress goes to standard error, the data report to standard output: it is for this platform alone. Exit code
    0: done; 2: a source, column or setting cannot be used; 4: a database or the store cannot be read or written.
    After 2 and 4 the store is as it was.
    """
    site = ClientFolder(folder).site()
    if not site.sources:
        raise SiteError(
            f"{site.name}: client.toml has no [sources.NAME], so training reads events = {site.events} itself and "
            "nothing needs to be ingested."
        )
    store = open_store(site.store)
    images = {
        model: pictured(file) for model, file in site.images.items()
    }  # first: nothing changes if one is bad
    listed = None if site.items is None else read_catalogue(site)
    done = _ingest(store, site, listed, full=full, anew=anew)
    summary, new = summarise(store, listed or read_catalogue(site), images), fresh_events(site)
    if format is Format.json:
        write_json(
            {
                "added": done.added,
                "known": done.known,
                "removed": done.removed,
                "sources": [report.to_dict() for report in done.reports],
                "store": summary.to_dict(),
                "fresh": asdict(new),
            }
        )
        return
    lines = [line for report in done.reports for line in report.lines()]
    added = f"added {done.added:,} events; {done.known:,} were there already"
    if anew:
        added += f"; {done.removed:,} that the sources no longer have went"
    write_lines([*lines, added, new.line(), *summary.lines()])


@data_commands.command()
def fresh(
    folder: FolderOption = Path(),
    at_least: Annotated[int, typer.Option(min=1, help="So many new events are worth a run.")] = 1,
    format: FormatOption = Format.table,
) -> None:
    """Say how many ingested events are new since the last run that trained here, and whether they are enough.

    It is for this platform's own people: an exact count, which no server is sent. Exit code 0: so many or more; 1: fewer;
    2: no sources are set; 4: store or mark cannot be read.
    """
    new = fresh_events(ClientFolder(folder).site())
    enough = new.events >= at_least
    if format is Format.json:
        write_json({**asdict(new), "at_least": at_least, "enough": enough})
    else:
        write_lines([f"{new.line()}; {'enough' if enough else 'too few'} for a run (at least {at_least:,})"])
    raise typer.Exit(0 if enough else 1)


@data_commands.command()
def erase(
    shopper: Annotated[str, typer.Argument(metavar="SHOPPER", help="The shopper's id, as the data has it.")],
    folder: FolderOption = Path(),
    session: Annotated[
        list[str] | None,
        typer.Option(help="An anonymous session that is known to be theirs; may be repeated."),
    ] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Keep the ids out of later ingests also where none is known.")
    ] = False,
    format: FormatOption = Format.table,
) -> None:
    """Erase a shopper: from the event store and the feedback store, and keep them out of later ingests.

    Exit code 0: no row of theirs is left; 2: the shopper, or a session, is not known, and nothing was changed; 4: a store
    cannot be written; run it again.
    Your own database is yours to erase from. Models that are already released stay: docs/data.md.
    """
    erased = erase_shopper(ClientFolder(folder), shopper, session or [], anyway=anyway)
    if format is Format.json:
        write_json(asdict(erased))
        return
    lines = [
        f"erased {erased.events:,} events and {erased.feedback:,} rows of feedback; later ingests keep the shopper out"
    ]
    if erased.students:
        lines.append(
            "students held what shoppers did and were deleted: make one anew with fedcart client distill"
        )
    if erased.files is not None:
        lines.append(f"still in {erased.files}, which is read as it is: delete the shopper's rows there, too")
    write_lines(lines)


@data_commands.command()
def report(
    folder: FolderOption = Path(),
    by: Annotated[Period, typer.Option(help="How time is cut.")] = Period.all,
    format: FormatOption = Format.table,
) -> None:
    """Show how lists did, by model version and arm: click-through, conversion, coverage, diversity, novelty.

    With 95 % intervals over shoppers. It is for this platform alone. Exit code 0: done, also with no feedback yet; 2:
    data or a setting cannot be used; 4: a store cannot be read.
    """
    site = ClientFolder(folder).site()
    store = FeedbackStore(site.feedback)
    try:
        found = feedback_report(store, read_data(site), by)
    finally:
        store.close()
    if format is Format.json:
        write_json(found.to_dict())
        return
    if not found.groups:
        write_lines(["No list was recorded yet."])
        return
    columns = ["period", "model", "arm", "lists", "shoppers", "coverage", *METRICS]
    rows = [
        [g.period, g.model_version, g.arm, f"{g.lists:,}", f"{g.shoppers:,}", f"{g.coverage:.1%}"]
        + [_interval(g.metrics[name]) for name in METRICS]
        for g in found.groups
    ]
    write_table(f"{site.name}: lists that were shown", columns, rows)
    for difference in found.differences:
        told = [f"{name} {_interval(estimate)}" for name, estimate in difference.metrics.items()]
        write_lines([f"arm {difference.arm} − {difference.against}: {', '.join(told)}"])
    for p in found.preferences:
        won = f"{p.arm} won − {p.against} won: {_interval(p.wins)}"
        write_lines([f"of {p.lists:,} lists that both made ({p.model_version[:16]}), {won}"])


def _interval(estimate: Estimate) -> str:
    return f"{number(estimate.value)} ({number(estimate.low)} to {number(estimate.high)})"


def _ingest(
    store: EventStore, site: SiteSettings, catalogue: Catalogue | None, *, full: bool, anew: bool
) -> Ingested:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), TextColumn("{task.fields[rows]} rows"), TimeElapsedColumn())
    bar = Progress(*columns, console=console, disable=not console.is_terminal)
    tasks: dict[str, TaskID] = {}

    def show(source: str, read: int) -> None:
        if source not in tasks:
            tasks[source] = bar.add_task(source, total=None, rows="0")
        bar.update(tasks[source], rows=f"{read:,}")

    with bar if console.is_terminal else nullcontext():
        return ingest(
            store,
            site.sources,
            site.catalogue,
            now=time.time(),
            full=full,
            anew=anew,
            listed=None if catalogue is None else catalogue.listed,
            progress=show,
        )
