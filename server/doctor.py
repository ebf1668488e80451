"""`fedcart server doctor`: is this federation ready to run?"""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from federation.address import join_address, split_address
from federation.bundle import build_bundle, digest
from federation.certificates import LOCAL, certificate_problem, key_fits, read_certificates
from federation.checkup import Finding, ProblemError, examine, examine_all
from federation.files import read_private
from federation.machine import GIGABYTE, check_disk, check_flower, check_memory
from federation.reach import look
from federation.validity import read_moment
from server.enrol import agree_nodes, card_of
from server.folder import OperatorSettings, ServerFolder
from server.members import Members
from server.nodes import list_nodes
from server.probe import control_is_closed, registry_problem
from server.registry.store import ModelStore
from server.start import require_local, require_ports

WARN_BEFORE = timedelta(days=30)
AUTHORITY_WARN_BEFORE = timedelta(days=180)
MEMORY = 2 * GIGABYTE
"""SuperLink, its executor and one server app, each with torch and Flower in memory."""


def examine_server(folder: ServerFolder, time: datetime, *, repair: bool = False) -> list[Finding]:
    """Return the findings of all checks; with `repair`, first make Flower's nodes agree with the registry."""
    settings, flower = examine("settings", lambda: _settings(folder)), examine("flower", check_flower)
    if not settings.passed:
        return [settings, flower]
    patient = Patient(folder, folder.settings(), time, repair)
    checks: list[tuple[str, Callable[[], str]]] = [
        ("keys", patient.keys),
        ("certificates", patient.certificates),
        ("registry", patient.registry),
        ("nodes", patient.nodes),
        ("clock", patient.clock),
        ("encoders", patient.encoders),
        ("bundle", patient.bundle),
        ("superlink", patient.superlink),
        ("address", patient.address),
        ("models", patient.models),
        ("disk", patient.disk),
        ("memory", lambda: check_memory(MEMORY)),
    ]
    return [settings, *examine_all(checks), flower]


def _settings(folder: ServerFolder) -> str:
    settings = folder.settings()
    return f"{settings.name}, at {settings.address}"


