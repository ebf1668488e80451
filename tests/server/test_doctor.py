"""The operator's doctor: a healthy federation passes, and each illness is found, named, and told how to mend."""

import http.server
import json
import shutil
import socket
import ssl
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from federation import machine
from federation.checkup import exit_code
from federation.keys import make_node_key, node_text
from federation.validity import now
from server import enrol
from server.doctor import examine_server
from server.folder import CertificateRecord, OperatorSettings, ServerFolder
from server.members import Members
from server.nodes import agree
from shared_model.features import ENCODERS
from tests.front_door import FrontDoor

TIME = now()


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> ServerFolder:
    front, link, registry = free_port(), free_port(), free_port()
    settings = OperatorSettings.model_validate(
        {
            "name": "groceries",
            "address": f"localhost:{front}",
            "superlink": {"port": link, "health_port": 1},
            "registry": {"port": registry},
        }
    )
    return enrol.init_folder(tmp_path_factory.mktemp("fed") / "fed", settings, TIME)


@pytest.fixture
def fed(pristine, tmp_path) -> ServerFolder:
    return ServerFolder(Path(shutil.copytree(pristine.path, tmp_path / "fed")))


def examine(fed, time=TIME, **options):
    return {finding.check: finding for finding in examine_server(fed, time, **options)}


def problems(findings):
    return {name: f"{f.detail} {f.fix or ''}" for name, f in findings.items() if not f.passed}


@pytest.fixture(autouse=True)
def _roomy(monkeypatch):
    """The machine of the test is not what is examined."""
    monkeypatch.setattr(machine, "available_memory", lambda: 64e9)


def test_a_healthy_federation_passes_every_check(fed):
    findings = examine(fed)
    assert problems(findings) == {}
    assert exit_code(list(findings.values())) == 0
    assert set(findings) == {
        "settings", "keys", "certificates", "registry", "nodes", "clock", "encoders", "bundle", "superlink",
        "address", "models", "disk", "memory", "flower",
    }  # fmt: skip
    assert "is not running" in findings["address"].detail


def edit(fed, old, new):
    text = fed.settings_file.read_text()
    assert old in text
    fed.settings_file.write_text(text.replace(old, new))


def place(fed):
    return fed.server_certificate(fed.certificates().server)


def swap(fed):
    """Put another server's key beside the certificate."""
    record = enrol.renew_certificate(fed, TIME)
    shutil.copy(
        fed.server_certificate(1) / "server.key", fed.server_certificate(record.server) / "server.key"
    )


ILLNESSES = [
    ("settings", lambda f: f.settings_file.unlink(), "fedcart server init", 1),
    ("settings", lambda f: edit(f, "address = ", "adress = "), "address", 1),
    ("keys", lambda f: f.signing_file.chmod(0o644), "chmod 600", 4),
    ("keys", lambda f: f.secret.unlink(), "is missing", 4),
    ("keys", lambda f: (f.authority(1) / "ca.key").chmod(0o640), "chmod 600", 4),
    ("certificates", swap, "is not its certificate's", 1),
    (
        "certificates",
        lambda f: edit(f, "localhost", "fed.example.org"),
        "not for fed.example.org fedcart server renew",
        1,
    ),
    ("certificates", lambda f: (place(f) / "server.crt").unlink(), "server.crt", 4),
    ("keys", lambda f: f.certificates_file.write_text("{}"), "restore it from a backup", 4),
    (
        "certificates",
        lambda f: f.put_in_force(CertificateRecord(authorities=[1], issuer=1, server=9)),
        "9",
        4,
    ),
    ("registry", lambda f: f.members_file.unlink(), "registry of members is missing", 4),
    ("registry", lambda f: f.members_file.write_bytes(b"x" * 5000), "members.sqlite", 4),
    ("nodes", lambda f: agree(f.database, {"stray": STRAY}), "has ['stray'] too many", 1),
    ("nodes", lambda f: f.database.unlink(), "Flower's database is missing", 4),
    ("encoders", lambda f: edit(f, "hashed-words", "bert"), "bert", 1),
    ("address", lambda f: edit(f, "localhost", "fed.invalid"), "is no name that this machine can resolve", 1),
]


@pytest.fixture(scope="module", autouse=True)
def _stray(tmp_path_factory):
    global STRAY  # noqa: PLW0603
    STRAY = node_text(make_node_key(tmp_path_factory.mktemp("key") / "node"))


@pytest.mark.parametrize(
    ("check", "infect", "said", "code"), ILLNESSES, ids=[f"{i}-{c}" for i, (c, *_) in enumerate(ILLNESSES)]
)
def test_an_illness_is_found(fed, check, infect, said, code):
    infect(fed)
    findings = examine(fed)
    assert said in problems(findings)[check]
    assert exit_code(list(findings.values())) == code


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (370, "fedcart server renew"),
        (400, "fedcart server renew"),
    ],
)
def test_a_certificate_that_will_end_is_told_before(fed, days, said):
    assert said in problems(examine(fed, TIME + timedelta(days=days)))["certificates"]


