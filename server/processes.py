"""How Flower's server processes are started: their arguments and environment, and nothing else."""

from federation.address import join_address
from server.folder import ServerFolder


def superlink_arguments(folder: ServerFolder) -> list[str]:
    """The command that runs SuperLink: TLS, node keys from the registry, server apps started by an executor of ours."""
    folder = ServerFolder(folder.path.absolute())
    settings = folder.settings().superlink
    certificate = folder.server_certificate(folder.certificates().server)
    return [
        "flower-superlink",
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
        "flower-superexec",
        *("--runtime-api-address", join_address(settings.host, settings.port)),
        *("--root-certificates", str(certificate / "ca.crt")),
        *("--superexec-auth-secret-file", str(folder.secret)),
    ]


def flower_configuration(folder: ServerFolder) -> str:
    """The `config.toml` of Flower's own command line, for `FLWR_HOME`: where to submit and follow runs."""
    folder = ServerFolder(folder.path.absolute())
    settings = folder.settings().superlink
    certificate = folder.server_certificate(folder.certificates().server)
    return (
        f'[superlink]\ndefault = "fedcart"\n\n[superlink.fedcart]\n'
        f'address = "{join_address(settings.host, settings.port)}"\n'
        f'root-certificates = "{certificate / "ca.crt"}"\n'
    )
