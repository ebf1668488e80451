"""How a platform's processes are started: their arguments, and nothing else."""

import sys

from clients.folder import ClientFolder


def supernode_arguments(folder: ClientFolder) -> list[str]:
    """The command that runs Flower's SuperNode: it speaks with the federation and executes nothing.

    Raises SiteError before a kit is installed.
    """
    folder = ClientFolder(folder.path.absolute())
    membership, node = folder.membership(), folder.site().node
    return [
        "flower-supernode",
        *("--superlink", membership.kit.card.address),
        *("--root-certificates", str(membership.authorities)),
        *("--auth-supernode-private-key", str(membership.keys.node_file)),
        *("--isolation", "process", "--superexec-auth-secret-file", str(folder.secret)),
        *("--host", "127.0.0.1", "--port", str(node.port)),
        *("--health-server-address", f"127.0.0.1:{node.health_port}"),
    ]


def worker_arguments(folder: ClientFolder) -> list[str]:
    """The command that runs the worker, which executes installed code and nothing else (`-P`: not the current
    folder's)."""
    return [sys.executable, "-P", "-m", "clients.worker", str(folder.path.absolute())]
