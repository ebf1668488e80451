"""`fedcart server vocabulary`. Exit codes are those of `fedcart.py`."""

import sys
import time as clock
from pathlib import Path
from typing import Annotated, Any

import typer

from federation.validity import now
from federation.vocabulary import VocabularyRecord
from privacy.cli.output import Format, say, write_json, write_lines
from server.errors import FederationError
from server.folder import ServerFolder
from server.vocabulary.store import Version, build, received, versions
from shared_model.vocabulary import NEIGHBOURS

vocabulary_commands = typer.Typer(
    name="vocabulary", no_args_is_help=True, help="The products that the members share."
)

FolderOption = Annotated[
    Path,
    typer.Option(envvar="FEDCART_SERVER", help="The federation's folder; the current one where left out."),
]
FormatOption = Annotated[Format, typer.Option(help="What is printed on standard output.")]


@vocabulary_commands.command("build")
def build_command(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILES", help="Catalogues that members published and sent.")
    ],
    folder: FolderOption = Path(),
    neighbours: Annotated[
        int, typer.Option(min=1, max=1000, help="Neighbours by text of each product.")
    ] = NEIGHBOURS,
    format: FormatOption = Format.table,
) -> None:
    """Make the next version of the vocabulary from members' catalogues; products of the last one stay.

    Each file's signature must be its member's. Exit code 0: done, also where nothing is new; 2: the files cannot be
    used; 4: something cannot be read or written; 5: a file is not accepted.
    """
    place, started = ServerFolder(folder), clock.monotonic()
    with place.log().act("vocabulary") as facts:
        built = build(place, received(place, files), now(), neighbours, _show)
        facts["number"], facts["digest"] = built.version.record.number, built.version.record.digest
    seconds = clock.monotonic() - started
    if format is Format.json:
        coverage = {name: {"known": known, "products": of} for name, (known, of) in built.coverage.items()}
        write_json(_document(built.version) | {"new": built.new, "coverage": coverage, "seconds": seconds})
        return
    record = built.version.record
    lines = [
        f"made version {record.number}" if built.new else f"nothing is new: version {record.number} stays"
    ]
    lines += _lines(record)
    lines += [
        f"  {name}: {known:,} of {of:,} products are in it" for name, (known, of) in built.coverage.items()
    ]
    write_lines([*lines, f"took {seconds:.1f} s; files: {built.version.record_file}, {built.version.file}"])


@vocabulary_commands.command()
def show(
    number: Annotated[int | None, typer.Argument(help="A version; the newest where left out.")] = None,
    folder: FolderOption = Path(),
    format: FormatOption = Format.table,
) -> None:
    """Show a version of the vocabulary, checked: signature, digest and file."""
    found = {version.record.number: version for version in versions(ServerFolder(folder))}
    chosen = found.get(max(found, default=0) if number is None else number)
    if chosen is None:
        there = ", ".join(map(str, found)) or "none yet: fedcart server vocabulary build FILES"
        raise FederationError(f"There is no version {number or ''} of the vocabulary; there are: {there}.")
    vocabulary = chosen.load()
    if format is Format.json:
        write_json(_document(chosen))
        return
    shown = zip(vocabulary.keys[:10], vocabulary.titles[:10], strict=True)
    write_lines(
        [
            f"version {chosen.record.number} of {chosen.record.issued}",
            *_lines(chosen.record),
            *(
                f"  {name}: published {share.products:,} products on {share.issued}"
                for name, share in chosen.record.shares.items()
            ),
            *(f"  {key}  {title}" for key, title in shown),
            *(["  …"] if len(vocabulary) > 10 else []),
        ]
    )


def _lines(record: VocabularyRecord) -> list[str]:
    return [
        f"  products         {record.products:,}",
        f"  edges            {record.edges:,}",
        f"  digest           {record.digest}",
        f"  grew from        {record.parent or '(nothing)'}",
        f"  encoders         {', '.join(map(str, record.identities))}",
    ]


def _document(version: Version) -> dict[str, Any]:
    return version.record.model_dump() | {"file": str(version.file), "record": str(version.record_file)}


def _show(what: str, done: int, of: int) -> None:
    """Show progress on a terminal, each tenth of it elsewhere."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{what} {done:,} of {of:,}" + ("\n" if done == of else ""))
    elif of > 10_000 and done * 10 // of > max(done - 1024, 0) * 10 // of:
        say(f"{what} {done:,} of {of:,}")