def test_an_authority_that_will_end_is_told_before(fed):
    late = TIME + timedelta(days=3500)
    enrol.renew_certificate(fed, late)
    assert "fedcart server rotate-authority" in problems(examine(fed, late))["certificates"]


def test_an_exchange_of_authorities_is_no_problem_and_is_told(fed):
    enrol.start_authority(fed, TIME)
    assert "an exchange of authorities is under way" in examine(fed)["certificates"].detail
    enrol.finish_authority(fed, TIME)
    assert problems(examine(fed)) == {}


def test_a_clock_that_went_back_is_a_problem(fed, tmp_path):
    from federation.keys import make_signing_key
    from federation.request import Declaration, RequestKeys, make_request, read_request
    from privacy.ledger import Ledger

    later = TIME + timedelta(days=1)
    signer = make_signing_key(tmp_path / "l")
    ledger = Ledger.create(tmp_path / "ledger", population="books", epsilon_cap=8.0, delta=1e-6, key=signer)
    keys = RequestKeys(make_signing_key(tmp_path / "i"), make_node_key(tmp_path / "n"), signer)
    data = make_request(Declaration("groceries", "books", "", 10, ledger.head(), "1", "1"), keys, later)
    Members.open(fed.members_file).admit(read_request(data, "r", "groceries", later), later)
    found = problems(examine(fed))
    assert "Synchronise this machine's clock" in found["clock"]
    assert "Flower lacks ['books']" in found["nodes"]
    assert "--repair" in found["nodes"]
    assert set(problems(examine(fed, repair=True))) == {"clock"}
    assert "nodes" not in problems(examine(fed)), "it stays mended"


def test_the_machine_is_looked_at(fed, monkeypatch):
    from types import SimpleNamespace

    monkeypatch.setattr(machine, "available_memory", lambda: 1e9)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: SimpleNamespace(free=1e9))
    monkeypatch.setattr(machine, "flower_version", lambda: "1.42.0")
    assert set(problems(examine(fed))) == {"memory", "disk", "flower"}


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers as SuperLink behind its door does, and as a front does."""

    status = 403

    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def running(fed):
    """Return what answers on a port with the certificate in force."""

    def start(port, status=403):
        handler = type("Handler", (Answers,), {"status": status})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(place(fed) / "server.crt", place(fed) / "server.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)

    started = []
    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def test_a_running_server_is_looked_at_as_members_will(fed, running):
    running(fed.settings().front_listens[1])
    running(fed.settings().superlink.port)
    findings = examine(fed)
    assert problems(findings) == {}
    assert "TLS and name are right; control is closed" in findings["address"].detail
    assert "control wants its key" in findings["superlink"].detail
    enrol.renew_certificate(fed, TIME)
    assert "Restart the server" in problems(examine(fed))["address"]


def test_an_open_control_interface_is_a_problem(fed, running):
    running(fed.settings().front_listens[1], status=415)
    running(fed.settings().superlink.port, status=200)
    found = problems(examine(fed))
    assert "asks for no control key" in found["superlink"]
    assert "/v1/fleet/" in found["address"]


def test_a_running_front_that_is_not_reached_at_its_address(fed, running):
    port = fed.settings().front_listens[1]
    running(port)
    edit(fed, f'address = "localhost:{port}"', f'address = "localhost:{free_port()}"')
    edit(fed, "[front]", f"[front]\nport = {port}")
    assert "does not answer" in problems(examine(fed))["address"]


def test_what_listens_on_the_registry_s_port_and_is_none(fed, running):
    running(fed.settings().registry.port)
    assert "does not answer" in problems(examine(fed))["models"]


def test_two_processes_on_one_port_are_a_problem(fed):
    settings = fed.settings()
    edit(fed, f"port = {settings.superlink.port}", f"port = {settings.front_listens[1]}")
    assert "are both" in problems(examine(fed))["superlink"]


def test_the_command_prints_and_ends_with_the_code(fed, capfd):
    run = FrontDoor(capfd, before=("server", "doctor", "--folder", fed.path))
    assert run.json()["ok"] is True
    agree(fed.database, {"stray": STRAY})
    code, out, _ = run()
    assert (code, "PROBLEM  nodes" in out) == (1, True)
    assert run("--repair")[0] == 0
    fed.signing_file.chmod(0o644)
    code, out, _ = run("--format", "json")
    assert (code, json.loads(out)["exit_code"]) == (4, 4)


def test_an_unknown_encoder_is_named(fed, monkeypatch):
    monkeypatch.delitem(ENCODERS, "hashed-words")
    assert "hashed-words" in problems(examine(fed))["encoders"]
