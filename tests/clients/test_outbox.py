"""The outbox: one key, one content, whole or not at all."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.errors import OutboxError, RoundError
from clients.outbox import Outbox


def arrays(value):
    return {"a": np.full((3, 4), value, np.float32), "b": np.array([value], np.float32)}


def same(first, second):
    return set(first) == set(second) and all(np.array_equal(first[n], second[n]) for n in first)


def put(outbox, key, stored):
    outbox.put(key, stored)
    return outbox.get(key)


def test_what_is_put_is_got_and_the_first_stays(tmp_path):
    outbox = Outbox(tmp_path / "not" / "there")
    assert outbox.get("run/1") is None
    assert same(put(outbox, "run/1", arrays(1)), arrays(1))
    assert same(put(outbox, "run/1", arrays(2)), arrays(1))
    assert same(Outbox(tmp_path / "not" / "there").get("run/1"), arrays(1))
    assert outbox.get("run/2") is None
    assert same(put(outbox, "run/2", arrays(2)), arrays(2))
    assert len(list((tmp_path / "not" / "there").iterdir())) == 2


def test_keys_are_names_of_nothing_else(tmp_path):
    outbox = Outbox(tmp_path / "box")
    for key in ("../escape", "/etc/passwd", "a" * 5000, "a/b/c", ""):
        outbox.put(key, arrays(len(key)))
        assert same(outbox.get(key), arrays(len(key)))
    assert {path.name for path in tmp_path.iterdir()} == {"box"}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outbox")
    Outbox(folder).put("key", arrays(1))
    (path,) = folder.iterdir()
    return Outbox(folder), path, path.read_bytes()


@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_a_damaged_update_is_refused_and_not_made_again(data, stored):
    outbox, path, whole = stored
    at = data.draw(st.integers(0, len(whole) - 1))
    bad = whole[:at]
    if data.draw(st.booleans()):
        bad += bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    path.write_bytes(bad)
    with pytest.raises(OutboxError, match="damaged"):
        outbox.get("key")
    outbox.put("key", arrays(2))
    assert path.read_bytes() == bad


@pytest.mark.parametrize("point", ["fsync", "link"])
def test_on_a_full_disk_nothing_is_stored_and_nothing_stays_behind(tmp_path, monkeypatch, point):
    outbox = Outbox(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, point, full)
        with pytest.raises(OutboxError, match="No space left on device"):
            outbox.put("key", arrays(1))
    assert list(tmp_path.iterdir()) == []
    assert outbox.get("key") is None
    assert same(put(outbox, "key", arrays(2)), arrays(2))


def test_one_process_holds_it_and_the_others_are_told(tmp_path):
    outbox = Outbox(tmp_path / "box")
    with (
        outbox.held(),
        pytest.raises(RoundError, match="runs already") as busy,
        Outbox(tmp_path / "box").held(),
    ):
        pass
    assert busy.value.code == "round.busy"
    with outbox.held():
        pass


def test_its_id_is_made_once_and_copied_with_it(tmp_path):
    outbox = Outbox(tmp_path / "box")
    with outbox.held():
        made = outbox.id()
    assert outbox.id() == Outbox(tmp_path / "box").id() == made
    shutil.copytree(tmp_path / "box", tmp_path / "copy")
    assert Outbox(tmp_path / "copy").id() == made
    with Outbox(tmp_path / "other").held():
        assert Outbox(tmp_path / "other").id() != made


@pytest.mark.parametrize("damage", [b"", b"x" * 32, b"\xff" * 32, b"ab" * 15])
def test_an_id_that_is_none_is_refused(tmp_path, damage):
    (tmp_path / "id").write_bytes(damage)
    with pytest.raises(OutboxError, match="id"):
        Outbox(tmp_path).id()


def test_it_holds_nothing_that_its_ledger_does_not_know(tmp_path):
    outbox = Outbox(tmp_path)
    outbox.put("run/1", arrays(1))
    outbox.require_known({"run/1", "run/2"})
    for known in ({"run/2"}, set()):
        with pytest.raises(OutboxError, match="holds 1 updates that the ledger does not know"):
            outbox.require_known(known)


def test_a_folder_that_cannot_be_made_or_read_is_refused(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutboxError, match="cannot be stored"):
        Outbox(tmp_path / "file").put("key", arrays(1))
    with pytest.raises(OutboxError, match="cannot be made"), Outbox(tmp_path / "file").held():
        pass
    with pytest.raises(OutboxError, match="cannot be read"):
        Outbox(tmp_path / "file").get("key")


PUT = """
import sys
import numpy as np
from pathlib import Path
from clients.outbox import Outbox
outbox, mine = Outbox(Path(sys.argv[1])), float(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for key in range(40):
    array = np.full(20_000, mine, dtype=np.float32)
    outbox.put(f"key {key}", {"a": array})
    print(outbox.get(f"key {key}")["a"].mean(), flush=True)
"""


def test_processes_that_race_for_a_key_all_get_the_same(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PUT, str(tmp_path), str(n)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in (1, 2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    first, second = (process.communicate()[0].split() for process in processes)
    assert first == second
    assert len(first) == 40
    assert set(first) <= {"1.0", "2.0"}


PUT_FOR_EVER = """
import sys
import numpy as np
from pathlib import Path
from clients.outbox import Outbox
outbox, number = Outbox(Path(sys.argv[1])), int(sys.argv[2])
while True:
    number += 1
    print(number, flush=True)
    outbox.put(f"key {number}", {"a": np.full(200_000, number, dtype=np.float32)})
"""


def test_killed_at_any_moment_an_update_is_there_whole_or_not_at_all(tmp_path):
    for attempt in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", PUT_FOR_EVER, str(tmp_path), str(1000 * attempt)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3):
            process.stdout.readline()
        time.sleep(0.0019 * attempt)
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
        process.wait()
        last = 1000 * attempt + 3 + len(rest)
        for number in range(1000 * attempt + 1, last + 1):
            got = Outbox(tmp_path).get(f"key {number}")
            if number < last:  # the next one had begun, so this one was stored
                assert (got["a"] == number).all()
            else:
                assert got is None or (got["a"] == number).all()
        again = put(Outbox(tmp_path), f"key {last}", {"a": np.full(200_000, last, np.float32)})
        assert (again["a"] == last).all()
