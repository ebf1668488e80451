"""The commands of `fedcart audit`. Exit codes are those of the front door (``fedcart.py``)."""

import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from privacy.accounting import check_delta, tally
from privacy.cli.check import (
    TAMPERED,
    UNREADABLE,
    damaged,
    fingerprint,
    read_public_key,
    unreadable,
    verdict_lines,
)
from privacy.cli.check import verify_place as check_place
from privacy.cli.cross import complaints, cross_cell
from privacy.cli.history import budget_document, committed
from privacy.cli.locate import one_place, places
from privacy.cli.output import Format, number, plain, warn, write_json, write_lines, write_table
from privacy.cli.page import NEIGHBOURS, NOT_COVERED, TRUST, UNIT, sections, to_markdown, to_text
from privacy.cli.price import beyond_rows, ledger_line, plan_rows, planned_event, price
from privacy.cli.seen import own_witness, read_witness
from privacy.errors import BudgetRefusedError, LedgerUnreadableError, PlanError
from privacy.explain import Meaning, meaning_of_events, meaning_of_guarantee
from privacy.plot import plot_budgets

audit = typer.Typer(
    name="audit",
    no_args_is_help=True,
    help="See, plan, verify and explain what was spent of a population's privacy budget.",
)

LedgerArgument = Annotated[
    str, typer.Argument(metavar="LEDGER", help="SQLite file, database URL, or the folder of a run.")
]
PopulationOption = Annotated[
    str | None, typer.Option(help="Whose ledger; found by itself where there is only one.")
]
FormatOption = Annotated[Format, typer.Option(help="What is printed on standard output.")]
QuickOption = Annotated[
    bool, typer.Option("--quick", help="Leave out other accountants' ε, which takes a few seconds.")
]
DEFAULT_DELTA = 1e-6


class PageFormat(StrEnum):
    """How a page is printed."""

    text = "text"
    markdown = "markdown"
    json = "json"


@audit.command()
def budget(
    ledger: LedgerArgument,
    population: PopulationOption = None,
    format: FormatOption = Format.table,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Also draw ε over rounds.")] = None,
    groups: Annotated[
        bool, typer.Option("--groups", help="Also show ε of groups and of an exchange, and δ at other ε.")
    ] = False,
    quick: QuickOption = False,
) -> None:
    """Show what is spent, reserved and left, each run's share, and what other accountants say."""
    documents = [
        budget_document(place.open(), place.name, quick=quick, groups=groups)
        for place in places(ledger, population)
    ]
    for document in documents:
        for complaint in complaints(document["cross_checks"]):
            warn(f"{document['population']}: {complaint}")
    if plot is not None:
        plot_budgets(documents, plot)
    if format is Format.json:
        write_json({"budgets": documents})
        return
    write_table(
        "Privacy budgets (ε)",
        ("population", "spent", "reserved", "left", "cap", "δ", "entries", "refused"),
        [
            (
                d["population"],
                *(number(d[name]) for name in ("spent", "reserved", "left", "cap")),
                f"{d['delta']:g}",
                str(d["entries"]),
                str(d["refused"]),
            )
            for d in documents
        ],
    )
    write_table(
        "Runs",
        ("population", "run", "reservations", "open", "steps", "ε alone", "ε reached"),
        [
            (
                d["population"],
                run["run"],
                *(str(run[name]) for name in ("reservations", "open", "steps")),
                number(run["epsilon_alone"]),
                number(run["epsilon_reached"]),
            )
            for d in documents
            for run in d["runs"]
        ],
    )
    if not quick:
        write_table(
            "Other accountants' ε of what is spent and reserved",
            ("population", "of record", *(check["name"] for check in documents[0]["cross_checks"])),
            [
                (d["population"], number(d["committed"], 4), *(cross_cell(c) for c in d["cross_checks"]))
                for d in documents
            ],
        )
    if groups:
        columns = [beyond_rows(document) for document in documents]
        write_table(
            "What is spent and reserved, for more than one shopper and at other ε",
            ("", *(document["population"] for document in documents)),
            [(rows[0][0], *(value for _, value in rows)) for rows in zip(*columns, strict=True)],
        )
    if plot is not None:
        warn(f"plot written to {plot}")


@audit.command()
def verify(
    ledger: LedgerArgument,
    population: PopulationOption = None,
    witness: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|RUN",
            help="Heads that someone else kept: of `audit head`, or what a run's server kept. "
            "A run's folder is compared with its own where this is left out.",
        ),
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The platform's public key (PEM or hex), not the ledger's."),
    ] = None,
    quick: QuickOption = False,
    format: FormatOption = Format.table,
) -> None:
    """Check chain, signatures, clock, recomputed ε and witness; needs no private key.

    Exit code 0: whole; 3: tampered with, or not this population's; 4: unreadable. Another accountant's
    disagreement about ε is a warning.
    """
    key = read_public_key(public_key) if public_key is not None else None
    seen = read_witness(witness) if witness is not None else own_witness(ledger)
    faults: list[LedgerUnreadableError] = []
    found = places(ledger, population, faults)
    if witness is not None:
        seen.require_one_of(found, faults)
    elif not faults:  # else one of those may be the missing one
        faults += seen.without_ledger(found, population)
    documents = [damaged(seen.where, seen.faults)] if seen.faults else []
    documents += [unreadable(fault) for fault in faults]
    alone = len(found) + len(faults) == 1
    documents += [
        check_place(place, key, seen.of(place.population, alone=alone), quick=quick) for place in found
    ]
    if format is Format.json:
        write_json({"ledgers": documents})
    else:
        write_lines([line for document in documents for line in verdict_lines(document)])
    codes = {document["exit_code"] for document in documents}
    raise typer.Exit(TAMPERED if TAMPERED in codes else UNREADABLE if UNREADABLE in codes else 0)


