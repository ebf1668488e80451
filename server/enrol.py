"""The operator's side of enrolment: make the federation, admit, hand out kits, revoke, renew certificates."""

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import tomli_w

from federation.address import split_address
from federation.auditlog import FIRST, AuditLog
from federation.certificates import make_authority, make_server_certificate
from federation.errors import EnrolmentError, FolderError, WrongPartyError
from federation.files import PRIVATE, create, make_folder, read_private
from federation.keys import fingerprint, make_signing_key, signing_text, spoken, unspoken
from federation.kit import Card, ModelTerms, make_kit
from federation.request import read_request
from federation.versions import VERSION, flower_version
from server.control_key import make_control_key
from server.errors import FederationError
from server.folder import CertificateRecord, OperatorSettings, ServerFolder
from server.members import ADMITTED, Member, Members
from server.nodes import NodeChanges, agree, make_database
from shared_model.encoders import identities_to_json
from shared_model.features import make_encoders


def init_folder(path: Path, settings: OperatorSettings, time: datetime) -> ServerFolder:
    """Make a federation's folder with keys, certificates, registry and Flower's database: all of it or nothing."""
    make_encoders(settings.model.encoders)
    host, _ = split_address(settings.address)

    def fill(new: Path) -> None:
        folder = ServerFolder(new)
        create(folder.settings_file, tomli_w.dumps(settings.model_dump(exclude_none=True)).encode())
        for name in ("keys", "authorities", "certificates"):
            (new / name).mkdir(mode=0o700)
        folder.kits.mkdir()
        folder.models.mkdir()
        folder.vocabulary.mkdir()
        make_signing_key(folder.signing_file)
        create(folder.secret, secrets.token_hex(32).encode(), PRIVATE)
        make_control_key(folder)
        _new_authority(folder, 1, settings.name, time)
        _new_server_certificate(folder, CertificateRecord(authorities=[1], issuer=1, server=1), host, time)
        Members.create(folder.members_file)
        make_database(folder.database)
        create(new / "card.txt", ("\n".join(card_of(folder).lines()) + "\n").encode())
        AuditLog(new).record(FIRST, {"federation": settings.name, "address": settings.address})

    make_folder(path, fill)
    return ServerFolder(path)


def _new_authority(folder: ServerFolder, number: int, federation: str, time: datetime) -> None:
    def fill(new: Path) -> None:
        key, certificate = make_authority(federation, time)
        create(new / "ca.key", key, PRIVATE)
        create(new / "ca.crt", certificate)

    make_folder(folder.authority(number), fill)


def _new_server_certificate(
    folder: ServerFolder, record: CertificateRecord, host: str, time: datetime
) -> None:
    """Make the certificate `record.server`, issued by `record.issuer`, and put the record in force."""
    authority = folder.authority(record.issuer)
    try:
        trusted = b"".join((folder.authority(n) / "ca.crt").read_bytes() for n in record.authorities)
        issuer = (authority / "ca.crt").read_bytes()
    except OSError as error:
        raise FolderError(f"{error.filename}: cannot be read ({error.strerror}).") from None

    def fill(new: Path) -> None:
        key, certificate = make_server_certificate(read_private(authority / "ca.key"), issuer, host, time)
        create(new / "server.key", key, PRIVATE)
        create(new / "server.crt", certificate)
        create(new / "ca.crt", trusted)

    make_folder(folder.server_certificate(record.server), fill)
    folder.put_in_force(record)


def card_of(folder: ServerFolder) -> Card:
    """Return the federation's card, as it is now."""
    settings = folder.settings()
    model = settings.model
    identities = [encoder.identity for encoder in make_encoders(model.encoders)]
    return Card(
        federation=settings.name,
        address=settings.address,
        signing_key=signing_text(folder.signing_key()),
        certificates=folder.trusted().decode(),
        model=ModelTerms(
            encoders=",".join(model.encoders),
            encoder_identities=identities_to_json(identities),
            width=model.width,
            history_length=model.history_length,
        ),
        fedcart=VERSION,
        flower=flower_version(),
        registry=settings.registry_address,
    )


@dataclass(frozen=True)
class Admission:
    """A member, as it was admitted, and its kit."""

    member: Member
    kit: Path
    rotated: bool


