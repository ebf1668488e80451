"""What `fedcart server status` says: processes, members, runs; and its exit code."""

import json
import os

import pytest

import fedcart
from federation.files import replace
from federation.lock import held
from federation.validity import now
from server import enrol
from server.app import LOCK, MODEL
from server.events import EventLog
from server.folder import OperatorSettings
from server.status import server_status


@pytest.fixture
def folder(tmp_path):
    return enrol.init_folder(tmp_path / "fed", OperatorSettings(name="g", address="localhost:9443"), now())


@pytest.fixture
def place(kit, folder):
    place = folder.runs / "run-1"
    place.mkdir(parents=True)
    kit.settings().save(place)
    return place


def show(folder, capfd):
    code = fedcart.run(["server", "status", "--folder", str(folder.path), "--format", "json"])
    return code, json.loads(capfd.readouterr().out)


def test_a_server_that_does_not_run_is_said_and_exits_with_1(folder, capfd):
    code, status = show(folder, capfd)
    assert (code, status["running"], status["runs"], status["members"]) == (1, False, [], [])
    assert fedcart.run(["server", "status", "--folder", str(folder.path)]) == 1
    assert "is not running; start it: fedcart server start" in capfd.readouterr().out


@pytest.mark.parametrize(("second", "code"), [("running", 0), ("waiting", 1)])
def test_all_processes_must_run(folder, capfd, second, code):
    states = {"superlink": {"state": "running", "starts": 1}, "superexec": {"state": second, "starts": 9}}
    replace(folder.server_record, json.dumps({"pid": os.getpid(), "processes": states}).encode())
    with held(folder.lock, "it"):
        assert show(folder, capfd)[0] == code
    assert show(folder, capfd)[0] == 1, "a record of a server that is gone says nothing"


def test_a_run_s_state_is_what_happened(kit, folder, place):
    def state():
        (run,) = server_status(folder)["runs"]
        return run["state"], run["round"]

    assert state() == ("interrupted", 0)
    EventLog(place).write("round", round=1, platforms=["toys"], epsilon={"toys": 1.5}, caps={"toys": 8.0})
    with held(place / LOCK, "it"):
        assert state() == ("running", 1)
    EventLog(place).write("failed", code="x", exit_code=1, message="It broke.")
    assert state() == ("failed", 1)
    (place / MODEL).write_bytes(b"")
    assert state() == ("finished", 1)
    (place / "federation.json").write_text("{")
    assert server_status(folder)["runs"][0]["state"] == "unreadable"
