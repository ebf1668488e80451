"""The operator's folder of one federation: what lies where, its settings, and which certificates are in force.

federation.toml        the operator's settings
keys/signing.key       signs kits; worker.secret is shared by SuperLink and the executor of server apps, control.secret
                       by SuperLink and the commands that start and follow runs
authorities/1/         a certificate authority: ca.key, ca.crt
certificates/1/        a certificate of the server: server.key, server.crt, and the authorities in force: ca.crt
certificates.json      which of them are in force
members.sqlite         who was admitted, and every key and request ever seen
superlink.sqlite       Flower's database
kits/                  every kit that was made
vocabulary/            every version of the vocabulary (`server.vocabulary`)
models/                every published model (`server.registry`)
runs/                  a folder for every run
server.json            what `fedcart server start` wrote of its processes; server.lock is its lock
flower/                what Flower writes
audit.jsonl            who did what (`federation.auditlog`)
card.txt               the federation in public, with the fingerprint to read out
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from federation.address import checked_address, join_address, split_address
from federation.auditlog import AuditLog
from federation.errors import FolderError
from federation.files import replace
from federation.keys import SigningKey, load_signing_key
from federation.request import Name
from server.errors import FederationError
from shared_model.errors import BadInputError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelChoice(_Section):
    """`[model]`: what every member trains."""

    encoders: Annotated[list[str], Field(min_length=1)] = ["hashed-words"]
    width: Annotated[int, Field(ge=0)] = 0
    history_length: Annotated[int, Field(ge=2)] = 20


class SuperLinkSettings(_Section):
    """`[superlink]`: where Flower's SuperLink listens: on this machine only, behind the front."""

    host: str = "127.0.0.1"
    port: Port = 8000
    health_port: Port = 8001


class FrontSettings(_Section):
    """`[front]`: where platforms come in. It passes on what nodes need of SuperLink, over TLS, and nothing else: set
    host to the address of the interface that faces them."""

    on: bool = True
    """False where another front of the operator's stands there."""
    host: str = "127.0.0.1"
    port: Port | None = None
    """The port of the federation's address where left out."""


class RegistrySettings(_Section):
    """`[registry]`: where published models are served, over TLS and to members only. Platforms reach the same port at
    the federation's host: set host to the address of the interface that faces them."""

    host: str = "127.0.0.1"
    port: Port = 9444


class MetricsSettings(_Section):
    """`[metrics]`: where `fedcart server start` answers Prometheus, host:port; nowhere where left out. It has no
    authentication: keep it on this machine, or behind something that has."""

    address: Annotated[str, AfterValidator(checked_address)] | None = None


class RunSettings(_Section):
    """`[run]`: what `fedcart server run` asks for where its options do not say otherwise."""

    rounds: Annotated[int, Field(ge=1)] = 10
    epsilon: Positive = 8.0
    """ε of the whole run for each member."""
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-6
    """δ, which must be the one that every member declared."""
    local_steps: Annotated[int, Field(ge=1)] = 8
    clip_norm: Positive = 0.3
    sample_rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    learning_rate: Positive = 1e-3
    scalar_learning_rate: Positive = 2e-2
    targets: Annotated[int, Field(ge=1)] = 8
    negatives: Annotated[int, Field(ge=1)] = 256
    strategy: str = "FedAvg"
    strategy_options: dict[str, float | int] = {}
    min_members: Annotated[int, Field(ge=1)] = 2
    """Good replies that a round needs; with fewer it is repeated, never averaged."""


class OperatorSettings(_Section):
    """`federation.toml`."""

    name: Name
    address: str
    """Where platforms reach the server: host:port."""
    model: ModelChoice = ModelChoice()
    superlink: SuperLinkSettings = SuperLinkSettings()
    front: FrontSettings = FrontSettings()
    registry: RegistrySettings = RegistrySettings()
    metrics: MetricsSettings = MetricsSettings()
    run: RunSettings = RunSettings()

    @property
    def registry_address(self) -> str:
        """Where platforms reach the registry of models: host:port."""
        return join_address(split_address(self.address)[0], self.registry.port)

    @property
    def front_listens(self) -> tuple[str, int]:
        """The host and port on which the front listens."""
        return self.front.host, self.front.port or split_address(self.address)[1]

    @field_validator("address")
    @classmethod
    def _address(cls, value: str) -> str:
        try:
            split_address(value)
        except BadInputError as error:
            raise ValueError(str(error)) from None
        return value


