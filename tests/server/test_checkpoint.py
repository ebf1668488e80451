"""A checkpoint is whole or refused, and a crash never leaves half of one."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.ledger import Head
from server.checkpoint import NAME, Checkpoint, load_checkpoint, save_checkpoint
from shared_model.errors import CheckpointError


def make(number=3):
    rng = np.random.default_rng(number)
    arrays = {"a": rng.random((3, 4), dtype=np.float32), "b/c": rng.random(2)}
    heads = {"toys": Head("toys", number, "ab" * 32, "cd" * 32, "ef" * 64)}
    return Checkpoint("run-1", number, arrays, heads)


def test_what_is_saved_is_loaded(tmp_path):
    saved = make()
    save_checkpoint(tmp_path, saved)
    loaded = load_checkpoint(tmp_path)
    assert (loaded.run_id, loaded.round) == ("run-1", 3)
    assert loaded.heads == saved.heads
    assert set(saved.arrays) == set(loaded.arrays)
    for name, array in saved.arrays.items():
        np.testing.assert_array_equal(loaded.arrays[name], array)
        assert loaded.arrays[name].dtype == array.dtype
    loaded.arrays["a"] += 1  # copies of its own, not views of a file


def test_none_without_a_file_and_the_last_one_counts(tmp_path):
    assert load_checkpoint(tmp_path) is None
    for number in (1, 2):
        save_checkpoint(tmp_path, make(number))
    assert load_checkpoint(tmp_path).round == 2
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_not_contiguous_arrays_are_saved_as_they_look(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    save_checkpoint(tmp_path, Checkpoint("r", 0, {"a": array}))
    np.testing.assert_array_equal(load_checkpoint(tmp_path).arrays["a"], array)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(folder, make())
    return folder, (folder / NAME).read_bytes()


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_every_changed_byte_is_found(data, whole):
    folder, content = whole
    at = data.draw(st.integers(0, len(content) - 1))
    flip = data.draw(st.integers(1, 255))
    (folder / NAME).write_bytes(content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :])
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors"):
        load_checkpoint(folder)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_every_cut_and_every_addition_is_found(data, whole):
    folder, content = whole
    cut = content[: data.draw(st.integers(0, len(content) - 1))]
    longer = content + data.draw(st.binary(min_size=1, max_size=40))
    for bad in (cut, longer):
        (folder / NAME).write_bytes(bad)
        with pytest.raises(CheckpointError):
            load_checkpoint(folder)


@given(st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_garbage_is_refused(whole, data):
    folder, _ = whole
    (folder / NAME).write_bytes(data)
    with pytest.raises(CheckpointError, match="is not a whole checkpoint"):
        load_checkpoint(folder)


def test_another_version_is_refused(whole):
    folder, content = whole
    (folder / NAME).write_bytes(content.replace(b"fedcart checkpoint 3", b"fedcart checkpoint 2"))
    with pytest.raises(CheckpointError, match="of this version"):
        load_checkpoint(folder)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / NAME).mkdir()
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("point", ["fsync", "replace"])
def test_a_crash_while_saving_leaves_the_old_one(tmp_path, monkeypatch, point):
    save_checkpoint(tmp_path, make(1))

    def crash(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, point, crash)
        with pytest.raises(OSError, match="No space"):
            save_checkpoint(tmp_path, make(2))
    assert load_checkpoint(tmp_path).round == 1
    save_checkpoint(tmp_path, make(3))
    assert load_checkpoint(tmp_path).round == 3


SAVE_FOR_EVER = """
import sys
import numpy as np
from pathlib import Path
from server.checkpoint import Checkpoint, save_checkpoint
number = 0
while True:
    number += 1
    array = np.full(200_000, number, dtype=np.float32)
    save_checkpoint(Path(sys.argv[1]), Checkpoint("run-1", number, {"a": array}))
    print(number, flush=True)
"""


def test_killed_at_any_moment_it_leaves_a_whole_checkpoint(tmp_path):
    rounds = []
    for attempt in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", SAVE_FOR_EVER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        said = [int(process.stdout.readline()) for _ in range(3)][-1]
        time.sleep(0.0027 * attempt)
        process.send_signal(signal.SIGKILL)
        said = int(([said, *process.stdout.read().split()])[-1])
        process.wait()
        loaded = load_checkpoint(tmp_path)
        assert loaded.round in (said, said + 1)
        assert (loaded.arrays["a"] == loaded.round).all()
        rounds.append(loaded.round)
    assert min(rounds) >= 3
