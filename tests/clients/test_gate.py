"""The gate: only approved bundles of installed code lead to training, and a refusal says a code and nothing else."""

import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.common.serde import message_to_proto
from flwr.supercore.constant import TaskType
from structlog.testing import capture_logs

from clients import gate
from clients.enrol import init_folder, install_kit, write_request
from clients.folder import ClientFolder
from clients.gate import REFUSED, Task, answer
from clients.own_ledger import open_ledger
from clients.policy import approve
from clients.template import SiteAnswers
from federation.bundle import CLIENT_PACKAGES, build_bundle, digest, installed_code
from federation.validity import now
from privacy.ledger import Ledger, Receipt
from privacy.ledger.keys import make_key_file, public_hex
from shared_model.vocabulary_file import vocabulary_bytes
from tests.clients.conftest import VOCABULARY

SECRET = "shopper-4711-bought-a-secret"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BUNDLE, INSTALLED = build_bundle()[1], installed_code(CLIENT_PACKAGES)
pytestmark = pytest.mark.usefixtures("flower")


@pytest.fixture
def folder(tmp_path, make_site, operator) -> ClientFolder:
    """Return a member's folder, with data and an approved bundle."""
    data = make_site("data", cap=None)
    answers = SiteAnswers("toys", "groceries", data.events, data.items, 20, 9.0, 1e-6)
    made = init_folder(tmp_path / "toys", answers)
    kit = operator.answer(write_request(made, now()).file)
    install_kit(made, Path("kit"), kit, operator.fingerprint, now())
    approve(made.approvals, BUNDLE, INSTALLED, NOON)
    made.vocabulary.write_bytes(vocabulary_bytes(VOCABULARY))
    return made


@pytest.fixture
def call(folder, ask, start):
    """Return what sends a request through the gate."""

    def send(
        config=None, *, bundle=BUNDLE, kind=TaskType.CLIENT_APP, message_type="train", installed=INSTALLED
    ):
        content = RecordDict(
            {
                "arrays": ArrayRecord({name: Array(array) for name, array in start(ask).items()}),
                "config": ConfigRecord(ask.model_dump() | (config or {})),
            }
        )
        message = Message(content, dst_node_id=7, message_type=message_type)
        message.metadata.__dict__["_message_id"] = "request"
        run_config = {"run-dir": "/etc", "site": "/etc/passwd"}
        context = Context(
            run_id=1,
            node_id=7,
            node_config={"site": "/tmp/other.toml"},
            state=RecordDict(),
            run_config=run_config,
        )
        return answer(folder, installed, Task(kind, message, context, bundle), NOON)

    return send


def edit(folder, old, new):
    text = folder.site_file.read_text()
    assert old in text
    folder.site_file.write_text(text.replace(old, new))


def spent(folder):
    return open_ledger(folder.site()).budget().committed


def test_an_approved_request_is_trained_with_this_folder_s_settings(call, folder):
    reply = call()
    assert not reply.has_error(), reply.error
    assert dict(reply.content["receipt"])["platform"] == "toys"
    assert spent(folder) > 0
    assert (folder.path / "work" / "outbox").exists()


@pytest.mark.parametrize("server", ["postgresql", "mariadb"])
def test_a_ledger_in_a_database_is_charged_and_signs_the_receipt(call, folder, request, server):
    url, population = request.getfixturevalue(server), f"toys-{uuid.uuid4().hex[:8]}"
    key = make_key_file(folder.path / "keys" / "ledger.key")
    Ledger.create(url, population=population, epsilon_cap=9.0, delta=1e-6, key=key)
    edit(folder, "# population =", f'population = "{population}"')
    edit(folder, 'ledger = "ledger.sqlite"', f'ledger = "{url}"')
    edit(folder, '# ledger_key = "keys/ledger.key"', 'ledger_key = "keys/ledger.key"')
    reply = call()
    assert not reply.has_error(), reply.error
    receipt = Receipt.from_mapping(dict(reply.content["receipt"]))
    receipt.check()
    assert receipt.head.public_key == public_hex(key.public_key())
    assert receipt.committed == spent(folder) > 0
    (folder.path / "keys" / "ledger.key").unlink()
    assert call({"round": 2}).error.reason == "toys:ledger.unreadable"


def test_the_log_shows_what_a_run_costs_before_it_and_the_budget_after_each_round(call, folder):
    with capture_logs() as log:
        call()
    costs, budget = (line for line in log if line["event"] in {"run-costs", "budget"})
    assert (costs["event"], costs["epsilon_before"], costs["epsilon_cap"]) == ("run-costs", 0, 9)
    assert budget["epsilon"] == pytest.approx(spent(folder), abs=1e-3)
    assert 0 < budget["epsilon"] <= costs["epsilon_after"] <= 9
    assert budget["epsilon_left"] == pytest.approx(9 - spent(folder), abs=1e-3)
    with capture_logs() as log:
        call({"round": 2})
    assert "run-costs" not in {line["event"] for line in log}


def test_the_app_of_the_bundle_is_never_loaded(call, folder, monkeypatch):
    """What runs is the app that this process imported when it started."""
    ran = []
    monkeypatch.setattr(
        gate,
        "take_part",
        lambda _, message: ran.append("installed") or Message(RecordDict(), reply_to=message),
    )
    monkeypatch.setattr("flwr.cli.install.install_from_fab", lambda *_, **__: ran.append("bundle"))
    call()
    assert ran == ["installed"]


