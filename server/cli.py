"""The commands of `fedcart server`. Exit codes are those of the front door (`fedcart.py`)."""

from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from federation.auditlog_page import HeadOption, VerifyOption, show_log
from federation.bundle import build_bundle, digest
from federation.checkup import exit_code, report_document, report_lines
from federation.confirm import confirmed_fingerprint
from federation.files import create, read_material
from federation.keys import fingerprint, spoken
from federation.metrics import serving
from federation.request import Request, read_request
from federation.supervise import all_run
from federation.validity import now
from privacy.cli.output import Format, say, write_json, write_lines, write_table
from server import enrol
from server.app import MODEL
from server.doctor import examine_server
from server.errors import FederationError
from server.events import read_events
from server.folder import (
    FrontSettings,
    ModelChoice,
    OperatorSettings,
    RegistrySettings,
    RunSettings,
    ServerFolder,
    SuperLinkSettings,
)
from server.launch import execute, find_run, prepare
from server.members import Members
from server.metrics import ServerCollector
from server.nodes import list_nodes
from server.refusals import refusal_lines, refusals
from server.registry.cli import registry_commands
from server.start import start as run_server
from server.status import server_status, server_status_lines
from server.vocabulary.cli import vocabulary_commands

server = typer.Typer(name="server", no_args_is_help=True, help="Operate a federation.")
server.add_typer(registry_commands)
server.add_typer(vocabulary_commands)

FolderOption = Annotated[
    Path,
    typer.Option(envvar="FEDCART_SERVER", help="The federation's folder; the current one where left out."),
]
FormatOption = Annotated[Format, typer.Option(help="What is printed on standard output.")]
_MODEL, _SUPERLINK, _REGISTRY, _FRONT = (
    ModelChoice(),
    SuperLinkSettings(),
    RegistrySettings(),
    FrontSettings(),
)
_BAD_OPTIONS = "--resume continues a run as it was prepared; it takes no other settings."


@server.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder for the federation.")],
    name: Annotated[str, typer.Option(help="The federation's name.")],
    address: Annotated[str, typer.Option(help="Where platforms reach the server: host:port.")],
    encoder: Annotated[list[str] | None, typer.Option(help="Text encoder; repeat for several.")] = None,
    history_length: Annotated[
        int, typer.Option(help="Events of a shopper that count.")
    ] = _MODEL.history_length,
    listen: Annotated[
        str, typer.Option(help="Address of the interface on which platforms come in; 0.0.0.0 for all.")
    ] = _FRONT.host,
    superlink_port: Annotated[int, typer.Option(help="Port of SuperLink on this machine.")] = _SUPERLINK.port,
    registry_port: Annotated[int, typer.Option(help="Port of the registry of models.")] = _REGISTRY.port,
    format: FormatOption = Format.table,
) -> None:
    """Make a federation: its settings, keys, certificate authority, registry and Flower's database."""
    try:
        settings = OperatorSettings(
            name=name,
            address=address,
            model=ModelChoice(encoders=encoder or _MODEL.encoders, history_length=history_length),
            superlink=SuperLinkSettings(port=superlink_port, health_port=superlink_port + 1),
            front=FrontSettings(host=listen),
            registry=RegistrySettings(host=listen, port=registry_port),
        )
    except ValidationError as error:
        problems = "; ".join(f"{e['loc'][-1]} = {e['input']!r}: {e['msg']}" for e in error.errors())
        raise FederationError(f"The federation's settings cannot be used: {problems}.") from None
    made = enrol.init_folder(folder, settings, now())
    card = enrol.card_of(made)
    if format is Format.json:
        write_json(
            {
                "folder": str(made.path),
                "card": card.model_dump(),
                "fingerprint": fingerprint(card.signing_key),
            }
        )
        return
    write_lines([f"made {made.path}", *(f"  {line}" for line in card.lines())])
    write_lines(["Read the FINGERPRINT out to every platform, by another way than you send its kit."])


