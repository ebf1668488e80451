"""`fedcart client start`: a platform's SuperNode and worker, kept running.

A SuperNode that was killed stays "online" for the server until its heartbeats are overdue (up to 60 s), and a new one
is refused until then; so it is tried again with growing waits. The same goes for a server that is away, and for a
node that was revoked: it is refused, the log says so, and new keys are used at the next try.
"""

from clients.folder import ClientFolder
from clients.processes import supernode_arguments, worker_arguments
from clients.site import SiteSettings
from federation.lock import held
from federation.supervise import Child, Supervisor, configure_log, stop_on_signals


def start(folder: ClientFolder) -> None:
    """Run until SIGTERM or SIGINT.

    Raises BusyError if these keys are in use, SiteError before a kit is installed, and whatever else keeps the
    processes from being started at all.
    """
    folder = ClientFolder(folder.path.absolute())
    site, membership = folder.site(), folder.membership()
    supernode_arguments(folder)
    membership.keys.node()
    with held(membership.keys.lock, f"A node with the keys of {site.name!r}"):
        stop = stop_on_signals()
        configure_log()
        Supervisor(children(folder, site), folder.node_record, platform=site.name).run(stop)


def children(folder: ClientFolder, site: SiteSettings) -> list[Child]:
    """What is kept running. Of the worker's lines only its log is shown, unless the policy allows messages."""
    messages = site.policy.log == "messages"
    flower = {"FLWR_HOME": str(folder.flower)}
    return [
        Child("supernode", lambda: supernode_arguments(folder), first=3.0, most=300.0, environment=flower),
        Child("worker", lambda: worker_arguments(folder), passes=lambda _: messages, environment=flower),
    ]
