"""A platform's side of enrolment: make the folder, ask to join, check and install the kit."""

import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from clients.errors import SiteError
from clients.folder import ClientFolder, Keys, MembershipRecord
from clients.own_ledger import open_ledger
from clients.site import SERVING_TOKEN, SiteSettings, read_site
from clients.template import LEDGER_KEY, SiteAnswers, site_text
from federation.auditlog import FIRST, AuditLog, Facts
from federation.certificates import read_certificates
from federation.errors import EnrolmentError, ExpiredError, FolderError, ReusedError, WrongPartyError
from federation.files import PRIVATE, create, make_folder
from federation.keys import fingerprint, make_node_key, make_signing_key, node_text, signing_text, unspoken
from federation.kit import Kit, read_kit
from federation.request import Declaration, RequestKeys, make_request
from federation.signed import digest
from federation.validity import require_valid
from federation.versions import VERSION, flower_version
from privacy.ledger import Ledger
from privacy.ledger.keys import key_path, load_key_file, make_key_file
from privacy.ledger.location import database_url


def init_folder(path: Path, answers: SiteAnswers) -> ClientFolder:
    """Make a platform's folder with settings, keys and the first ledger of its population: all of it or nothing.

    With `answers.ledger` the population has a ledger already, which is opened and left as it is; a database URL without
    `answers.ledger_key` is where a new one is made. Raises BadInputError, SiteError, FolderError, or what the ledger
    raises.
    """
    if answers.ledger_key is not None and answers.ledger is None:
        raise SiteError("--ledger-key is the key of a ledger that is there: say which one, with --ledger.")
    text = site_text(answers)
    site = read_site(text, f"{path}/client.toml")

    def fill(new: Path) -> None:
        create(new / "client.toml", text.encode())
        (new / "keys").mkdir(mode=0o700)
        _make_keys(ClientFolder(new).keys(1))
        create(ClientFolder(new).secret, secrets.token_hex(32).encode(), PRIVATE)
        create(new / SERVING_TOKEN, secrets.token_hex(32).encode() + b"\n", PRIVATE)
        (new / "requests").mkdir()
        (new / "federation").mkdir()
        facts: Facts = {"platform": site.name, "population": site.population, "epsilon_cap": site.epsilon_cap}
        AuditLog(new).record(FIRST, facts)
        if answers.founds_in_database:
            _found(site.ledger, site, make_key_file(new / LEDGER_KEY))
        elif answers.ledger is None:
            _found(new / site.ledger, site)
        else:
            open_ledger(site)

    make_folder(path, fill)
    return ClientFolder(path)


def _found(where: str | Path, site: SiteSettings, key: Ed25519PrivateKey | None = None) -> None:
    Ledger.create(where, population=site.population, epsilon_cap=site.epsilon_cap, delta=site.delta, key=key)


def _make_keys(keys: Keys) -> None:
    def fill(new: Path) -> None:
        make_signing_key(new / "identity.key")
        make_node_key(new / "node.key")

    make_folder(keys.folder, fill)


def ledger_key(site: SiteSettings) -> Ed25519PrivateKey:
    """Load the key of the site's ledger; raise LedgerUnreadableError."""
    return load_key_file(site.ledger_key or key_path(Path(database_url(site.ledger).database or "")))


@dataclass(frozen=True)
class SentRequest:
    """A request that was written, and the fingerprint by which the operator can know it."""

    file: Path
    fingerprint: str


def write_request(
    folder: ClientFolder, time: datetime, *, contact: str = "", rotate: bool = False, rejoin: bool = False
) -> SentRequest:
    """Write a signed request under `requests/`; nothing that is there is changed.

    `rotate` asks to exchange a member's keys for new ones, `rejoin` to be admitted again, with new keys, after
    having been revoked. The request names the ledger as it is now. Raises SiteError if the request makes no sense for
    this platform, LedgerError if its ledger cannot be read.
    """
    site, record = folder.site(), folder.current()
    if site.federation is None:
        raise SiteError(
            f"{folder.site_file}: federation: is missing; write the name that its operator gave you."
        )
    if rotate and rejoin:
        raise SiteError("--rotate is for a member, --rejoin for one that was revoked: choose one.")
    if record is None and (rotate or rejoin):
        raise SiteError(
            f"{site.name} was no member yet: fedcart client request, without --rotate and --rejoin."
        )
    if record is not None and not (rotate or rejoin):
        raise SiteError(
            f"{site.name} is a member already (kit {record.kit}). To change its keys: --rotate; to come back after "
            "having been revoked: --rejoin."
        )
    old = folder.keys(1 if record is None else record.keys)
    keys = old
    if record is not None:
        keys = folder.keys(record.keys + 1)
        if not keys.folder.exists():
            _make_keys(keys)
    ledger = open_ledger(site)
    declaration = Declaration(
        federation=site.federation,
        platform=site.name,
        contact=contact,
        population_size=site.population_size,
        head=ledger.head(),
        fedcart=VERSION,
        flower=flower_version(),
    )
    identity = keys.identity()
    signers = RequestKeys(identity, keys.node(), ledger_key(site))
    data = make_request(declaration, signers, time, old.identity() if rotate else None)
    file = folder.requests / f"{site.name}-{time:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}.request.json"
    create(file, data)
    return SentRequest(file, fingerprint(signing_text(identity)))