@server.command()
def admit(
    request: Annotated[Path, typer.Argument(metavar="REQUEST", help="The request that a platform sent.")],
    folder: FolderOption = Path(),
    fingerprint_given: Annotated[
        str | None,
        typer.Option("--fingerprint", help="The platform's fingerprint, from its people by another way."),
    ] = None,
    new_ledger: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help="Accept a ledger that does not continue the member's last one, and say so on every card from now on.",
        ),
    ] = None,
    format: FormatOption = Format.table,
) -> None:
    """Check a platform's request, register its keys and write its kit; nobody else is touched."""
    place, data, time = ServerFolder(folder), read_material(request), now()
    asked = read_request(data, str(request), place.settings().name, time).request
    if format is Format.table:
        write_lines(_describe(asked))
    confirmed = fingerprint_given
    if confirmed is None and asked.kind == "join":
        confirmed = confirmed_fingerprint(None, fingerprint(asked.identity_key), f"platform {asked.platform}")
    facts = {"platform": asked.platform, "kind": asked.kind, "request": sha256(data).hexdigest()}
    if new_ledger is not None:
        facts |= {"new_ledger": new_ledger, "ledger_key": asked.head.public_key}
    with place.log().act("admit", **facts):
        admission = enrol.admit(place, request, data, confirmed, time, new_ledger)
    if format is Format.json:
        write_json(
            {"member": asdict(admission.member), "rotated": admission.rotated, "kit": str(admission.kit)}
        )
        return
    done = "has new keys; the old ones are refused from now on" if admission.rotated else "is admitted"
    write_lines([f"{admission.member.name} {done}. Send it {admission.kit}"])
    if new_ledger is not None:
        write_lines(
            ["It begins a new ledger: what it spent before is in no ε from now on, and every card says so."]
        )


def _describe(request: Request) -> list[str]:
    return [
        f"request to {request.kind}, of {request.issued}",
        f"  platform         {request.platform}, {request.population_size} shoppers declared",
        f"  contact          {request.contact or '(none)'}",
        f"  ledger           population {request.head.population}, entry {request.head.seq}, key "
        f"{request.head.public_key[:16]}…",
        f"  fingerprint      {spoken(fingerprint(request.identity_key))}",
        f"  versions         fedcart {request.fedcart}, flwr {request.flower}",
    ]


@server.command()
def kit(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A member.")],
    folder: FolderOption = Path(),
    format: FormatOption = Format.table,
) -> None:
    """Write a new kit for a member, with the address, certificates and model as they are now."""
    place = ServerFolder(folder)
    with place.log().act("kit", platform=name) as facts:
        file = enrol.new_kit(place, name, now())
        facts["kit"] = file.name
    if format is Format.json:
        write_json({"member": name, "kit": str(file)})
        return
    write_lines([f"Send {name} {file}"])


@server.command()
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A member.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the registry.")],
    folder: FolderOption = Path(),
    format: FormatOption = Format.table,
) -> None:
    """End a membership at once; nobody else is touched."""
    place = ServerFolder(folder)
    with place.log().act("revoke", platform=name, reason=reason):
        member = enrol.revoke(place, name, reason, now())
    if format is Format.json:
        write_json({"member": asdict(member)})
        return
    write_lines([f"{name} is revoked: its node is refused from its next message on."])


@server.command()
def members(folder: FolderOption = Path(), format: FormatOption = Format.table) -> None:
    """List the members, those that were revoked, and what Flower knows of their nodes."""
    place = ServerFolder(folder)
    place.settings()
    nodes = {node.name: node.status for node in list_nodes(place.database)}
    rows = [(member, nodes.get(member.name, "–")) for member in Members.open(place.members_file).all()]
    if format is Format.json:
        write_json({"members": [asdict(member) | {"node": node} for member, node in rows]})
        return
    write_table(
        "Members",
        ("name", "state", "since", "shoppers", "node", "contact"),
        [(m.name, m.state, m.since, str(m.population_size), node, m.contact) for m, node in rows],
    )


@server.command()
def renew(folder: FolderOption = Path(), format: FormatOption = Format.table) -> None:
    """Give the server a new key and certificate; members need nothing, and the server is restarted to use it."""
    place = ServerFolder(folder)
    with place.log().act("renew") as facts:
        record = enrol.renew_certificate(place, now())
        facts["certificate"] = record.server
    if format is Format.json:
        write_json({"certificate": str(place.server_certificate(record.server))})
        return
    write_lines([f"made {place.server_certificate(record.server)}. Restart the server to use it."])


@server.command()
def rotate_authority(
    folder: FolderOption = Path(),
    finish: Annotated[
        bool, typer.Option("--finish", help="Every member has its new kit: end the old one.")
    ] = False,
    format: FormatOption = Format.table,
) -> None:
    """Exchange the certificate authority, in two steps so that no member is cut off."""
    place = ServerFolder(folder)
    with place.log().act("rotate-authority", step="finish" if finish else "start"):
        kits = [] if finish else [str(file) for file in enrol.start_authority(place, now())]
        if finish:
            enrol.finish_authority(place, now())
    if format is Format.json:
        write_json({"finished": finish, "kits": kits})
        return
    if finish:
        write_lines(["The old authority is no longer trusted. Restart the server."])
        return
    write_lines(["Both authorities are trusted. Send every member its kit:", *(f"  {file}" for file in kits)])
    write_lines(["When all have installed them: fedcart server rotate-authority --finish"])


