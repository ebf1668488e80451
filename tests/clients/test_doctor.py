"""The doctor: a healthy platform passes, and each illness is found, named, and told how to mend."""

import http.server
import json
import math
import socket
import ssl
import threading
import uuid
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from clients import doctor
from clients.doctor import Target, examine_client
from clients.enrol import init_folder, install_kit, write_request
from clients.template import SiteAnswers
from federation import machine, reach
from federation.certificates import make_authority, make_server_certificate
from federation.checkup import Finding, exit_code
from federation.files import create, replace
from federation.validity import now
from privacy.events import PoissonGaussian
from privacy.ledger import Ledger
from privacy.ledger.keys import make_key_file
from shared_model.features import ENCODERS
from shared_model.table import release_share
from shared_model.vocabulary_file import vocabulary_bytes
from tests.clients.conftest import VOCABULARY, vocabulary_of
from tests.front_door import FrontDoor

TARGET = Target(None)


ANOTHER = vocabulary_bytes(vocabulary_of(pd.DataFrame({"item_id": ["x"], "title": ["zebra crossing"]})))


class Quiet(http.server.BaseHTTPRequestHandler):
    """Answers with a date, as a server does; `skew` seconds off."""

    skew = 0.0

    def do_GET(self):
        self.send_response(403)
        self.end_headers()

    def date_time_string(self, timestamp=None):
        return super().date_time_string((timestamp or now().timestamp()) + self.skew)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(operator, tmp_path):
    """Return a TLS server with a certificate of the operator's, whose address is on the card."""

    def start(host="localhost", authority=None, time=None, tls=True):
        key, certificate = make_server_certificate(*(authority or operator.authority), host, time or now())
        replace(tmp_path / "server.key", key, 0o600)
        replace(tmp_path / "server.crt", certificate)
        started = http.server.HTTPServer(("127.0.0.1", 0), type("Handler", (Quiet,), {}))
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
            started.socket = context.wrap_socket(started.socket, server_side=True)
        threading.Thread(target=started.serve_forever, daemon=True).start()
        running.append(started)
        return started

    running = []
    yield start
    for one in running:
        one.shutdown()
        one.server_close()


@pytest.fixture
def patient(tmp_path, make_site, operator, server, events):
    """Return a healthy platform: folder, operator, server, and what examines it."""
    data = make_site("data", cap=None)
    events(shoppers=200).to_csv(data.events, index=False)
    listening = server()
    operator.card = operator.card.model_copy(update={"address": f"localhost:{listening.server_address[1]}"})
    answers = SiteAnswers("toys", "groceries", data.events, data.items, 200, 8.0, 1e-6)
    folder = init_folder(tmp_path / "toys", answers)
    request = write_request(folder, now()).file
    install_kit(folder, Path("kit"), operator.answer(request), operator.fingerprint, now())
    create(folder.approvals, f"{'ab' * 32}  approved\n".encode())
    create(folder.vocabulary, vocabulary_bytes(VOCABULARY))

    def examine(time=None) -> dict[str, Finding]:
        return {f.check: f for f in examine_client(folder, TARGET, time or now())}

    def edit(old, new):
        text = folder.site_file.read_text()
        assert old in text
        folder.site_file.write_text(text.replace(old, new))

    return SimpleNamespace(
        folder=folder,
        operator=operator,
        server=listening,
        examine=examine,
        edit=edit,
        data=data,
        request=request,
    )


def problems(findings):
    return {name: f"{f.detail} {f.fix or ''}" for name, f in findings.items() if not f.passed}


def test_a_healthy_platform_passes_every_check(patient):
    findings = patient.examine()
    assert problems(findings) == {}
    assert exit_code(list(findings.values())) == 0
    assert set(findings) == {
        "settings", "keys", "kit", "address", "clock", "models", "bundles", "data", "vocabulary", "shoppers",
        "encoders", "ledger", "budget", "disk", "memory", "device", "serving", "flower",
    }  # fmt: skip


def test_looking_changes_nothing(patient):
    before = {p: p.read_bytes() for p in patient.folder.path.rglob("*") if p.is_file()}
    patient.examine()
    assert {p: p.read_bytes() for p in patient.folder.path.rglob("*") if p.is_file()} == before