def install_kit(
    folder: ClientFolder, kit_file: Path, data: bytes, confirmed: str | None, time: datetime
) -> Kit:
    """Check a kit and put it in force.

    `confirmed` is the federation's fingerprint as a person got it by another way; after the first kit it may be
    None, for the key is known then.

    | the kit                                                    | outcome         |
    |------------------------------------------------------------|-----------------|
    | any byte changed                                           | TamperedError   |
    | signed by another key than the one confirmed or installed  | WrongPartyError |
    | another kind of file; of another federation; for another   | WrongPartyError |
    | platform or other keys; answering no request made here     |                 |
    | too old, from the future, or its authority has expired     | ExpiredError    |
    | not newer than the installed one                           | ReusedError     |
    """
    site, record, where = folder.site(), folder.current(), str(kit_file)
    kit = read_kit(data, where)
    key = kit.card.signing_key
    if confirmed is not None:
        if unspoken(confirmed) != fingerprint(key):
            raise WrongPartyError(
                f"{where}: its signing key has another fingerprint than the one you gave. If yours came from the "
                "operator by another way, this kit did not: do not use it, and tell the operator."
            )
    elif record is None:
        raise EnrolmentError(f"{where}: the federation's fingerprint is needed once: --fingerprint.")
    elif record.signing_key != key:
        raise WrongPartyError(
            f"{where}: is signed by another key than the installed kit {record.kit}. If the operator has a new key, "
            "get its fingerprint by another way and give it: --fingerprint."
        )
    _require_ours(folder, kit, where)
    if kit.card.federation != site.federation:
        raise WrongPartyError(
            f"{where}: is of federation {kit.card.federation!r}; client.toml says {site.federation!r}."
        )
    if kit.platform != site.name:
        raise WrongPartyError(f"{where}: is for platform {kit.platform!r}, and this is {site.name!r}.")
    fix = "Ask the operator for a new one: fedcart server kit."
    require_valid(kit.issued, kit.expires, time, where, fix)
    if any(time > authority.ends for authority in read_certificates(kit.card.certificates.encode())):
        raise ExpiredError(f"{where}: a certificate authority in it has expired. {fix}")
    if record is not None and kit.number <= record.kit:
        raise ReusedError(f"{where}: is kit {kit.number}, and kit {record.kit} is installed. {fix}")
    keys = _keys_of(folder, kit, where)
    _unpack(folder, kit, data)
    folder.put_in_force(
        MembershipRecord(kit=kit.number, keys=keys.number, signing_key=key, digest=digest(data))
    )
    return kit


def _require_ours(folder: ClientFolder, kit: Kit, where: str) -> None:
    try:
        sent = {digest(file.read_bytes()) for file in folder.requests.iterdir()}
    except OSError as error:
        raise FolderError(f"{folder.requests}: cannot be read ({error.strerror}).") from None
    if kit.request not in sent:
        raise WrongPartyError(f"{where}: answers a request that was not made in {folder.requests}.")


def _keys_of(folder: ClientFolder, kit: Kit, where: str) -> Keys:
    """Return the generation of keys that the kit is for: one whose private halves are here."""
    number = 1
    while (keys := folder.keys(number)).folder.exists():
        if (signing_text(keys.identity()), node_text(keys.node())) == (kit.identity_key, kit.node_key):
            return keys
        number += 1
    raise WrongPartyError(f"{where}: is for keys that are not in {folder.path / 'keys'}.")


def _unpack(folder: ClientFolder, kit: Kit, data: bytes) -> None:
    """Write the kit's files, unless a join that was cut off has written them."""
    target = folder.installed(kit.number)

    def fill(new: Path) -> None:
        create(new / "ca.crt", kit.card.certificates.encode())
        create(new / "card.txt", ("\n".join(kit.card.lines()) + "\n").encode())
        create(new / "kit.json", data)

    if not ((target / "kit.json").exists() and (target / "kit.json").read_bytes() == data):
        make_folder(target, fill)