@server.command()
def bundle(
    out: Annotated[Path, typer.Option(help="Folder for the bundle.")] = Path(),
    format: FormatOption = Format.table,
) -> None:
    """Write the app bundle of the installed code, for the platforms to approve; the same code gives the same bytes."""
    name, data = build_bundle()
    file = out / name
    if not (file.exists() and file.read_bytes() == data):
        create(file, data)
    if format is Format.json:
        write_json({"bundle": str(file), "sha256": digest(data)})
        return
    write_lines(
        [
            f"wrote {file}",
            f"SHA-256 {digest(data)}",
            "Send it to every member: fedcart client approve BUNDLE. Those with the same version find nothing new in it.",
        ]
    )


@server.command()
def doctor(
    folder: FolderOption = Path(),
    repair: Annotated[
        bool, typer.Option("--repair", help="First make Flower's nodes agree with the registry.")
    ] = False,
    format: FormatOption = Format.table,
) -> None:
    """Check whether this federation is ready: each line has passed, or names a problem and its fix.

    Exit code 0: all passed; 1: a problem; 4: something cannot be read or written.
    """
    findings = examine_server(ServerFolder(folder), now(), repair=repair)
    if format is Format.json:
        write_json(report_document(findings))
    else:
        write_lines(report_lines(findings))
    raise typer.Exit(exit_code(findings))


@server.command()
def log(
    folder: FolderOption = Path(),
    verify: VerifyOption = False,
    head: HeadOption = None,
    format: FormatOption = Format.table,
) -> None:
    """Show who did what with this federation, or check that the record is whole (exit code 3 if it is not)."""
    ServerFolder(folder).log()
    show_log(folder, verify=verify, head=head, format=format)


@server.command()
def start(folder: FolderOption = Path()) -> None:
    """Run the server until SIGTERM or Ctrl-C: SuperLink, what executes its apps, the front and the registry of models.

    What ends is started again.
    Log lines (JSON) go to standard error. Exit code 0: it was told to stop.
    """
    place = ServerFolder(folder)
    with place.log().act("start"), serving(place.settings().metrics.address, ServerCollector(place)):
        run_server(place)


@server.command()
def run(
    folder: FolderOption = Path(),
    epsilon: Annotated[float | None, typer.Option(help="ε of the whole run for each member.")] = None,
    min_members: Annotated[int | None, typer.Option(min=1, help="Good replies that a round needs.")] = None,
    round_timeout: Annotated[
        float | None, typer.Option(min=1, help="Seconds for a round's replies; derived from sizes.")
    ] = None,
    resume: Annotated[str | None, typer.Option(help="Go on with this run: its name or folder.")] = None,
    format: FormatOption = Format.table,
) -> None:
    """Train with the members: submit a run, follow it, and end when its model is written.

    Exit code 0: the model is written. Else what went wrong, as the front door's table says; 130: no longer followed.
    """
    place = ServerFolder(folder)
    settings = place.settings()
    if resume is None:
        given = {"epsilon": epsilon, "min_members": min_members}
        wanted = settings.run.model_dump() | {key: value for key, value in given.items() if value is not None}
        try:
            chosen = RunSettings.model_validate(wanted)
        except ValidationError as error:
            problems = "; ".join(f"{e['loc'][-1]} = {e['input']!r}: {e['msg']}" for e in error.errors())
            raise FederationError(f"The run's settings cannot be used: {problems}.") from None
        run_folder = prepare(place, chosen, round_timeout)
    elif any(option is not None for option in (epsilon, min_members, round_timeout)):
        raise FederationError(_BAD_OPTIONS)
    else:
        run_folder = find_run(place, resume)
    say(f"run {run_folder.name}")
    try:
        with place.log().act("run", run=run_folder.name, resumed=int(resume is not None)):
            execute(place, run_folder, say)
    except KeyboardInterrupt:
        say(f"no longer followed; the server goes on with it: fedcart server run --resume {run_folder.name}")
        raise
    model, refused = run_folder / MODEL, refusals(read_events(run_folder))
    if format is Format.json:
        write_json({"run": run_folder.name, "model": str(model), "refused": refused})
        return
    write_lines([f"wrote {model}", *refusal_lines(refused)])


@server.command()
def status(folder: FolderOption = Path(), format: FormatOption = Format.table) -> None:
    """Show the server's processes, the members' nodes and budgets, and how far the runs are.

    Exit code 0: all processes run; 1: they do not.
    """
    found = server_status(ServerFolder(folder))
    if format is Format.json:
        write_json(found)
    else:
        write_lines(server_status_lines(found))
    raise typer.Exit(0 if all_run(found) else 1)