@audit.command()
def head(
    ledger: LedgerArgument,
    population: PopulationOption = None,
    format: FormatOption = Format.json,
) -> None:
    """Print the signed head, for a witness to keep."""
    last = one_place(ledger, population).open().head()
    if format is Format.json:
        write_json(last.to_json())
        return
    write_lines(
        [
            f"population {last.population}, entry {last.seq}, hash {last.hash}",
            f"signature {last.signature}",
            f"key {last.public_key}, fingerprint {fingerprint(last.public_key)}",
        ]
    )


@audit.command()
def plan(
    sample_rate: Annotated[float, typer.Option(help="q: probability that a shopper joins one step.")],
    steps: Annotated[int, typer.Option(help="Steps of the whole run: rounds times local steps.")],
    epsilon: Annotated[float | None, typer.Option(help="ε that the run may cost.")] = None,
    noise_multiplier: Annotated[float | None, typer.Option(help="σ, in place of ε.")] = None,
    delta: Annotated[
        float | None, typer.Option(help="δ; the ledger's where one is given, else 1e-6.")
    ] = None,
    population_size: Annotated[int | None, typer.Option(help="Declared number of shoppers.")] = None,
    ledger: Annotated[
        str | None, typer.Option(metavar="LEDGER", help="Also show what the run would do to this ledger.")
    ] = None,
    population: PopulationOption = None,
    quick: QuickOption = False,
    format: FormatOption = Format.table,
) -> None:
    """Show what a run would cost, before anything is trained or reserved.

    Exit code 5: a ledger was given and would refuse the run.
    """
    views = [place.open() for place in places(ledger, population)] if ledger is not None else []
    deltas = {view.budget().delta for view in views}
    delta = delta if delta is not None else min(deltas, default=DEFAULT_DELTA)
    if deltas - {check_delta(delta)}:
        raise PlanError(
            f"delta = {delta:g}, but the ledger's is {', '.join(f'{d:g}' for d in sorted(deltas))}: a ledger's "
            "delta never changes; leave --delta out"
        )
    event = planned_event(
        target=epsilon, noise=noise_multiplier, delta=delta, sample_rate=sample_rate, steps=steps
    )
    document = price(event, delta, population_size, quick=quick)
    effects: list[dict[str, Any]] = []
    for view in views:
        preview = view.preview(event)
        effects.append({"population": view.population, **preview._asdict(), "allowed": preview.allowed})
    document["ledgers"] = effects
    if format is Format.json:
        write_json(document)
    else:
        write_table("Plan", ("", "value"), plan_rows(document))
        write_lines([ledger_line(effect) for effect in effects])
    for warning in document["warnings"]:
        warn(warning)
    if not all(effect["allowed"] for effect in effects):
        raise typer.Exit(BudgetRefusedError.exit_code)


@audit.command()
def explain(
    ledger: Annotated[
        str | None, typer.Argument(metavar="[LEDGER]", help="SQLite file, database URL, or a run's folder.")
    ] = None,
    population: PopulationOption = None,
    epsilon: Annotated[float | None, typer.Option(help="Explain this ε, without a ledger.")] = None,
    delta: Annotated[float | None, typer.Option(help="δ beside --epsilon; 1e-6 where left out.")] = None,
    format: Annotated[PageFormat, typer.Option(help="What is printed on standard output.")] = PageFormat.text,
) -> None:
    """Explain in plain words what is promised to one shopper, and what is not."""
    if ledger is not None and (epsilon is not None or delta is not None):
        raise PlanError("a ledger has its own ε and δ: leave --epsilon and --delta out")
    subjects = (
        [_of_ledger(place) for place in places(ledger, population)]
        if ledger is not None
        else [_of_numbers(epsilon, DEFAULT_DELTA if delta is None else delta)]
    )
    if format is PageFormat.json:
        write_json(
            {
                "unit": UNIT,
                "neighbours": NEIGHBOURS,
                "trust": TRUST,
                "not_covered": list(NOT_COVERED),
                "subjects": [
                    {"title": title, "source": source, "meanings": [asdict(m) for m in meanings]}
                    for title, source, meanings in subjects
                ],
            }
        )
        return
    render = to_markdown if format is PageFormat.markdown else to_text
    pages = [render(plain(title), sections(meanings, plain(source))) for title, source, meanings in subjects]
    sys.stdout.write("\n".join(pages))


def _of_ledger(place: Any) -> tuple[str, str, list[Meaning]]:
    view = place.open()
    now = view.budget()
    meanings = [
        meaning_of_events("spent until now", tally(committed(view)), now.delta),
        meaning_of_guarantee("if the whole cap is spent", now.cap, now.delta),
    ]
    source = (
        f"The ledger of population {now.population} records {now.entries} entries. Its releases, and what is set "
        f"aside for running ones, come to ε = {now.committed:.3f} of a cap of {now.cap:.3f}. The first line below "
        "is the worst case for exactly these releases, the second is what the cap alone promises."
    )
    return f"What was promised to a shopper of {now.population}", source, meanings


def _of_numbers(epsilon: float | None, delta: float) -> tuple[str, str, list[Meaning]]:
    title = "What is promised to a shopper"
    if epsilon is not None:
        return title, "The numbers are for a given ε.", [meaning_of_guarantee("given", epsilon, delta)]
    source = (
        "No ledger was given, so these are examples. With a ledger, the page is about what was really spent."
    )
    return (
        title,
        source,
        [meaning_of_guarantee(f"for ε = {e:g}", e, delta) for e in (0.5, 1.0, 2.0, 4.0, 8.0)],
    )
