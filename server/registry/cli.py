"""`fedcart server publish`, `models`, `rollback` and `registry`. Exit codes are those of `fedcart.py`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from federation.registry.page import card_lines
from federation.validity import now
from privacy.cli.output import Format, number, say, write_json, write_lines, write_table
from server.folder import ServerFolder
from server.launch import find_run
from server.registry.run import read_run
from server.registry.store import ModelStore, Published
from server.vocabulary.store import take_over

registry_commands = typer.Typer()

FolderOption = Annotated[
    Path,
    typer.Option(envvar="FEDCART_SERVER", help="The federation's folder; the current one where left out."),
]
FormatOption = Annotated[Format, typer.Option(help="What is printed on standard output.")]


@registry_commands.command()
def publish(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A finished run: its name or its folder.")],
    folder: FolderOption = Path(),
    with_evaluation: Annotated[
        bool,
        typer.Option(
            "--with-evaluation", help="Show a simulation's metrics, measured without noise: then NOT private."
        ),
    ] = False,
    format: FormatOption = Format.table,
) -> None:
    """Publish a run's model as the next version, with a signed card, and make it current.

    The run must be over one of the federation's vocabularies. Where it has none yet, a simulation's becomes version 1.
    """
    place, time = ServerFolder(folder), now()
    run_folder = find_run(place, run)
    made = read_run(run_folder, with_evaluation=with_evaluation)
    with place.log().act("publish", run=run) as facts:
        store = ModelStore.open(place)
        store.require_terms(made.terms)
        vocabulary = take_over(place, run_folder, made.vocabulary, time)
        if vocabulary is not None:
            facts["vocabulary"] = vocabulary.record.number
            say(f"the run's vocabulary is the federation's version 1: {vocabulary.record_file}")
        published = store.publish(made, time)
        facts["number"], facts["version"] = published.card.number, published.version
    if format is Format.json:
        write_json(_document(published))
        return
    write_lines(
        [f"published version {published.card.number}", *card_lines(published.card, published.version)]
    )


@registry_commands.command("models")
def list_models(folder: FolderOption = Path(), format: FormatOption = Format.table) -> None:
    """List the published versions, each checked: card, chain and file."""
    store = ModelStore.open(ServerFolder(folder))
    found, listing = store.all(), store.listing()
    current = listing.current if listing else None
    if format is Format.json:
        write_json({"current": current, "models": [_document(published) for published in found]})
        return
    write_table(
        "Models",
        ("version", "name", "published", "run", "members", "private", "ε", ""),
        [
            (
                str(p.card.number),
                p.version[:16],
                p.card.published,
                p.card.run.id,
                str(len(p.card.members)),
                "yes" if p.card.private else "NO",
                number(p.card.epsilon),
                "current" if p.version == current else "",
            )
            for p in found
        ],
    )


@registry_commands.command()
def rollback(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Its number, or its name.")],
    reason: Annotated[str, typer.Option(help="Why; every platform is shown it.")] = "",
    folder: FolderOption = Path(),
    format: FormatOption = Format.table,
) -> None:
    """Make a published version the current one; nothing is removed."""
    place = ServerFolder(folder)
    with place.log().act("rollback", version=version, reason=reason):
        listing = ModelStore.open(place).make_current(version, reason, now())
    chosen = listing.number(listing.current)
    if format is Format.json:
        write_json({"current": listing.current, "number": chosen, "serial": listing.serial})
        return
    write_lines(
        [
            f"version {chosen} is current. Platforms with a newer one are told, and keep theirs until they say "
            "--allow-older."
        ]
    )


@registry_commands.command()
def registry(
    folder: FolderOption = Path(),
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; [registry] host where left out.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port; [registry] port where left out.")] = None,
) -> None:
    """Serve the published versions to members over gRPC, until SIGTERM or Ctrl-C."""
    from server.registry.serve import run_registry

    place = ServerFolder(folder)
    settings = place.settings().registry
    changes = {key: value for key, value in (("host", host), ("port", port)) if value is not None}

    def ready(address: str) -> None:
        say(f"serving the models of {place.settings().name} on {address}")

    run_registry(place, settings.model_copy(update=changes), ready)


def _document(published: Published) -> dict[str, Any]:
    return {
        "version": published.version,
        "private": published.card.private,
        "card": published.card.model_dump(),
    }
