"""Traces: nothing where nobody asked, and spans of codes and names where somebody did."""

import json
import os
import subprocess
import sys

import pytest

from federation.telemetry import exporting, is_asked_for, span
from shared_model.errors import BadInputError
from tests.collector import collecting

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
SECRET = "shopper-4711"


@pytest.fixture(autouse=True)
def nobody_asked(monkeypatch):
    for name in (ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


def python(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=True
    )


USES = """
import sys
{before}
from federation.supervise import configure_log
from federation.telemetry import exporting, span
import clients.tasks, server.app
configure_log()
with exporting("fedcart-test"), span("run", run="r") as recorded:
    recorded.tell("asked")
    recorded.code("data")
print(any(name.startswith("opentelemetry") for name in sys.modules))
"""


def test_where_nobody_asks_nothing_is_imported():
    assert python(USES.format(before="")).stdout.strip() == "False"


def test_without_the_extra_the_log_says_so_and_nothing_else_changes():
    done = python(
        USES.format(before="sys.modules['opentelemetry'] = None"), **{ENDPOINT: "http://127.0.0.1:1"}
    )
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["event"] == "telemetry-not-installed"


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, False),
        ({ENDPOINT: ""}, False),
        ({ENDPOINT: "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({ENDPOINT: "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_the_standard_variables_decide(monkeypatch, environment, asked):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_asked_for() is asked


def test_server_and_platforms_write_one_trace_of_a_run(monkeypatch):
    with collecting() as collector:
        monkeypatch.setenv(ENDPOINT, collector.endpoint)
        with exporting("fedcart-server"), span("run", run="r1"), span("round", run="r1", round=1) as one:
            one.tell("left-out", platform="toys", code="data")
        with exporting("fedcart-platform", platform="toys"), span("message", run="r1", round=1):
            pass
        with exporting("fedcart-server"), span("run", run="r2"):
            pass
    found = {(s.name, s.facts["run"]): s for s in collector.spans()}
    run, asked, message, other = (
        found[key] for key in (("run", "r1"), ("round", "r1"), ("message", "r1"), ("run", "r2"))
    )
    assert run.trace == asked.trace == message.trace != other.trace
    assert asked.parent not in (run.parent, message.parent), "a round is within its run"
    assert asked.events == [("left-out", {"platform": "toys", "code": "data"})]
    assert (asked.facts["round"], message.facts["platform"]) == (1, "toys")


class ForeignError(Exception):
    """Another library's error: what it calls its code may be anything."""

    code = SECRET


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadInputError(SECRET), "bad-input"),
        (ValueError(SECRET), "internal"),
        (ForeignError(), "internal"),
    ],
)
def test_an_error_leaves_its_code_and_none_of_its_words(monkeypatch, error, code):
    with collecting() as collector:
        monkeypatch.setenv(ENDPOINT, collector.endpoint)
        with pytest.raises(type(error)), exporting("fedcart-platform"), span("training", run="r", round=2):
            raise error
    (seen,) = collector.spans()
    assert (seen.facts["code"], seen.events) == (code, [])
    assert SECRET.encode() not in b"".join(collector.bodies)


def test_a_collector_that_is_away_holds_nobody_up(monkeypatch):
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    done = []
    with exporting("fedcart-server"), span("run", run="r"):
        done.append("work")
    assert done == ["work"]
