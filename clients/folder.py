"""A platform's folder: what lies where, and which membership is in force.

client.toml               the platform's own settings; fedcart never writes it again
vocabulary.json, .safetensors   the federation's vocabulary that the platform approved (`clients.vocabulary`)
vocabularies/          the versions that were approved before
keys/1/                   identity.key signs requests, node.key authenticates the node; 2/ after a rotation, …
keys/worker.secret        shared by the node and the worker on this machine
keys/serving.token        what callers of `fedcart client serve` show
requests/                 every request that was made
federation/3/             an installed kit: kit.json, ca.crt, card.txt
membership.json           which kit and keys are in force
node.json                 what `fedcart client start` wrote of its processes; keys/1/node.lock is its lock
audit.jsonl               who did what (`federation.auditlog`)
flower/                   what Flower writes
ledger.sqlite, work/, cache/
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from clients.errors import SiteError
from clients.site import SiteSettings, load_site
from federation.auditlog import AuditLog
from federation.errors import FolderError
from federation.files import replace
from federation.keys import NodeKey, SigningKey, load_node_key, load_signing_key
from federation.kit import Kit, read_kit
from federation.request import PublicKey
from federation.signed import digest


class MembershipRecord(BaseModel):
    """`membership.json`: the kit and the keys in force, and the federation's signing key, as a person confirmed it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kit: int
    keys: int
    signing_key: PublicKey
    digest: PublicKey


@dataclass(frozen=True)
class Keys:
    """One generation of a platform's keys."""

    number: int
    folder: Path

    @property
    def node_file(self) -> Path:
        """The node's private key, which Flower reads."""
        return self.folder / "node.key"

    @property
    def lock(self) -> Path:
        """The lock of the one node that may use these keys."""
        return self.folder / "node.lock"

    def identity(self) -> SigningKey:
        """Load the identity key; raise KeyFileError."""
        return load_signing_key(self.folder / "identity.key")

    def node(self) -> NodeKey:
        """Load the node key; raise KeyFileError."""
        return load_node_key(self.node_file)


@dataclass(frozen=True)
class Membership:
    """The membership in force: the installed kit, whose signature was checked, and the keys it was made for."""

    kit: Kit
    keys: Keys
    signing_key: str
    authorities: Path


@dataclass(frozen=True)
class ClientFolder:
    """Paths of one platform's folder."""

    path: Path

    @property
    def site_file(self) -> Path:
        """The platform's own settings."""
        return self.path / "client.toml"

    def log(self) -> AuditLog:
        """The audit log; raise SiteError if this is no platform's folder."""
        self.site()
        return AuditLog(self.path)

    @property
    def requests(self) -> Path:
        """Where requests are kept."""
        return self.path / "requests"

    @property
    def record(self) -> Path:
        """The file that says which membership is in force."""
        return self.path / "membership.json"

    @property
    def approvals(self) -> Path:
        """The list of approved bundles."""
        return self.path / "approved-bundles.txt"

    @property
    def vocabulary(self) -> Path:
        """The approved vocabulary; its signed record lies beside it."""
        return self.path / "vocabulary.safetensors"

    @property
    def secret(self) -> Path:
        """The secret that the node and the worker share."""
        return self.path / "keys" / "worker.secret"

    @property
    def node_record(self) -> Path:
        """What the supervisor wrote of its processes."""
        return self.path / "node.json"

    @property
    def flower(self) -> Path:
        """Flower's own folder."""
        return self.path / "flower"

    def site(self) -> SiteSettings:
        """Load the settings; raise SiteError."""
        if not self.site_file.exists():
            raise SiteError(
                f"{self.path}: is no platform's folder: it has no client.toml. Name one with --folder, or make one: "
                "fedcart client init."
            )
        site = load_site(self.site_file)
        if site.vocabulary is None and self.vocabulary.exists():
            return site.model_copy(update={"vocabulary": self.vocabulary})
        return site

    def keys(self, number: int) -> Keys:
        """A generation of keys, which may not be there yet."""
        return Keys(number, self.path / "keys" / str(number))

    def installed(self, number: int) -> Path:
        """Where kit `number` is installed."""
        return self.path / "federation" / str(number)

    def current(self) -> MembershipRecord | None:
        """Return what is in force, None before the first kit; raise FolderError if it cannot be read."""
        try:
            return MembershipRecord.model_validate_json(self.record.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError, ValidationError):
            raise FolderError(
                f"{self.record}: cannot be read. Restore it from a backup, or install the newest kit again."
            ) from None

    def put_in_force(self, record: MembershipRecord) -> None:
        """Change the membership in force, at once and durably."""
        replace(self.record, record.model_dump_json(indent=2).encode() + b"\n")

    def membership(self) -> Membership:
        """Return the membership in force, checked again from the kit's own bytes.

        Raises SiteError before the first kit, FolderError or EnrolmentError if what is installed was changed.
        """
        record = self.current()
        if record is None:
            raise SiteError(
                f"{self.path}: no kit is installed yet. Send a request to the federation's operator (fedcart client "
                "request), then install the kit that comes back: fedcart client join KIT."
            )
        folder = self.installed(record.kit)
        try:
            data = (folder / "kit.json").read_bytes()
            authorities = (folder / "ca.crt").read_bytes()
        except OSError as error:
            raise FolderError(
                f"{folder}: the installed kit cannot be read ({error.strerror}); ask the operator for a new one."
            ) from None
        kit = read_kit(data, str(folder / "kit.json"))
        known = (digest(data), kit.card.signing_key) == (record.digest, record.signing_key)
        if not known or authorities != kit.card.certificates.encode():
            raise FolderError(
                f"{folder}: was changed since it was installed; ask the operator for a new kit."
            )
        return Membership(kit, self.keys(record.keys), record.signing_key, folder / "ca.crt")
