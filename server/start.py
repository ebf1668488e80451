"""`fedcart server start`: SuperLink and the executor of server apps, kept running."""

import ipaddress

from federation.lock import held
from federation.supervise import Child, Supervisor, configure_log, stop_on_signals
from server.enrol import agree_nodes
from server.errors import FederationError
from server.folder import ServerFolder
from server.members import Members
from server.processes import superexec_arguments, superlink_arguments


def start(folder: ServerFolder) -> None:
    """Run until SIGTERM or SIGINT.

    Raises BusyError if this folder's server runs already, FederationError if SuperLink would listen for others.
    """
    folder = ServerFolder(folder.path.absolute())
    require_local(folder)
    superlink_arguments(folder)
    with held(folder.lock, f"The server of {folder.settings().name!r}"):
        stop = stop_on_signals()
        agree_nodes(folder, Members.open(folder.members_file))
        configure_log()
        Supervisor(children(folder), folder.server_record).run(stop)


def require_local(folder: ServerFolder) -> None:
    """Raise FederationError unless SuperLink listens on this machine only: whoever reaches it can start runs."""
    host = folder.settings().superlink.host
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise FederationError(
            f"{folder.settings_file}: superlink.host = {host!r}: whoever reaches SuperLink can start and stop runs. "
            'Write "127.0.0.1", and let a front show platforms the path /v1/fleet/ only.'
        )


def children(folder: ServerFolder) -> list[Child]:
    """What is kept running, in the order of its start."""
    flower = {"FLWR_HOME": str(folder.flower)}
    return [
        Child("superlink", lambda: superlink_arguments(folder), passes=_tells, environment=flower),
        Child("superexec", lambda: superexec_arguments(folder), environment=flower),
    ]


def _tells(line: str) -> bool:
    """Whether SuperLink's line says something: every request and every question after a run has one, too."""
    return "[uvicorn.access]" not in line and "ControlServicer.ListRuns" not in line