@dataclass(frozen=True)
class Patient:
    """One federation's checks: each returns what is well, or raises."""

    folder: ServerFolder
    settings: OperatorSettings
    time: datetime
    repair: bool

    def keys(self) -> str:
        """Private files are there, of their kind, and for their owner alone."""
        self.folder.signing_key()
        files = [self.folder.secret, self.folder.control_secret]
        files += [self.folder.authority(n) / "ca.key" for n in self.folder.certificates().authorities]
        for file in files:
            read_private(file)
        return "readable by their owner only"

    def certificates(self) -> str:
        """The server's certificate is what every member accepts, fits its key, and lasts; so do the authorities."""
        record = self.folder.certificates()
        place = self.folder.server_certificate(record.server)
        certificate, trusted = (place / "server.crt").read_bytes(), (place / "ca.crt").read_bytes()
        for number in record.authorities:
            authority = (self.folder.authority(number) / "ca.crt").read_bytes()
            if (
                key_fits(self.folder.authority(number) / "ca.key", authority) is False
                or authority not in trusted
            ):
                raise ProblemError(
                    f"authority {number} is not the one in force", "Restore the folder from a backup."
                )
        if not key_fits(place / "server.key", certificate):
            raise ProblemError("the server's key is not its certificate's", "fedcart server renew")
        oldest = (self.folder.authority(record.authorities[0]) / "ca.crt").read_bytes()
        for host in (split_address(self.settings.address)[0], *LOCAL):
            problem = certificate_problem(certificate, oldest, host, self.time)
            if problem is not None:
                raise ProblemError(
                    f"members would refuse the server's certificate: {problem}", "fedcart server renew"
                )
        ends = read_certificates(certificate)[0].ends
        if self.time > ends - WARN_BEFORE:
            raise ProblemError(f"the server's certificate ends on {ends:%Y-%m-%d}", "fedcart server renew")
        last = max(facts.ends for facts in read_certificates(trusted))
        if self.time > last - AUTHORITY_WARN_BEFORE:
            raise ProblemError(f"the authority ends on {last:%Y-%m-%d}", "fedcart server rotate-authority")
        change = "; an exchange of authorities is under way" if len(record.authorities) > 1 else ""
        return f"server until {ends:%Y-%m-%d}, authority until {last:%Y-%m-%d}{change}"

    def registry(self) -> str:
        """The registry of members can be read, and no member is left out for its ledger."""
        members = Members.open(self.folder.members_file)
        ledgers, names = members.ledgers(), [member.name for member in members.admitted()]
        back = [name for name in names if ledgers[name].went_back is not None]
        if back:
            raise ProblemError(
                f"the ledger of {', '.join(back)} went back, so its updates are refused",
                "Ask it which copy is the newest; then fedcart server admit REQUEST --new-ledger REASON.",
            )
        return f"{len(members.admitted())} members, {len(members.all()) - len(members.admitted())} revoked"

    def nodes(self) -> str:
        """Flower's nodes are the members in force, and no others."""
        members = Members.open(self.folder.members_file)
        if self.repair:
            agree_nodes(self.folder, members)
        wanted, present = (
            {m.name for m in members.admitted()},
            {n.name for n in list_nodes(self.folder.database)},
        )
        if wanted != present:
            raise ProblemError(
                f"Flower lacks {sorted(wanted - present)} and has {sorted(present - wanted)} too many",
                "fedcart server doctor --repair",
            )
        return f"{len(present)} in Flower's list, as in the registry"

    def clock(self) -> str:
        """Time has not gone back behind what was recorded."""
        newest = max(
            (read_moment(m.since) for m in Members.open(self.folder.members_file).all()), default=self.time
        )
        if newest > self.time + timedelta(minutes=5):
            raise ProblemError(
                f"the registry has an entry of {newest:%Y-%m-%d %H:%M} UTC, and now it is {self.time:%Y-%m-%d %H:%M}",
                "Synchronise this machine's clock (chrony, systemd-timesyncd).",
            )
        return f"{self.time:%Y-%m-%d %H:%M:%S} UTC, not before the newest entry"

    def encoders(self) -> str:
        """The encoders are installed and the card can be made."""
        return ", ".join(map(str, card_of(self.folder).model.identities))

    def bundle(self) -> str:
        """The app bundle can be built."""
        name, data = build_bundle()
        return f"{name}, SHA-256 {digest(data)}"

    def superlink(self) -> str:
        """SuperLink runs, on this machine only, and its control interface wants the key; or it can be started."""
        require_local(self.folder)
        require_ports(self.folder)
        local = self.settings.superlink
        if not _listens(local.host, local.port):
            return f"is not running (port {local.port} is free)"
        address = join_address(local.host, local.port)
        look(address, self._place / "ca.crt")
        if not control_is_closed(address, self._place / "ca.crt"):
            raise ProblemError(
                f"whoever reaches {address} can start runs: it asks for no control key",
                "Stop what runs there; fedcart server start.",
            )
        return f"{address} answers; control wants its key"

    def address(self) -> str:
        """The server is reached at its address, or is not running and can be started."""
        host, port = split_address(self.settings.address)
        try:
            socket.getaddrinfo(host, port)
        except OSError:
            raise ProblemError(
                f"{host} is no name that this machine can resolve",
                "Check the address, and this machine's DNS.",
            ) from None
        if self.settings.front.on and not _listens(*self._local(self.settings.front_listens)):
            return (
                f"{host} resolves; the front is not running (port {self.settings.front_listens[1]} is free)"
            )
        sight = look(self.settings.address, self._place / "ca.crt")
        if sight.certificate.fingerprint != _fingerprint(self._place / "server.crt"):
            raise ProblemError("the server still uses an older certificate", "Restart the server.")
        if not control_is_closed(self.settings.address, self._place / "ca.crt"):
            raise ProblemError(
                f"{self.settings.address} lets everybody pass to SuperLink's control interface",
                "Let the front pass POST to /v1/fleet/ and nothing else.",
            )
        return f"{self.settings.address} answers; TLS and name are right; control is closed"

    def models(self) -> str:
        """The registry serves the published models, or is not running and can be started; each version is whole."""
        published = len(ModelStore.open(self.folder).all())
        local = self._local((self.settings.registry.host, self.settings.registry.port))
        if not _listens(*local):
            return f"{published} published; the registry is not running (port {local[1]} is free)"
        problem = registry_problem(join_address(*local), self._place / "ca.crt")
        if problem is not None:
            raise ProblemError(
                f"the registry at {join_address(*local)} {problem}",
                "Look at its log; after fedcart server renew, restart the server.",
            )
        return f"{published} published; the registry at {self.settings.registry_address} serves them"

    @property
    def _place(self) -> Path:
        return self.folder.server_certificate(self.folder.certificates().server)

    @staticmethod
    def _local(listens: tuple[str, int]) -> tuple[str, int]:
        """Where this machine reaches what listens on an interface, perhaps on all."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listens[0], listens[0])  # noqa: S104
        return host, listens[1]

    def disk(self) -> str:
        """There is room for Flower's database, which holds the models of running rounds."""
        return check_disk([self.folder.path], 5 * GIGABYTE)


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 3).close()
    except OSError:
        return False
    return True


def _fingerprint(certificate: Path) -> str:
    return read_certificates(certificate.read_bytes())[0].fingerprint