REFUSALS = [
    ("policy.bundle", {"bundle": b"anything"}, {}),
    ("policy.bundle", {"bundle": BUNDLE + b"\n"}, {}),
    ("policy.bundle", {"installed": INSTALLED | {"clients/app.py": b"newer"}}, {}),
    ("policy.task", {"kind": TaskType.AGENT_APP}, {}),
    ("policy.task", {"kind": TaskType.SERVER_APP}, {}),
    ("policy.task", {"kind": "flwr-future"}, {}),
    ("policy.task", {"message_type": "evaluate"}, {}),
    ("policy.task", {"message_type": "query"}, {}),
    ("policy.epsilon", {}, {"epsilon": 9.5}),
    ("policy.epsilon", {}, {"epsilon": 0.0}),
    ("policy.delta", {}, {"delta": 1e-5}),
    ("policy.terms", {}, {"encoders": "tinier"}),
    ("policy.vocabulary", {}, {"vocabulary": "0" * 64}),
    ("policy.vocabulary", {}, {"products": 79}),
    ("policy.vocabulary", {}, {"edges": 7}),
    ("bad-input", {}, {"round": 3}),
    ("bad-input", {}, {"share": 2.0}),
    ("bad-input", {}, {"share": 1.0}),
    ("bad-input", {}, {"products": -1}),
    ("bad-input", {}, {"rounds": 0}),
    ("bad-input", {}, {"more": 1}),
]


@pytest.mark.parametrize(("code", "task", "config"), REFUSALS)
def test_a_refusal_is_a_code_and_trains_nothing(call, folder, monkeypatch, code, task, config):
    monkeypatch.setattr(gate, "take_part", lambda *_: pytest.fail("the app was called"))
    reply = call(config, **task)
    assert (reply.error.code, reply.error.reason) == (REFUSED, f"toys:{code}")
    assert spent(folder) == 0
    assert not (folder.path / "work").exists()


@pytest.mark.parametrize(
    ("code", "old", "new"),
    [
        ("policy.quiet-hours", '# quiet_hours = ["08:00-20:00"]', 'quiet_hours = ["08:00-20:00"]'),
        ("policy.epsilon", "# epsilon_per_run = 2.0", "epsilon_per_run = 2.0"),
        ("policy.cap", "epsilon_cap = 9.0", "epsilon_cap = 8.5"),
        ("policy.noise", "work = ", "reproducible_noise = true\nwork = "),
        ("site", "population_size = 20", "population_size = 0"),
    ],
)
def test_a_change_of_client_toml_counts_at_once(call, folder, code, old, new):
    edit(folder, old, new)
    reason = call().error.reason
    assert reason.endswith(f":{code}")


def test_a_deleted_approval_counts_at_once(call, folder):
    text = folder.approvals.read_text()
    folder.approvals.write_text(text.replace(digest(BUNDLE), f"# {digest(BUNDLE)}"))
    assert call().error.reason == "toys:policy.bundle"


@pytest.mark.parametrize("change", ["unlink", "garbage", "unreadable"])
def test_what_cannot_be_read_is_refused(call, folder, change):
    if change == "unlink":
        folder.approvals.unlink()
    else:
        folder.approvals.write_bytes(b"abc\n" if change == "garbage" else b"\xff\n")
    assert call().error.reason in ("toys:policy.bundle", "toys:site", "toys:enrolment.folder")
    assert spent(folder) == 0


def test_without_a_ledger_nothing_is_trained_and_none_is_made(call, folder):
    (folder.path / "ledger.sqlite").unlink()
    assert call().error.reason == "toys:ledger.unreadable"
    assert not (folder.path / "ledger.sqlite").exists()


def test_without_a_kit_nothing_is_trained(call, folder):
    folder.record.unlink()
    assert call().error.reason == "toys:site"


def test_a_bug_says_nothing(call, folder, monkeypatch):
    def fail(*_):
        raise RuntimeError(SECRET)

    for name in ("take_part", "require_plan", "open_ledger"):
        with monkeypatch.context() as patch:
            patch.setattr(gate, name, fail)
            reply = call()
        assert reply.error.reason == "toys:internal"
        assert SECRET.encode() not in message_to_proto(reply).SerializeToString()


def test_reasons_do_not_depend_on_the_data(call, folder):
    """The same refusals with other data, and with none."""
    before = [call(config, **task).error.reason for _, task, config in REFUSALS]
    site = folder.site()
    site.events.write_text(f"user_id,item_id,timestamp\n{SECRET},{SECRET},never\n")
    assert [call(config, **task).error.reason for _, task, config in REFUSALS] == before
    shutil.rmtree(site.events.parent)
    assert [call(config, **task).error.reason for _, task, config in REFUSALS] == before


def test_a_lower_cap_put_into_the_ledger_is_accepted(call, folder):
    edit(folder, "epsilon_cap = 9.0", "epsilon_cap = 8.5")
    Ledger.open(folder.path / "ledger.sqlite", population="toys").change_cap(8.5, "test")
    assert not call().has_error()
