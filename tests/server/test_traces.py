"""A run's spans follow from its events: rounds, who was left out, and how it ended; and a server's log lines."""

import json

import pytest
import structlog
from flwr.app import Context, RecordDict

from server.app import main
from shared_model.errors import RunFailedError
from tests.collector import collecting

SECRET = "shopper-4711"


@pytest.fixture(autouse=True)
def own_log():
    """Take back what the app configures for its process."""
    yield
    structlog.reset_defaults()


def run_app(kit, folder, answer, **settings):
    kit.settings(log="json", **settings).save(folder)
    context = Context(
        run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config={"run-dir": str(folder)}
    )
    main(kit.grid(4, answer, registered=lambda _: dict(enumerate(kit.names, 1))), context)


@pytest.fixture
def collector(monkeypatch):
    """Return a collector to which this process sends its spans."""
    with collecting() as made:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.endpoint)
        yield made


def partly(kit):
    """Food refuses, games is silent in round 2."""

    def answer(message, node):
        if node == 2:
            return kit.failing(message, "food:budget.refused")
        if node == 3 and message.content.config_records["config"]["round"] == 2:
            return None
        return kit.honest(message, node)

    return answer


def test_a_run_and_its_rounds_are_spans(kit, tmp_path, collector):
    run_app(kit, tmp_path, partly(kit))
    spans = collector.spans()
    rounds = {s.facts["round"]: s for s in spans if s.name == "round"}
    (run,) = (s for s in spans if s.name == "run")
    assert (run.facts["run"], run.facts["service.name"], set(rounds)) == (
        "run-1",
        "fedcart-server",
        {1, 2},
    )
    assert "code" not in run.facts
    assert [name for name, _ in rounds[1].events] == ["asked", "answered", "left-out"]
    left = [facts for name, facts in rounds[2].events if name == "left-out"]
    assert left == [
        {"platform": "food", "code": "budget.refused"},
        {"platform": "games", "code": "no-reply"},
    ]


def test_a_run_that_fails_ends_with_its_code_and_no_words(kit, tmp_path, collector):
    with pytest.raises(RunFailedError):
        run_app(kit, tmp_path, lambda message, _: kit.failing(message, SECRET))
    spans = {s.name: s for s in collector.spans()}
    assert spans["run"].facts["code"] == spans["round"].facts["code"] == "run-failed"
    assert SECRET.encode() not in b"".join(collector.bodies)


def test_every_line_of_a_server_s_log_carries_run_and_round(kit, tmp_path, capsys):
    run_app(kit, tmp_path, partly(kit))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert {line["run"] for line in lines} == {"run-1"}
    assert all("round" in line for line in lines if line["event"] not in {"started", "finished"})
    left = [
        (line["round"], line["platform"], line["code"]) for line in lines if line["event"] == "client-failed"
    ]
    assert left == [(n, "food", "budget.refused") for n in (1, 2)]
    assert not any("reason" in line for line in lines), "a client's words"