def ledger(patient):
    return Ledger.open(patient.folder.path / "ledger.sqlite", population="toys")


def spend(patient):
    ledger(patient).reserve(
        PoissonGaussian(0.1, 1.0, 80), run="r", purpose="p", key="k", model_fingerprint="m", code_version="1"
    )


ILLNESSES = [
    ("settings", lambda p: p.edit('federation = "groceries"', ""), "names no federation", 1),
    ("settings", lambda p: p.edit("work =", "reproducible_noise = true\nwork ="), "no shopper is protected", 1),
    ("settings", lambda p: p.edit("delta = ", "delt = "), "did you mean 'delta'", 1),
    ("settings", lambda p: p.folder.site_file.unlink(), "fedcart client init", 1),
    ("keys", lambda p: p.folder.keys(1).node_file.chmod(0o640), "chmod 600", 4),
    ("keys", lambda p: (p.folder.keys(1).folder / "identity.key").unlink(), "is missing", 4),
    ("keys", lambda p: p.folder.secret.chmod(0o604), "chmod 600", 4),
    ("kit", lambda p: p.folder.record.unlink(), "no kit is installed yet", 1),
    ("kit", lambda p: (p.folder.installed(1) / "kit.json").unlink(), "cannot be read", 4),
    ("kit", lambda p: p.edit('name = "toys"', 'name = "tots"\npopulation = "toys"'), "the kit is for toys", 1),
    ("address", lambda p: p.server.server_close() or p.server.shutdown(), "does not answer", 1),
    ("clock", lambda p: setattr(p.server.RequestHandlerClass, "skew", -30), "s ahead of", 1),
    ("clock", lambda p: setattr(p.server.RequestHandlerClass, "skew", 100), "s behind", 1),
    ("bundles", lambda p: p.folder.approvals.unlink(), "fedcart client approve", 1),
    ("bundles", lambda p: p.folder.approvals.write_text("x"), "line 1", 1),
    ("data", lambda p: p.data.events.unlink(), "no such file", 1),
    ("data", lambda p: p.data.items.write_text("item_id,title\n"), "items.csv", 1),
    ("data", lambda p: p.edit("[columns]", '[columns]\nuser = "customer"'), "customer", 1),
    ("vocabulary", lambda p: p.folder.vocabulary.unlink(), "fedcart client vocabulary", 1),
    ("vocabulary", lambda p: p.folder.vocabulary.write_bytes(ANOTHER), "would give nothing and get nothing", 1),
    ("vocabulary", lambda p: p.folder.vocabulary.write_bytes(b"x" * 100), "vocabulary.safetensors", 4),
    ("shoppers", lambda p: p.edit("population_size = 200", "population_size = 2000"), "is refused by the server", 1),
    ("shoppers", lambda p: p.edit("delta = 1e-06", "delta = 0.01"), "not below 1/", 1),
    ("encoders", lambda p: ENCODERS.pop("tiny"), "tiny", 1),
    ("ledger", lambda p: (p.folder.path / "ledger.sqlite").unlink(), "ledger.sqlite", 4),
    ("ledger", lambda p: (p.folder.path / "ledger.sqlite").write_bytes(b"x" * 5000), "ledger", 4),
    ("ledger", lambda p: (p.folder.path / "ledger.sqlite.key").chmod(0o644), "chmod 600", 4),
    ("budget", lambda p: ledger(p).change_cap(9.0, "test"), "fedcart client cap 8", 1),
    ("budget", spend, "would be refused", 1),
    ("device", lambda p: p.edit('# device = "auto"', 'device = "mps"'), "no such device here", 1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "infect", "said", "code"), ILLNESSES, ids=[f"{i}-{c}" for i, (c, *_) in enumerate(ILLNESSES)]
)
def test_an_illness_is_found(patient, check, infect, said, code):
    infect(patient)
    findings = patient.examine()
    assert said in problems(findings)[check]
    assert exit_code(list(findings.values())) == code


