"""How the server's processes are started: their arguments, and nothing else."""

import sys

from federation.address import join_address
from server.folder import ServerFolder


def superlink_arguments(folder: ServerFolder) -> list[str]:
    """The command that runs SuperLink: TLS, node keys from the registry, server apps started by an executor of ours."""
    folder = ServerFolder(folder.path.absolute())
    settings = folder.settings().superlink
    certificate = folder.server_certificate(folder.certificates().server)
    return [
        *(sys.executable, "-P", "-m", "server.superlink", str(folder.path)),
        *("--host", settings.host, "--port", str(settings.port)),
        *("--ssl-ca-certfile", str(certificate / "ca.crt")),
        *("--ssl-certfile", str(certificate / "server.crt")),
        *("--ssl-keyfile", str(certificate / "server.key")),
        "--enable-supernode-auth",
        *("--database", str(folder.database)),
        *("--isolation", "process", "--superexec-auth-secret-file", str(folder.secret)),
        "--disable-runtime-dependency-installation",
        *("--health-server-address", join_address("127.0.0.1", settings.health_port)),
    ]


def superexec_arguments(folder: ServerFolder) -> list[str]:
    """The command that executes server apps, beside SuperLink and on its machine."""
    folder = ServerFolder(folder.path.absolute())
    settings = folder.settings().superlink
    certificate = folder.server_certificate(folder.certificates().server)
    return [
        *(sys.executable, "-P", "-m", "server.superexec"),
        *("--runtime-api-address", join_address(settings.host, settings.port)),
        *("--root-certificates", str(certificate / "ca.crt")),
        *("--superexec-auth-secret-file", str(folder.secret)),
    ]


def front_arguments(folder: ServerFolder) -> list[str]:
    """The command that runs the front, which platforms reach."""
    return [sys.executable, "-P", "-m", "server.front", str(folder.path.absolute())]


def registry_arguments(folder: ServerFolder) -> list[str]:
    """The command that serves published models."""
    return [
        sys.executable,
        "-P",
        "-m",
        "fedcart",
        "server",
        "registry",
        "--folder",
        str(folder.path.absolute()),
    ]
