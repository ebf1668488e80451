"""How Flower's server processes are started: files that are there, TLS, node keys, a secret; nothing insecure."""

from pathlib import Path

import pytest

from federation.validity import now
from server import enrol
from server.folder import OperatorSettings, ServerFolder
from server.processes import superexec_arguments, superlink_arguments


@pytest.fixture(scope="module")
def fed(tmp_path_factory) -> ServerFolder:
    settings = OperatorSettings.model_validate(
        {"name": "g", "address": "fed.example.org:9443", "superlink": {"host": "::1", "port": 8123}}
    )
    return enrol.init_folder(tmp_path_factory.mktemp("fed") / "fed", settings, now())


def value(arguments, option):
    return arguments[arguments.index(option) + 1]


def test_superlink_demands_tls_node_keys_and_a_secret(fed, monkeypatch):
    monkeypatch.chdir(fed.path.parent)
    arguments = superlink_arguments(ServerFolder(Path("fed")))
    files = (
        "--ssl-ca-certfile",
        "--ssl-certfile",
        "--ssl-keyfile",
        "--database",
        "--superexec-auth-secret-file",
    )
    for option in files:
        assert Path(value(arguments, option)).is_absolute()
        assert Path(value(arguments, option)).exists()
    assert "--enable-supernode-auth" in arguments
    assert "--insecure" not in arguments
    assert value(arguments, "--isolation") == "process"
    assert (value(arguments, "--host"), value(arguments, "--port")) == ("::1", "8123")


def test_a_renewed_certificate_is_used_at_the_next_start(fed):
    before = value(superlink_arguments(fed), "--ssl-certfile")
    enrol.renew_certificate(fed, now())
    after = value(superlink_arguments(fed), "--ssl-certfile")
    assert before != after
    assert Path(after).exists()


def test_the_executor_reaches_superlink(fed):
    arguments = superexec_arguments(fed)
    assert value(arguments, "--runtime-api-address") == "[::1]:8123"
    assert Path(value(arguments, "--root-certificates")).exists()