@pytest.mark.parametrize("server_kind", ["postgresql", "mariadb"])
def test_a_ledger_in_a_database_is_looked_at_with_its_key(patient, request, server_kind):
    url, population = request.getfixturevalue(server_kind), f"toys-{uuid.uuid4().hex[:8]}"
    key = patient.folder.path / "keys" / "ledger.key"
    ledger = {"population": population, "epsilon_cap": 8.0, "delta": 1e-6, "key": make_key_file(key)}
    Ledger.create(url, **ledger)
    patient.edit("# population =", f'population = "{population}"')
    patient.edit('ledger = "ledger.sqlite"', f'ledger = "{url}"')
    patient.edit('# ledger_key = "keys/ledger.key"', 'ledger_key = "keys/ledger.key"')
    findings = patient.examine()
    assert problems(findings) == {}
    assert server_kind in findings["ledger"].detail
    key.chmod(0o640)
    findings = patient.examine()
    assert {"ledger", "budget"} <= set(problems(findings))
    assert "chmod 600" in problems(findings)["ledger"]
    assert exit_code(list(findings.values())) == 4
    key.unlink()
    assert "ledger.key is missing" in problems(patient.examine())["ledger"]


def test_a_problem_with_one_cause_is_told_once(patient):
    patient.data.events.unlink()
    found = problems(patient.examine())
    assert set(found) == {"data", "vocabulary", "shoppers", "memory"}
    assert "see 'data'" in found["vocabulary"]
    assert "see 'data'" in found["shoppers"]
    assert "see 'data'" in found["memory"]


def test_too_few_shoppers_are_told_how_many_would_do(patient, events):
    events(shoppers=40).to_csv(patient.data.events, index=False)
    patient.edit("population_size = 200", "population_size = 40")
    found = problems(patient.examine())
    assert "40 shoppers are few" in found["shoppers"]
    # 30 √6 σ with σ = 0.653 / √s for ε = 8, and the share s of popularity
    enough = math.ceil(30 * math.sqrt(6) * 0.653 / math.sqrt(release_share(40)))
    assert f"about {enough} would do" in found["shoppers"]


def test_mostly_unusable_data_are_a_problem(patient, events):
    rows = events(shoppers=200)
    rows.loc[rows.index[: len(rows) * 2 // 3], "item_id"] = "unknown"
    rows.to_csv(patient.data.events, index=False)
    assert "rows can be used" in problems(patient.examine())["data"]


@pytest.mark.parametrize(
    ("days", "said"),
    [(3640, "certificate authority ends"), (390, "its certificate ends on")],
)
def test_what_will_soon_expire_is_told_before(patient, days, said):
    found = problems(patient.examine(now() + timedelta(days=days)))
    assert said in " ".join(found.values())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"authority": make_authority("groceries", now())}, "its certificate is refused"),
        ({"time": now() - timedelta(days=500)}, "its certificate is refused: certificate has expired"),
        ({"tls": False}, "does not speak TLS"),
    ],
)
def test_a_server_that_is_not_the_federation_s_is_refused(patient, server, options, said):
    other = server(**options)
    card = patient.operator.card.model_copy(update={"address": f"localhost:{other.server_address[1]}"})
    install_kit(patient.folder, Path("kit"), patient.operator.answer(patient.request, card=card), None, now())
    assert said in problems(patient.examine())["address"]


def test_a_certificate_for_another_name_is_refused(patient, server, monkeypatch):
    monkeypatch.setattr("federation.certificates.LOCAL", ())
    other = server(host="fed.example.org")
    card = patient.operator.card.model_copy(update={"address": f"localhost:{other.server_address[1]}"})
    install_kit(patient.folder, Path("kit"), patient.operator.answer(patient.request, card=card), None, now())
    assert "Hostname mismatch" in problems(patient.examine())["address"]


def test_a_name_that_does_not_resolve(patient, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "is no name that this machine can resolve" in problems(patient.examine())["address"]


def test_the_machine_is_looked_at(patient, monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda: 1e6)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: SimpleNamespace(free=5e8))
    monkeypatch.setattr(machine, "flower_version", lambda: "1.30.0")
    found = problems(patient.examine())
    assert "are needed" in found["memory"]
    assert "0.50 GB free" in found["disk"]
    assert "pip install 'flwr[simulation]==1.41.0'" in found["flower"]


