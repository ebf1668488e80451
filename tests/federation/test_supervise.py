"""Children are kept running, stopped together, and nothing of them is left behind; one holder for each lock."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import structlog

from federation import supervise
from federation.errors import BusyError, FolderError
from federation.lock import held, is_held
from federation.supervise import Child, Supervisor, read_record

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and is not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def supervised(tmp_path):
    """Return what supervises children in a thread: where their states are, and what stops them."""
    running = []

    def run(*children):
        supervise.configure_log()
        stop, record = threading.Event(), tmp_path / "record.json"
        thread = threading.Thread(target=Supervisor(children, record).run, args=(stop,))
        thread.start()

        def end():
            stop.set()
            thread.join()

        running.append(end)
        return record, end

    yield run
    for end in running:
        end()
    structlog.reset_defaults()


@pytest.fixture
def log(capfd):
    """Return what reads the log's lines."""
    return lambda: [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def state(record, name):
    return read_record(record).get(name, {"state": None, "pid": None, "starts": 0, "exit": None})


def test_a_killed_child_is_started_again_and_stopped_at_the_end(supervised):
    record, end = supervised(Child("a", lambda: SLEEP, first=0.01))
    until(lambda: state(record, "a")["state"] == "running")
    first = state(record, "a")["pid"]
    os.kill(first, signal.SIGKILL)
    until(lambda: state(record, "a")["starts"] == 2)
    second = state(record, "a")["pid"]
    assert second != first
    assert alive(second)
    end()
    assert not alive(second)
    assert state(record, "a")["state"] == "stopped"
    assert state(record, "a")["exit"] == -signal.SIGTERM


@pytest.mark.parametrize("code", [0, 1])
def test_a_child_that_ends_at_once_is_started_with_growing_waits_whatever_its_code(log, supervised, code):
    record, end = supervised(
        Child("a", lambda: [sys.executable, "-c", f"raise SystemExit({code})"], 0.01, 0.04)
    )
    until(lambda: state(record, "a")["starts"] >= 5)
    assert state(record, "a")["exit"] == code
    end()
    ended = [line for line in log() if line["event"] == "ended"]
    assert [line["again_in_s"] for line in ended[:4]] == [0.01, 0.02, 0.04, 0.04]
    assert {line["exit"] for line in ended} == {code}


def test_a_child_that_ran_for_long_is_started_again_at_once(log, supervised, monkeypatch):
    monkeypatch.setattr(supervise, "STEADY", 0.0)
    record, end = supervised(Child("a", lambda: [sys.executable, "-c", ""], 0.01, 10.0))
    until(lambda: state(record, "a")["starts"] >= 3)
    end()
    ended = [line for line in log() if line["event"] == "ended"]
    assert {line["again_in_s"] for line in ended} == {0.01}


def test_what_cannot_be_started_is_tried_again_with_arguments_as_they_are_then(log, supervised):
    given = iter([["/no/such/program"], FolderError("away"), SLEEP])

    def arguments():
        found = next(given)
        if isinstance(found, Exception):
            raise found
        return found

    record, end = supervised(Child("a", arguments, first=0.01))
    until(lambda: state(record, "a")["state"] == "running")
    end()
    assert state(record, "a")["starts"] == 1
    reasons = [line["reason"] for line in log() if line["event"] == "cannot-start"]
    assert "/no/such/program" in reasons[0]
    assert reasons[1] == "away"


def test_a_child_that_does_not_end_is_killed_with_its_own_children(supervised, monkeypatch, tmp_path):
    monkeypatch.setattr(supervise, "GRACE", 0.5)
    stubborn = (
        "import signal, subprocess, sys, time, pathlib\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(tmp_path / 'other')!r}).write_text(str(other.pid))\n"
        "time.sleep(600)"
    )
    record, end = supervised(Child("a", lambda: [sys.executable, "-c", stubborn]))
    until(lambda: (tmp_path / "other").exists() and (tmp_path / "other").read_text())
    grandchild = int((tmp_path / "other").read_text())
    end()
    assert state(record, "a")["exit"] == -signal.SIGKILL
    until(lambda: not alive(grandchild))


def test_lines_are_json_and_only_those_that_may_pass(log, supervised):
    speak = [
        sys.executable,
        "-c",
        'print(\'{"event": "answered"}\'); print("shopper-4711"); print("{no json")',
    ]
    record, end = supervised(
        Child("silent", lambda: speak, first=30, passes=lambda _: False),
        Child("open", lambda: speak, first=30),
    )
    until(lambda: all(state(record, name)["exit"] == 0 for name in ("silent", "open")))
    end()
    lines = log()
    assert sum(line["event"] == "answered" for line in lines) == 2
    said = [(line["process"], line["line"]) for line in lines if line["event"] == "line"]
    assert said == [("open", "shopper-4711"), ("open", "{no json")]


SUPERVISE = """
import sys, threading
from pathlib import Path
from federation.supervise import Child, Supervisor
Supervisor([Child("a", lambda: [sys.executable, "-c", "import time; time.sleep(600)"])], Path(sys.argv[1])).run(
    threading.Event())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the system ends orphans on Linux only")
def test_children_end_with_a_supervisor_that_is_killed(tmp_path):
    record = tmp_path / "record.json"
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISE, str(record)], stderr=subprocess.DEVNULL)
    until(lambda: state(record, "a")["pid"])
    child = state(record, "a")["pid"]
    supervisor.kill()
    supervisor.wait()
    until(lambda: not alive(child))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"processes": 3}'])
def test_a_record_that_cannot_be_read_says_nothing(tmp_path, text):
    (tmp_path / "record").write_text(text)
    assert read_record(tmp_path / "record") == {}
    assert read_record(tmp_path / "none") == {}


HOLD = """
import sys, time
from pathlib import Path
from federation.lock import held
with held(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_lock_has_one_holder_who_is_named_and_whose_death_frees_it(tmp_path):
    lock = tmp_path / "lock"
    assert not is_held(lock)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    assert is_held(lock)
    with pytest.raises(BusyError) as busy, held(lock, "The node"):
        pass
    assert str(lock) in str(busy.value)
    assert f"process {holder.pid}" in str(busy.value)
    assert busy.value.exit_code == 4
    holder.kill()
    holder.wait()
    with held(lock, "The node"):
        assert is_held(lock)
    assert not is_held(lock)


def test_a_lock_that_cannot_be_made_is_said(tmp_path):
    with pytest.raises(FolderError, match="cannot be opened"), held(tmp_path / "no" / "lock", "it"):
        pass


def test_who_asks_after_a_lock_neither_takes_it_nor_sees_others_who_ask(tmp_path):
    """`status` and `run` ask at any moment: a start at that moment succeeds, and nobody is told that something runs."""
    lock, stop, seen = tmp_path / "lock", threading.Event(), []
    lock.touch()

    def ask():
        while not stop.is_set():
            seen.append(is_held(lock))

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    while len(seen) < 2000:
        time.sleep(0.01)
    stop.set()
    for thread in asking:
        thread.join()
    assert not any(seen)
    handle = os.open(lock, os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_SH)
    asked = threading.Timer(0.1, os.close, [handle])  # one who asks, slowly
    asked.start()
    with held(lock, "this"):
        assert is_held(lock)
    asked.join()
