"""`fedcart server start`: SuperLink, the executor of server apps, the front and the registry of models, kept running."""

import ipaddress
from itertools import combinations

from federation.lock import held
from federation.supervise import Child, Supervisor, configure_log, stop_on_signals
from server.control_key import make_control_key, read_control_key
from server.enrol import agree_nodes
from server.errors import FederationError
from server.folder import ServerFolder
from server.members import Members
from server.processes import front_arguments, registry_arguments, superexec_arguments, superlink_arguments


def start(folder: ServerFolder) -> None:
    """Run until SIGTERM or SIGINT.

    Raises BusyError if this folder's server runs already, FederationError if SuperLink would listen for others or two
    would have one port, KeyFileError if the control key cannot be used.
    """
    folder = ServerFolder(folder.path.absolute())
    require_local(folder)
    require_ports(folder)
    superlink_arguments(folder)
    with held(folder.lock, f"The server of {folder.settings().name!r}"):
        stop = stop_on_signals()
        make_control_key(folder)
        read_control_key(folder)
        agree_nodes(folder, Members.open(folder.members_file))
        configure_log()
        Supervisor(children(folder), folder.server_record, federation=folder.settings().name).run(stop)


def require_local(folder: ServerFolder) -> None:
    """Raise FederationError unless SuperLink listens on this machine only; platforms come in by the front."""
    host = folder.settings().superlink.host
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise FederationError(
            f"{folder.settings_file}: superlink.host = {host!r}: SuperLink listens on this machine only. "
            'Write "127.0.0.1"; where platforms come in is [front] host.'
        )


def require_ports(folder: ServerFolder) -> None:
    """Raise FederationError if two of the server's processes would have the same port."""
    settings = folder.settings()
    ports = {
        "superlink.port": settings.superlink.port,
        "superlink.health_port": settings.superlink.health_port,
        "registry.port": settings.registry.port,
        **({"front.port (of the address)": settings.front_listens[1]} if settings.front.on else {}),
    }
    for (one, port), (other, same) in combinations(ports.items(), 2):
        if port == same:
            raise FederationError(
                f"{folder.settings_file}: {one} and {other} are both {port}. Platforms reach the front at the "
                "federation's address; give the other another port."
            )


def children(folder: ServerFolder) -> list[Child]:
    """What is kept running, in the order of its start."""
    flower = {"FLWR_HOME": str(folder.flower)}
    front = [Child("front", lambda: front_arguments(folder))] if folder.settings().front.on else []
    return [
        Child("superlink", lambda: superlink_arguments(folder), passes=_tells, environment=flower),
        Child("superexec", lambda: superexec_arguments(folder), environment=flower),
        *front,
        Child("registry", lambda: registry_arguments(folder)),
    ]


def _tells(line: str) -> bool:
    """Whether SuperLink's line says something: every request and every question after a run has one, too."""
    return "[uvicorn.access]" not in line and "ControlServicer.ListRuns" not in line
