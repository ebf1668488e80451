"""The audit log shows what was changed, survives kill -9 at any byte, and stops what it cannot record."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from federation.auditlog import FIRST, NAME, AuditLog, read_log
from federation.errors import FolderError, LogBrokenError


@pytest.fixture
def log(tmp_path):
    made = AuditLog(tmp_path)
    made.record(FIRST, {"federation": "groceries"})
    for platform in ("toys", "food"):
        with made.act("admit", platform=platform) as facts:
            facts["kit"] = 1
    return made


def lines(folder):
    return (folder / NAME).read_bytes().splitlines(keepends=True)


def test_who_did_what_stands_there_begun_and_done(log, tmp_path):
    found = read_log(tmp_path)
    assert (found.faults, found.cut) == ((), 0)
    assert [(e["action"], e["stage"], e["facts"]) for e in found.entries[:3]] == [
        ("init", "done", {"federation": "groceries"}),
        ("admit", "begun", {"platform": "toys"}),
        ("admit", "done", {"platform": "toys", "kit": 1}),
    ]
    assert all(e["who"] and e["time"].endswith("+00:00") for e in found.entries)


def test_what_fails_stands_there_with_its_code_and_fails_all_the_same(log, tmp_path):
    with pytest.raises(FolderError), log.act("revoke", platform="toys"):
        raise FolderError("secret words")
    last = read_log(tmp_path).entries[-1]
    assert (last["action"], last["stage"], last["facts"]["code"]) == ("revoke", "failed", "enrolment.folder")
    assert "secret" not in (tmp_path / NAME).read_text()


@pytest.mark.parametrize(
    "damage",
    [
        lambda ls: [ls[0], ls[1].replace(b"toys", b"food"), *ls[2:]],
        lambda ls: [*ls[:2], *ls[3:]],
        lambda ls: [ls[0], ls[2], ls[1], *ls[3:]],
        lambda ls: [*ls[:2], ls[1], *ls[2:]],
        lambda ls: ls[1:],
        lambda ls: [ls[0], ls[1].replace(b'{"', b'{ "', 1), *ls[2:]],
        lambda ls: [b"\xff\n", *ls[1:]],
        lambda ls: [b"7\n", *ls[1:]],
        lambda ls: [],
    ],
    ids=["edited", "removed", "swapped", "doubled", "first removed", "blank", "bytes", "number", "emptied"],
)
@pytest.mark.usefixtures("log")
def test_whatever_is_changed_is_found(tmp_path, damage):
    (tmp_path / NAME).write_bytes(b"".join(damage(lines(tmp_path))))
    assert read_log(tmp_path).faults


def test_a_log_that_was_removed_and_begun_anew_is_broken(log, tmp_path):
    (tmp_path / NAME).unlink()
    assert "is missing" in read_log(tmp_path).faults[0]
    log.record("kit", {"platform": "toys"})
    assert "begun anew" in read_log(tmp_path).faults[0]


def test_a_tail_that_was_cut_off_is_found_by_an_earlier_head(log, tmp_path):
    noted = read_log(tmp_path).head
    log.record("kit", {"platform": "toys"})
    assert noted in read_log(tmp_path).hashes
    (tmp_path / NAME).write_bytes(b"".join(lines(tmp_path)[:2]))
    assert read_log(tmp_path).faults == ()
    assert noted not in read_log(tmp_path).hashes


def test_a_write_torn_at_any_byte_is_taken_back(log, tmp_path):
    whole = (tmp_path / NAME).read_bytes()
    last = lines(tmp_path)[-1]
    for cut in range(1, len(last), 37):
        (tmp_path / NAME).write_bytes(whole[:-cut])
        assert read_log(tmp_path).cut == len(last) - cut
        log.record("kit", {"platform": "toys"})
        found = read_log(tmp_path)
        assert (found.faults, found.cut, len(found.entries)) == ((), 0, 5)


def test_nothing_is_written_after_a_changed_line(log, tmp_path):
    (tmp_path / NAME).write_bytes((tmp_path / NAME).read_bytes().replace(b'"kit":1', b'"kit": 2'))
    with pytest.raises(LogBrokenError):
        log.record("kit", {})


def test_what_cannot_be_written_down_is_not_begun(log, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    done = []
    with pytest.raises(FolderError, match="cannot be written"), log.act("admit", platform="toys"):
        done.append(True)
    assert done == []


def test_writers_take_turns(log, tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: log.record("kit", {"n": n}), range(40)))
    found = read_log(tmp_path)
    assert found.faults == ()
    assert {e["facts"]["n"] for e in found.entries[5:]} == set(range(40))


_WRITE = """
import sys
from pathlib import Path
from federation.auditlog import AuditLog
log = AuditLog(Path(sys.argv[1]))
n = 0
while True:
    log.record("kit", {"n": n})
    print(n, flush=True)
    n += 1
"""


@pytest.mark.usefixtures("log")
def test_kill_9_loses_nothing_that_was_said_to_be_written(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITE, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    for _ in range(20):
        said = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    rest = process.communicate()[0].split()
    said = int(rest[-1]) if rest else said
    AuditLog(tmp_path).record("start", {})
    found = read_log(tmp_path)
    assert (found.faults, found.cut) == ((), 0)
    written = [e["facts"]["n"] for e in found.entries if e["action"] == "kit"]
    assert written == list(range(len(written)))
    assert len(written) > said


def test_the_commands_show_and_verify_it(tmp_path, capfd):
    import fedcart

    folder = tmp_path / "fed"
    assert (
        fedcart.run(["server", "init", str(folder), "--name", "groceries", "--address", "localhost:9443"])
        == 0
    )
    assert fedcart.run(["server", "kit", "nobody", "--folder", str(folder)]) != 0
    capfd.readouterr()
    assert fedcart.run(["server", "log", "--folder", str(folder)]) == 0
    shown = capfd.readouterr().out
    assert "init done  address localhost:9443" in shown
    assert "kit begun  platform nobody" in shown
    assert "kit failed" in shown
    assert fedcart.run(["server", "log", "--folder", str(folder), "--verify", "--format", "json"]) == 0
    head = json.loads(capfd.readouterr().out)["head"]
    assert fedcart.run(["server", "log", "--folder", str(folder), "--head", head]) == 0
    assert "WHOLE" in capfd.readouterr().out
    assert fedcart.run(["server", "log", "--folder", str(folder), "--head", "0" * 64]) == 3
    (folder / NAME).write_bytes((folder / NAME).read_bytes().replace(b"nobody", b"someone"))
    assert fedcart.run(["server", "log", "--folder", str(folder), "--verify"]) == 3
    captured = capfd.readouterr()
    assert "BROKEN" in captured.out
    assert "does not follow the line before it" in captured.err
    assert fedcart.run(["server", "log", "--folder", str(tmp_path)]) == 2
    assert not (tmp_path / NAME).exists()