class CertificateRecord(BaseModel):
    """`certificates.json`: the authorities that members trust, the one that issues, and the server's certificate."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    authorities: Annotated[list[int], Field(min_length=1, max_length=2)]
    issuer: int
    server: int


@dataclass(frozen=True)
class ServerFolder:
    """Paths of one federation's folder."""

    path: Path

    @property
    def settings_file(self) -> Path:
        """The operator's settings."""
        return self.path / "federation.toml"

    def log(self) -> AuditLog:
        """The audit log; raise FederationError if this is no federation's folder."""
        self.settings()
        return AuditLog(self.path)

    @property
    def signing_file(self) -> Path:
        """The key that signs kits."""
        return self.path / "keys" / "signing.key"

    @property
    def secret(self) -> Path:
        """The secret that SuperLink and the executor of server apps share."""
        return self.path / "keys" / "worker.secret"

    @property
    def control_secret(self) -> Path:
        """The key of SuperLink's control interface."""
        return self.path / "keys" / "control.secret"

    @property
    def members_file(self) -> Path:
        """The registry."""
        return self.path / "members.sqlite"

    @property
    def database(self) -> Path:
        """Flower's database."""
        return self.path / "superlink.sqlite"

    @property
    def kits(self) -> Path:
        """Where kits are kept."""
        return self.path / "kits"

    @property
    def models(self) -> Path:
        """Where published models are kept."""
        return self.path / "models"

    @property
    def vocabulary(self) -> Path:
        """Where the versions of the vocabulary are kept."""
        return self.path / "vocabulary"

    @property
    def runs(self) -> Path:
        """Where runs' folders are."""
        return self.path / "runs"

    @property
    def server_record(self) -> Path:
        """What the supervisor wrote of its processes."""
        return self.path / "server.json"

    @property
    def lock(self) -> Path:
        """The lock of the one server that may use this folder."""
        return self.path / "server.lock"

    @property
    def flower(self) -> Path:
        """Flower's own folder."""
        return self.path / "flower"

    @property
    def control_certificates(self) -> Path:
        """The authorities by which local commands know SuperLink."""
        return self.server_certificate(self.certificates().server) / "ca.crt"

    @property
    def certificates_file(self) -> Path:
        """The file that says which certificates are in force."""
        return self.path / "certificates.json"

    def authority(self, number: int) -> Path:
        """The folder of a certificate authority."""
        return self.path / "authorities" / str(number)

    def server_certificate(self, number: int) -> Path:
        """The folder of a certificate of the server."""
        return self.path / "certificates" / str(number)

    def settings(self) -> OperatorSettings:
        """Load the settings; raise FederationError that names file, key and fix."""
        if not self.settings_file.exists():
            raise FederationError(
                f"{self.path}: is no federation's folder: it has no federation.toml. Name one with --folder, or make "
                "one: fedcart server init."
            )
        try:
            text = self.settings_file.read_text(encoding="utf-8")
            return OperatorSettings.model_validate(tomllib.loads(text))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise FederationError(f"{self.settings_file}: cannot be read: {error}.") from None
        except ValidationError as error:
            problems = " ".join(
                f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg'].removeprefix('Value error, ')}."
                for e in error.errors()
            )
            raise FederationError(f"{self.settings_file}: {problems}") from None

    def signing_key(self) -> SigningKey:
        """Load the key that signs kits; raise KeyFileError."""
        return load_signing_key(self.signing_file)

    def certificates(self) -> CertificateRecord:
        """Return which certificates are in force; raise FolderError."""
        try:
            return CertificateRecord.model_validate_json(self.certificates_file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValidationError):
            raise FolderError(
                f"{self.certificates_file}: cannot be read; restore it from a backup."
            ) from None

    def put_in_force(self, record: CertificateRecord) -> None:
        """Change the certificates in force, at once and durably."""
        replace(self.certificates_file, record.model_dump_json(indent=2).encode() + b"\n")

    def trusted(self) -> bytes:
        """The certificate authorities in force, PEM."""
        try:
            files = [self.authority(n) / "ca.crt" for n in self.certificates().authorities]
            return b"".join(file.read_bytes() for file in files)
        except OSError as error:
            raise FolderError(f"{error.filename}: cannot be read ({error.strerror}).") from None
