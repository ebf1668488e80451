"""The worker beside Flower's own Runtime API of a SuperNode: its secret, its patience, its log."""

import json
import threading
import time

import pytest
import structlog
import uvicorn
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supernode.main import create_app
from flwr.supernode.nodestate import NodeStateFactory

from clients import tasks
from clients.enrol import init_folder
from clients.errors import DataError
from clients.processes import worker_arguments
from clients.site import SiteSettings
from clients.tasks import serve
from clients.template import SiteAnswers
from clients.worker import configure_log
from federation.errors import KeyFileError

SECRET = "shopper-4711"


@pytest.fixture
def folder(tmp_path):
    answers = SiteAnswers("toys", "groceries", tmp_path / "e", tmp_path / "i", 20, 9.0, 1e-6)
    return init_folder(tmp_path / "toys", answers)


class SuperNode:
    """The Runtime API of a SuperNode, with a secret, in a thread."""

    def __init__(self, secret: bytes, port: int = 0) -> None:
        app = create_app(NodeStateFactory(ObjectStoreFactory()), superexec_auth_secret=secret)
        self.server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)


@pytest.fixture
def supernode(folder):
    """Return what starts a SuperNode for the folder."""
    started = []

    def start(secret=None):
        node = SuperNode(secret or folder.secret.read_bytes())
        started.append(node)
        text = folder.site_file.read_text()
        folder.site_file.write_text(text.replace("# port = 9094", f"port = {node.port}"))
        return node

    yield start
    for node in started:
        node.stop()


def test_the_secret_decides_who_gets_tasks(folder, supernode):
    supernode(b"another secret")
    with pytest.raises(KeyFileError, match="does not accept this secret"):
        serve(folder, {}, threading.Event())


def test_a_supernode_that_is_away_is_waited_for(folder, supernode, monkeypatch, capsys):
    monkeypatch.setattr(tasks, "POLL_SECONDS", 0.02)
    node, stop, polls = supernode(), threading.Event(), []
    client = tasks._client(f"127.0.0.1:{node.port}", tasks._authentication(folder))
    acquire = type(client).AcquireTask

    def counted(self, request):
        answer = acquire(self, request)
        polls.append(request)
        return answer

    monkeypatch.setattr(type(client), "AcquireTask", counted)
    worker = threading.Thread(target=serve, args=(folder, {}, stop))
    worker.start()

    def polled(since):
        end = time.monotonic() + 30
        while len(polls) <= since:
            assert time.monotonic() < end
            time.sleep(0.01)

    polled(2)
    node.stop()
    time.sleep(0.2)
    again, count = SuperNode(folder.secret.read_bytes(), node.port), len(polls)
    polled(count)
    assert "flwr-agentapp" in polls[0].supported_task_types, "a task that nobody takes would hold the node up"
    stop.set()
    worker.join(10)
    assert not worker.is_alive()
    again.stop()
    assert "supernode-away" in capsys.readouterr().out


@pytest.mark.parametrize("vocabulary", [None, b"damaged"])
def test_a_platform_without_a_vocabulary_reads_its_tasks_so_that_they_are_refused_with_a_code(
    folder, vocabulary
):
    """Else the server would wait for an answer until its limit."""
    if vocabulary is not None:
        folder.vocabulary.write_bytes(vocabulary)
    assert tasks._seconds(folder) == tasks.READ_SECONDS


def test_content_that_never_comes_does_not_hold_the_worker_up(monkeypatch):
    """A task of a run that ended while the SuperNode fetched its message."""
    given_up = threading.Event()
    monkeypatch.setattr(tasks, "pull_task_input", lambda _: given_up.wait(30))
    with pytest.raises(TimeoutError):
        tasks._read(None, 0.05)
    given_up.set()


def test_what_goes_wrong_with_a_task_s_content_is_raised(monkeypatch):
    def fail(_):
        raise ValueError("broken")

    monkeypatch.setattr(tasks, "pull_task_input", fail)
    with pytest.raises(ValueError, match="broken"):
        tasks._read(None, 30)
    monkeypatch.setattr(tasks, "pull_task_input", lambda _: ("message", "context", "run", "bundle"))
    assert tasks._read(None, 30) == ("message", "context", "bundle")


def test_a_secret_that_others_can_read_is_not_used(folder):
    folder.secret.chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        serve(folder, {}, threading.Event())


def test_the_worker_does_not_import_from_the_current_folder(folder):
    arguments = worker_arguments(folder)
    assert arguments[1:4] == ["-P", "-m", "clients.worker"]


@pytest.fixture
def log(capfd, make_site):
    """Return what configures the log by a policy, writes what may happen, and returns the lines."""

    def write(level: str) -> list[dict]:
        site: SiteSettings = make_site("log", cap=None, policy={"log": level})
        configure_log(site)
        try:
            logger = structlog.get_logger("test")
            logger.error("refused", platform="toys", code="data", message=f"row 3: {SECRET}")
            try:
                raise DataError(SECRET)
            except DataError:
                logger.exception("failed", platform="toys")
        finally:
            structlog.reset_defaults()
        return [json.loads(line) for line in capfd.readouterr().err.splitlines()]

    return write


def test_by_default_a_log_holds_codes_only(log):
    lines = log("codes")
    assert [line["event"] for line in lines] == ["refused", "failed"]
    assert lines[0]["code"] == "data"
    assert SECRET not in json.dumps(lines)
    assert {key for line in lines for key in line} == {"event", "level", "time", "platform", "code"}


def test_messages_are_logged_where_the_policy_says_so(log):
    lines = log("messages")
    assert SECRET in lines[0]["message"]
    assert SECRET in lines[1]["exception"]