def test_a_federation_with_another_flower_is_named(patient):
    card = patient.operator.card.model_copy(update={"flower": "1.42.0"})
    install_kit(patient.folder, Path("kit"), patient.operator.answer(patient.request, card=card), None, now())
    assert "runs flwr 1.42.0" in problems(patient.examine())["kit"]


def test_a_gpu_that_is_there_passes(patient, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A100")
    assert patient.examine()["device"] == Finding("device", True, "cuda (A100)")


@pytest.mark.parametrize(("capable", "said"), [({}, True), ({"amx_bf16": True}, False)])
def test_bfloat16_is_advised_against_where_the_processor_does_not_multiply_it(
    patient, monkeypatch, capable, said
):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capable)
    patient.edit('# device = "auto"', 'device = "cpu"')
    assert "bfloat16" not in patient.examine()["device"].detail
    patient.edit('# scoring = "float32"', 'scoring = "bfloat16"')
    finding = patient.examine()["device"]
    assert finding.passed
    assert ('"float32" is several times faster' in finding.detail) == said


def test_a_service_that_asks_nobody_for_a_token_is_a_problem(patient, tmp_path):
    finding = patient.examine()["serving"]
    assert finding.passed
    assert "keys/serving.token" in finding.detail
    token = patient.folder.path / "keys" / "serving.token"
    assert token.read_text().strip() not in finding.detail
    token.chmod(0o644)
    finding = patient.examine()["serving"]
    assert (finding.passed, finding.unreadable) == (False, True)
    assert "chmod 600" in finding.detail
    token.unlink()
    assert "openssl rand" in patient.examine()["serving"].detail
    patient.edit("[serving]", "[serving]\nwithout_token = true")
    finding = patient.examine()["serving"]
    assert not finding.passed
    assert "any account of this machine" in finding.detail
    key, certificate = make_server_certificate(*make_authority("ours", now()), "localhost", now())
    create(tmp_path / "tls.key", key, 0o600)
    create(tmp_path / "tls.crt", certificate)
    files = (
        f'certificate = "{tmp_path}/tls.crt"\nkey = "{tmp_path}/tls.key"\nclient_ca = "{tmp_path}/tls.crt"\n'
    )
    patient.edit("without_token = true", f"without_token = true\n{files}")
    assert patient.examine()["serving"].passed, "callers show a certificate then"
    (tmp_path / "tls.key").chmod(0o644)
    assert not patient.examine()["serving"].passed


def test_a_check_that_breaks_is_a_problem_and_not_a_pass(patient, monkeypatch):
    monkeypatch.setattr(doctor, "check_encoders", lambda *_: 1 / 0)
    finding = patient.examine()["encoders"]
    assert not finding.passed
    assert "ZeroDivisionError" in finding.detail


def test_the_command_prints_and_ends_with_the_code(patient, capfd, monkeypatch):
    run = FrontDoor(capfd, before=("client", "doctor", "--folder", patient.folder.path))
    code, out, _ = run()
    assert (code, "All is well." in out) == (0, True)
    assert run.json()["ok"] is True
    code, out, _ = run("--epsilon", "9", "--format", "json")
    assert code == 1
    assert [c["check"] for c in json.loads(out)["checks"] if not c["passed"]] == ["budget"]
    patient.folder.secret.chmod(0o644)
    code, out, _ = run()
    assert (code, "PROBLEM  keys" in out, "1 of 18 checks found a problem." in out) == (4, True, True)


def test_clocks_have_the_benefit_of_a_second():
    start = now().replace(microsecond=0)
    told = start.strftime("%a, %d %b %Y %H:%M:%S GMT")

    def ahead(before, after):
        return reach._ahead(
            told, start + timedelta(seconds=before), start + timedelta(seconds=after)
        ).total_seconds()

    assert ahead(0.5, 0.6) == ahead(0.0, 1.0) == ahead(-0.2, 0.1) == 0
    assert ahead(4.5, 4.6) == 3.5
    assert ahead(-4.6, -4.5) == -4.5