def admit(
    folder: ServerFolder,
    file: Path,
    data: bytes,
    confirmed: str | None,
    time: datetime,
    new_ledger: str | None = None,
) -> Admission:
    """Check a request, register its keys and its ledger, and write the kit.

    `confirmed` is the platform's fingerprint as the operator got it by another way; a rotation, which is signed
    with the key in force, may do without. `new_ledger` is why a ledger that does not continue the member's last one is
    accepted: cards say so from then on. Everybody else's keys stay as they are. Raises EnrolmentError.
    """
    settings = folder.settings()
    received = read_request(data, str(file), settings.name, time)
    request = received.request
    if confirmed is None and request.kind == "join":
        raise EnrolmentError(
            f"{file}: compare its fingerprint with the platform's by another way (telephone, in person), then give "
            f"it: --fingerprint. The file's is {spoken(fingerprint(request.identity_key))}."
        )
    if confirmed is not None and unspoken(confirmed) != fingerprint(request.identity_key):
        raise WrongPartyError(
            f"{file}: its identity key has another fingerprint than the one you gave. If yours came from "
            f"{request.platform!r} by another way, this request did not. Nothing was changed."
        )
    card = card_of(folder)
    members = Members.open(folder.members_file)
    with _nodes_in_agreement(folder, members):
        member = members.admit(received, time, new_ledger)
    return Admission(member, _write_kit(folder, members, card, member, time), request.kind == "rotate")


@contextlib.contextmanager
def _nodes_in_agreement(folder: ServerFolder, members: Members) -> Iterator[None]:
    """Make Flower's nodes agree with the registry afterwards, also after a refusal: trying again mends a crash."""
    try:
        yield
    finally:
        agree_nodes(folder, members)


def agree_nodes(folder: ServerFolder, members: Members) -> NodeChanges:
    """Make Flower's nodes exactly the members in force."""
    return agree(folder.database, {member.name: member.node_key for member in members.admitted()})


def new_kit(folder: ServerFolder, name: str, time: datetime) -> Path:
    """Write another kit for a member, with the card as it is now."""
    members = Members.open(folder.members_file)
    with _nodes_in_agreement(folder, members):
        member = members.get(name)
    if member.state != ADMITTED:
        raise EnrolmentError(f"{name!r} was revoked on {member.since}: it gets no kit.")
    return _write_kit(folder, members, card_of(folder), member, time)


def _write_kit(folder: ServerFolder, members: Members, card: Card, member: Member, time: datetime) -> Path:
    number = members.next_kit(member.name, time)
    file = folder.kits / f"{member.name}-{number}.kit.json"
    create(file, make_kit(card, member.recipient, number, folder.signing_key(), time))
    return file


def revoke(folder: ServerFolder, name: str, reason: str, time: datetime) -> Member:
    """End a membership: its node is refused from its next message on, everybody else's is untouched."""
    members = Members.open(folder.members_file)
    with _nodes_in_agreement(folder, members):
        return members.revoke(name, reason, time)


def renew_certificate(folder: ServerFolder, time: datetime) -> CertificateRecord:
    """Give the server a new key and certificate by the authority in force. Members need nothing."""
    record = folder.certificates()
    return _renew(folder, record, time)


def _renew(folder: ServerFolder, record: CertificateRecord, time: datetime) -> CertificateRecord:
    host, _ = split_address(folder.settings().address)
    number = record.server + 1
    while folder.server_certificate(number).exists():  # left by an attempt that was cut off
        number += 1
    renewed = record.model_copy(update={"server": number})
    _new_server_certificate(folder, renewed, host, time)
    return renewed


def start_authority(folder: ServerFolder, time: datetime) -> Sequence[Path]:
    """Make a second authority and a kit with both for each member; the server keeps its certificate for now."""
    record = folder.certificates()
    if len(record.authorities) > 1:
        raise FederationError(
            "A new authority was made already. When every member has installed its new kit: --finish."
        )
    number = record.issuer + 1
    if not folder.authority(number).exists():
        _new_authority(folder, number, folder.settings().name, time)
    both = record.model_copy(update={"authorities": [*record.authorities, number]})
    _renew(folder, both, time)
    members = Members.open(folder.members_file)
    card = card_of(folder)
    return [_write_kit(folder, members, card, member, time) for member in members.admitted()]


def finish_authority(folder: ServerFolder, time: datetime) -> CertificateRecord:
    """Issue the server's certificate by the new authority, and stop trusting the old one."""
    record = folder.certificates()
    if len(record.authorities) < 2:
        raise FederationError("There is no new authority: make one first, without --finish.")
    newest = record.authorities[-1]
    return _renew(folder, CertificateRecord(authorities=[newest], issuer=newest, server=record.server), time)
