"""`fedcart client adopt`, `models` and `rollback`. Exit codes are those of `fedcart.py`."""

from pathlib import Path
from typing import Annotated

import typer

from clients.adopt import Adopter, Adoption
from clients.errors import SiteError
from clients.folder import ClientFolder
from clients.models import InstalledModels
from clients.registry import RegistryClient
from clients.serving.load import verdict_of
from clients.verdict import Verdict, keep_verdict
from federation.address import split_address
from federation.errors import FolderError
from federation.registry.page import card_lines
from privacy.cli.output import Format, number, warn, write_json, write_lines, write_table
from privacy.errors import PrivacyError
from shared_model.errors import BadInputError, FedcartError

models_commands = typer.Typer()

FolderOption = Annotated[
    Path, typer.Option(envvar="FEDCART_CLIENT", help="The platform's folder; the current one where left out.")
]
FormatOption = Annotated[Format, typer.Option(help="What is printed on standard output.")]


@models_commands.command()
def adopt(
    version: Annotated[
        str | None,
        typer.Option(help="Its number, or its name; the federation's current one where left out."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="ADDRESS|FILE",
            help="A registry, or a version's folder; the card's registry else.",
        ),
    ] = None,
    folder: FolderOption = Path(),
    allow_older: Annotated[
        bool,
        typer.Option(
            "--allow-older",
            help="Take an older version, or a list that went back, after asking the operator.",
        ),
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until there is a newer version.")] = False,
    verdict: Annotated[
        bool,
        typer.Option(
            "--verdict/--no-verdict", help="Say what it brings here, on this platform's own test shoppers."
        ),
    ] = True,
    format: FormatOption = Format.table,
) -> None:
    """Fetch a published model, check it, and make it the one that this platform ranks with.

    The verdict is computed from the shoppers' data without noise: it stays on this platform.
    """
    adopter = Adopter(ClientFolder(folder), allow_older=allow_older)
    with ClientFolder(folder).log().act("adopt", allow_older=int(allow_older)) as facts:
        adoption = _adopt(adopter, version, source, wait)
        facts["number"], facts["version"] = adoption.version.card.number, adoption.version.name
    _show(adoption, _judged(ClientFolder(folder)) if verdict else None, format)


def _adopt(adopter: Adopter, version: str | None, source: str | None, wait: bool) -> Adoption:
    """Fetch, check and install what was asked for."""
    if wait and version is not None:
        raise BadInputError("--wait adopts the next version there is; leave --version out.")
    path = _file(source)
    if path is not None:
        if wait:
            raise BadInputError("--wait needs a registry, not a file.")
        return adopter.from_file(path, version)
    address = source or adopter.membership.kit.card.registry
    if address is None:
        raise SiteError(
            "The federation's card names no registry of models: give one with --from ADDRESS|FILE."
        )
    with RegistryClient(address, adopter.membership) as client:
        if wait:
            warn(f"waiting for a newer version at {address}")
            return adopter.wait(client, address)
        return adopter.from_registry(client, address, version)


def _file(source: str | None) -> Path | None:
    """Return what `--from` names if it is a file or folder; raise BadInputError if it is nothing at all."""
    if source is None:
        return None
    if Path(source).exists():
        return Path(source)
    try:
        split_address(source)
    except BadInputError:
        raise BadInputError(
            f"--from {source}: is no file or folder here, and no address either (host:port)."
        ) from None
    return None


def _judged(folder: ClientFolder) -> Verdict | None:
    """Judge what was adopted, and keep the verdict; None where the platform's data cannot be read (yet)."""
    try:
        found = verdict_of(folder)
    except (FedcartError, PrivacyError) as error:
        warn(f"what it brings here could not be judged: {error}")
        return None
    keep_verdict(folder.site(), found)
    return found


def _show(adoption: Adoption, verdict: Verdict | None, format: Format) -> None:
    new, old = adoption.version, adoption.before
    if format is Format.json:
        write_json(
            {
                "version": new.name,
                "number": new.card.number,
                "private": new.card.private,
                "before": None if old is None else old.name,
                "verdict": None if verdict is None else verdict.model_dump(),
                "card": new.card.model_dump(),
            }
        )
        return
    if old is None:
        said = "it is the first"
    elif old.name == new.name:
        said = "it was current before"
    else:
        said = f"version {old.card.number} was current before"
    write_lines([f"adopted version {new.card.number}; {said}", *card_lines(new.card, new.name)])
    if verdict is not None:
        write_lines([verdict.line()])


@models_commands.command("models")
def list_models(folder: FolderOption = Path(), format: FormatOption = Format.table) -> None:
    """List the installed versions and say which is current; exit code 4 if one was changed."""
    place = ClientFolder(folder)
    place.site()
    models = InstalledModels(place)
    current = models.record().current
    whole = [version for version in models.all() if models.has(version.name)]
    damaged = sorted(set(models.names()) - {version.name for version in whole})
    if format is Format.json:
        documents = [
            {"version": v.name, "private": v.card.private, "card": v.card.model_dump()} for v in whole
        ]
        write_json({"current": current, "models": documents, "damaged": damaged})
    else:
        rows = [
            (
                str(v.card.number),
                v.name[:16],
                v.card.published,
                v.card.run.id,
                "yes" if v.card.private else "NO",
                number(v.card.epsilon),
                "current" if v.name == current else "",
            )
            for v in whole
        ]
        write_table("Models", ("version", "name", "published", "run", "private", "ε", ""), rows)
    if damaged:
        raise FolderError(
            f"{place.path / 'models'}: {', '.join(name[:16] for name in damaged)} was changed since it was installed; "
            "adopt it again: fedcart client adopt --version."
        )


@models_commands.command()
def rollback(
    version: Annotated[
        str | None,
        typer.Argument(
            metavar="[VERSION]", help="An installed version; the one before the current where left out."
        ),
    ] = None,
    folder: FolderOption = Path(),
    format: FormatOption = Format.table,
) -> None:
    """Go back to a version that is installed."""
    place = ClientFolder(folder)
    place.site()
    with place.log().act("rollback") as facts:
        back = InstalledModels(place).rollback(version)
        facts["number"], facts["version"] = back.card.number, back.name
    if format is Format.json:
        write_json({"version": back.name, "number": back.card.number, "private": back.card.private})
        return
    write_lines([f"version {back.card.number} is current", *card_lines(back.card, back.name)])
