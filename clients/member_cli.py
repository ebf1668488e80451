"""The commands of `fedcart client` by which a platform is a member. Exit codes are those of the front door."""

from pathlib import Path
from typing import Annotated

import typer

from clients.doctor import Target, examine_client
from clients.enrol import init_folder, install_kit, write_request
from clients.errors import PolicyError
from clients.folder import ClientFolder
from clients.metrics import ClientCollector
from clients.own_ledger import open_ledger
from clients.policy import approve as approve_bundle
from clients.start import start as run_client
from clients.status import client_status, client_status_lines
from clients.template import SiteAnswers
from clients.vocabulary import approve_vocabulary
from federation.auditlog_page import HeadOption, VerifyOption, show_log
from federation.bundle import CLIENT_PACKAGES, digest, installed_code
from federation.checkup import exit_code, report_document, report_lines
from federation.confirm import confirmed_fingerprint
from federation.files import read_material
from federation.keys import fingerprint, spoken
from federation.kit import read_kit
from federation.metrics import serving
from federation.supervise import all_run
from federation.validity import now
from privacy.cli.output import Format, write_json, write_lines

member_commands = typer.Typer()

FolderOption = Annotated[
    Path, typer.Option(envvar="FEDCART_CLIENT", help="The platform's folder; the current one where left out.")
]
FormatOption = Annotated[Format, typer.Option(help="What is printed on standard output.")]


@member_commands.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder for this platform.")],
    name: Annotated[str, typer.Option(help="The platform's name in the federation.")],
    federation: Annotated[str, typer.Option(help="The federation's name, as its operator gave it.")],
    events: Annotated[Path, typer.Option(help="Interactions: a CSV or Parquet file, or a folder of them.")],
    items: Annotated[Path, typer.Option(help="The catalogue: a CSV or Parquet file, or a folder of them.")],
    population_size: Annotated[int, typer.Option(help="Declared, public, rounded number of shoppers.")],
    epsilon_cap: Annotated[float, typer.Option(help="The most ε that may ever be spent per shopper.")],
    delta: Annotated[float, typer.Option(help="δ; below one over the number of shoppers.")] = 1e-6,
    ledger: Annotated[
        str | None,
        typer.Option(
            help="The ledger of these shoppers, if they have one already; or the URL of a database to make it in."
        ),
    ] = None,
    ledger_key: Annotated[
        Path | None,
        typer.Option(help="The key file of the ledger that they have, where it is in a database."),
    ] = None,
    population: Annotated[str | None, typer.Option(help="The name of that ledger's population.")] = None,
    format: FormatOption = Format.table,
) -> None:
    """Make this platform's folder: settings, keys that never leave it, and the ledger."""
    answers = SiteAnswers(
        name=name,
        federation=federation,
        events=events.resolve(),
        items=items.resolve(),
        population_size=population_size,
        epsilon_cap=epsilon_cap,
        delta=delta,
        ledger=str(Path(ledger).resolve()) if ledger is not None and "://" not in ledger else ledger,
        ledger_key=None if ledger_key is None else str(ledger_key.resolve()),
        population=population,
    )
    made = init_folder(folder, answers)
    if format is Format.json:
        write_json({"folder": str(made.path), "settings": str(made.site_file)})
        return
    write_lines(
        [
            f"made {made.path}",
            f"1. Read {made.site_file}: it is yours from now on. Name your files' columns there.",
            f"2. fedcart client request --folder {made.path}",
        ]
    )


@member_commands.command()
def request(
    folder: FolderOption = Path(),
    contact: Annotated[str, typer.Option(help="Whom the operator may call; public.")] = "",
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Exchange this member's keys for new ones.")
    ] = False,
    rejoin: Annotated[
        bool, typer.Option("--rejoin", help="Come back, with new keys, after being revoked.")
    ] = False,
    format: FormatOption = Format.table,
) -> None:
    """Write a signed request for the federation's operator."""
    place, kind = ClientFolder(folder), "rotate" if rotate else "rejoin" if rejoin else "join"
    with place.log().act("request", kind=kind) as facts:
        sent = write_request(place, now(), contact=contact, rotate=rotate, rejoin=rejoin)
        facts["request"] = sent.file.name
    if format is Format.json:
        write_json({"request": str(sent.file), "fingerprint": sent.fingerprint})
        return
    compare = [
        "Tell the operator its fingerprint by another way than the file (telephone, in person):",
        f"  {spoken(sent.fingerprint)}",
    ]
    write_lines(
        [
            f"wrote {sent.file}",
            "Send this file to the federation's operator; it holds no secret and is good for 7 days.",
            *(
                ["It is signed with the key in force, so nothing needs to be compared."]
                if rotate
                else compare
            ),
        ]
    )


@member_commands.command()
def join(
    kit: Annotated[Path, typer.Argument(metavar="KIT", help="The kit that the operator sent.")],
    folder: FolderOption = Path(),
    fingerprint_given: Annotated[
        str | None,
        typer.Option("--fingerprint", help="The federation's fingerprint, from the operator by another way."),
    ] = None,
    format: FormatOption = Format.table,
) -> None:
    """Check the operator's kit and install it; the same for a newer kit of the same federation."""
    place, data = ClientFolder(folder), read_material(kit)
    confirmed = fingerprint_given
    if confirmed is None and place.current() is None:
        card = read_kit(data, str(kit)).card
        confirmed = confirmed_fingerprint(
            None, fingerprint(card.signing_key), f"federation {card.federation}"
        )
    with place.log().act("join", kit=kit.name) as facts:
        installed = install_kit(place, kit, data, confirmed, now())
        facts["number"], facts["federation"] = installed.number, installed.card.federation
    if format is Format.json:
        write_json({"kit": installed.number, "card": installed.card.model_dump()})
        return
    write_lines(
        [
            f"{installed.platform} is a member of {installed.card.federation}; kit {installed.number} is in force.",
            *(f"  {line}" for line in installed.card.lines()),
        ]
    )


@member_commands.command()
def approve(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="The app bundle (.fab) that the operator sent.")
    ],
    folder: FolderOption = Path(),
    format: FormatOption = Format.table,
) -> None:
    """Take part in the runs of an app bundle whose client side is the code that is installed here."""
    place, data = ClientFolder(folder), read_material(bundle, limit=50_000_000)
    place.site()
    with place.log().act("approve", bundle=digest(data)):
        new = approve_bundle(place.approvals, data, installed_code(CLIENT_PACKAGES), now())
    if format is Format.json:
        write_json({"bundle": digest(data), "new": new})
        return
    write_lines(
        [
            f"bundle {digest(data)} {'is approved' if new else 'was approved before'}.",
            "Its client side is byte for byte the code that is installed here, which is what runs.",
        ]
    )


@member_commands.command()
def cap(
    epsilon: Annotated[float, typer.Argument(metavar="EPSILON", help="The new cap of the ledger.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the ledger.")],
    folder: FolderOption = Path(),
    format: FormatOption = Format.table,
) -> None:
    """Change the most that may ever be spent; to raise it, client.toml must allow it first."""
    place = ClientFolder(folder)
    site = place.site()
    if not epsilon <= site.epsilon_cap:
        raise PolicyError(
            f"epsilon_cap in client.toml is {site.epsilon_cap:g}: whoever answers for the shoppers' privacy raises "
            f"it there first, then {epsilon:g} can be put into the ledger."
        )
    ledger = open_ledger(site)
    with place.log().act("cap", epsilon=epsilon, reason=reason):
        ledger.change_cap(epsilon, reason)
    budget = ledger.budget()
    if format is Format.json:
        write_json({"population": budget.population, "cap": budget.cap, "committed": budget.committed})
        return
    write_lines([f"{budget.population}: ε {budget.committed:.3f} of {budget.cap:g} is spent or reserved."])


@member_commands.command()
def vocabulary(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The signed record, its vocabulary beside it.")
    ],
    folder: FolderOption = Path(),
    format: FormatOption = Format.table,
) -> None:
    """Approve a version of the federation's vocabulary: the products that this platform's sums are over."""
    place = ClientFolder(folder)
    with place.log().act("vocabulary") as facts:
        approved = approve_vocabulary(place, file)
        facts["number"], facts["digest"] = approved.record.number, approved.record.digest
    if format is Format.json:
        write_json(approved.record.model_dump() | {"new": approved.new})
        return
    record = approved.record
    write_lines(
        [
            f"approved version {record.number}: {record.products:,} products, {record.edges:,} edges"
            if approved.new
            else f"version {record.number} was approved before; nothing was changed",
            f"digest {record.digest}",
        ]
    )


@member_commands.command()
def doctor(
    folder: FolderOption = Path(),
    epsilon: Annotated[
        float | None, typer.Option(help="ε of the run to be ready for; the policy's limit where left out.")
    ] = None,
    format: FormatOption = Format.table,
) -> None:
    """Check whether this platform is ready: each line has passed, or names a problem and its fix.

    Exit code 0: all passed; 1: a problem; 4: something cannot be read or written.
    """
    findings = examine_client(ClientFolder(folder), Target(epsilon), now())
    if format is Format.json:
        write_json(report_document(findings))
    else:
        write_lines(report_lines(findings))
    raise typer.Exit(exit_code(findings))


@member_commands.command()
def log(
    folder: FolderOption = Path(),
    verify: VerifyOption = False,
    head: HeadOption = None,
    format: FormatOption = Format.table,
) -> None:
    """Show who did what on this platform, or check that the record is whole (exit code 3 if it is not)."""
    ClientFolder(folder).log()
    show_log(folder, verify=verify, head=head, format=format)


@member_commands.command()
def start(folder: FolderOption = Path()) -> None:
    """Take part until SIGTERM or Ctrl-C: a node and its worker, started again when they end.

    Log lines (JSON, no values of the data) go to standard error. Exit code 0: it was told to stop.
    """
    place = ClientFolder(folder)
    with place.log().act("start"), serving(place.site().metrics.address, ClientCollector(place)):
        run_client(place)


@member_commands.command()
def status(folder: FolderOption = Path(), format: FormatOption = Format.table) -> None:
    """Show this platform's processes, its last round, and what is left of its budget.

    Exit code 0: all processes run; 1: they do not.
    """
    found = client_status(ClientFolder(folder))
    if format is Format.json:
        write_json(found)
    else:
        write_lines(client_status_lines(found))
    raise typer.Exit(0 if all_run(found) else 1)
