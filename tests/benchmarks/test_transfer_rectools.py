"""RecTools' models as methods of the transfer benchmark: what goes out, what is chosen, when training ends."""

import itertools
import stat
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from benchmarks.transfer.cells import Cell, CellStore
from benchmarks.transfer.platforms import Audience
from benchmarks.transfer.rectools import RecTools, Vectors, write_exchange
from benchmarks.transfer.run import NotRun, jobs, run
from clients.evaluation import evaluate

FAKE = """
import json, sys, time
from pathlib import Path
import numpy as np, pandas as pd, pyarrow as pa, pyarrow.parquet as pq
exchange = Path(sys.argv[4])
settings = json.loads((exchange / "settings.json").read_text())
with (exchange.parent / "calls").open("a") as file:
    file.write(json.dumps([settings["seed"], settings["epochs"], settings["options"]]) + "\\n")
if settings["options"].get("fail"):
    sys.exit("no such option: fail")
width = len(pq.read_table(exchange / "features.parquet"))
for epoch in settings["epochs"]:
    folder = exchange / f"epoch-{epoch:04}"
    folder.mkdir(exist_ok=True)
    def write(name, key, ids, rows):
        column = pa.FixedSizeListArray.from_arrays(pa.array(rows.astype("float32").ravel()), width)
        pq.write_table(pa.table({key: ids, "vector": column}), folder / name)
    # Scores are the item's number times a sign that decides how good the setting and the epoch are.
    good = settings["options"]["good"] and epoch == 2
    for part in ("valid", "test"):
        events = pd.read_parquet(exchange / f"{part}.parquet")
        users = np.sort(events["user"].unique())
        rows = np.zeros((len(users), width))
        for row, user in enumerate(users):
            mine = events[events["user"] == user]["item"].to_numpy()
            rows[row, (mine + 1) % width] = 1.0 if good else -1.0
        write(f"{part}.parquet", "user", users, rows)
    write("items.parquet", "item", np.arange(width), np.eye(width))
    print(f"snapshot {epoch}", file=sys.stderr, flush=True)
    if epoch == settings["options"].get("until_stopped"):
        for _ in range(1200):
            time.sleep(0.05)
            if (exchange / "stop").exists():
                break
        else:
            sys.exit("nobody said stop")
        break
(exchange / "done.json").write_text(json.dumps({"seconds": 0.0, "versions": {}}))
"""


@pytest.fixture
def fake_rectools(tmp_path, monkeypatch):
    """Stand in for RecTools' interpreter: good users' vectors only for setting `good` after epoch 2."""
    script, shim = tmp_path / "fake.py", tmp_path / "python"
    script.write_text(FAKE, "utf-8")
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n', "utf-8")
    shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("FEDCART_RECTOOLS_PYTHON", str(shim))


def test_rectools_settings_are_chosen_on_validation_by_the_first_seed_only(
    platforms, alpha, tmp_path, fake_rectools
):
    audience = Audience(walking(alpha), None)
    tuning = platforms.study.sasrec.model_copy(update={"grid": [{"good": False}, {"good": True}]})
    method = RecTools(platforms, "sasrec", tuning)
    served = method.fit(0, tmp_path / "work", print)(audience)
    assert served.notes["options"] == {"good": True}
    assert served.notes["epoch"] == 2
    ranking = evaluate(audience.platform, served.scorer, "test", audience.platform.test_users)
    assert np.median(ranking.ranks) < 10
    method.fit(1, tmp_path / "work", print)(audience)
    method.fit(0, tmp_path / "work", print)(audience)
    calls = (tmp_path / "work" / "alpha-all" / "calls").read_text("utf-8").splitlines()
    assert calls == [
        '[0, [1, 2], {"good": false}]',
        '[0, [1, 2], {"good": true}]',
        '[1, [2], {"good": true}]',
    ]


def test_training_ends_when_two_looks_are_no_better_than_one_before(
    platforms, alpha, tmp_path, fake_rectools, monkeypatch
):
    monkeypatch.setattr("benchmarks.transfer.rectools.LEAST_PASSES", 4 * len(alpha))
    # Only epoch 2 is good, and the stand-in does not go on after epoch 4 unless it is told to stop.
    options = {"good": True, "until_stopped": 4}
    tuning = platforms.study.sasrec.model_copy(update={"grid": [options], "epochs": [1, 2, 3, 4, 5]})
    method = RecTools(platforms, "sasrec", tuning)
    served = method.fit(0, tmp_path / "work", print)(Audience(walking(alpha), None))
    assert served.notes["epoch"] == 2
    made = sorted(path.name for path in (tmp_path / "work" / "alpha-all" / "seed0-0").glob("epoch-*"))
    assert made == ["epoch-0001", "epoch-0002", "epoch-0003", "epoch-0004"]


def test_a_large_platform_trains_the_first_setting_with_the_first_seed_only(
    platforms, alpha, tmp_path, fake_rectools
):
    settings = {"grid": [{"good": False}, {"good": True}], "tuned_up_to": len(alpha) - 1}
    tuning = platforms.study.sasrec.model_copy(update=settings)
    method = RecTools(platforms, "sasrec", tuning)
    assert method.fit(0, tmp_path, print)(Audience(walking(alpha), None)).notes["options"] == {"good": False}
    few = Audience(walking(alpha), 40)
    assert method.fit(0, tmp_path, print)(few).notes["options"] == {"good": True}, "40 are not many"
    changed = replace(platforms, study=platforms.study.model_copy(update={"sasrec": tuning}))
    assert [job.seed for job in jobs(changed, ["sasrec", "alpha"])] == [0]
    assert [job.seed for job in jobs(platforms, ["sasrec", "alpha"])] == [0, 1]


def test_later_seeds_train_what_a_cell_says_was_chosen_where_its_folder_is_gone(
    platforms, tmp_path, fake_rectools
):
    tuning = platforms.study.sasrec.model_copy(update={"grid": [{"good": False}, {"good": True}]})
    changed = replace(platforms, study=platforms.study.model_copy(update={"sasrec": tuning}))
    first, second = jobs(changed, ["sasrec", "alpha"])
    store = CellStore(tmp_path / "cells")
    told = {"options": {"good": True}, "epoch": 1}
    for audience in first.audiences:
        store.save(*first.cell(audience), Cell(np.ones(1), None, 0.0, told))
    assert run(changed, [first, second], tmp_path, print) == []
    calls = (tmp_path / "work" / "sasrec" / "alpha-all" / "calls").read_text("utf-8").splitlines()
    assert calls == ['[1, [1], {"good": true}]']


def walking(platform):
    """Let every shopper go on from item i to i + 1, which the stand-in's good vectors say."""
    split = platform.split
    items = np.concatenate(
        [np.arange(b - a) + u for u, (a, b) in enumerate(itertools.pairwise(split.sequences.offsets))]
    )
    items %= len(platform.catalogue)
    sequences = replace(split.sequences, items=items)
    walk = replace(
        split, sequences=sequences, valid_target=items[split.train_end], test_target=items[split.valid_end]
    )
    return replace(platform, split=walk)


def test_a_failing_model_is_reported_with_its_last_words_and_others_go_on(platforms, tmp_path, fake_rectools):
    tuning = platforms.study.sasrec.model_copy(update={"grid": [{"fail": True}]})
    study = platforms.study.model_copy(update={"sasrec": tuning})
    changed = replace(platforms, study=study)
    todo = jobs(changed, ["sasrec", "popularity", "alpha"])
    left_out = run(changed, todo[::-1], tmp_path / "out", print)
    assert [(job.method, job.failed) for job in left_out] == [("sasrec", True), ("sasrec", True)]
    assert "no such option: fail" in left_out[0].reason
    assert CellStore(tmp_path / "out" / "cells").load(*todo[0].cell(todo[0].audiences[0])) is not None


def test_the_exchange_holds_no_held_out_item(alpha, tmp_path):
    few = Audience(alpha, 40).own(0)
    write_exchange(tmp_path, few, alpha)
    for part, platform in (("train", few), ("valid", few), ("test", alpha)):
        events = pd.read_parquet(tmp_path / f"{part}.parquet")
        for user in range(len(platform)):
            mine = events[events["user"] == user].sort_values("position")["item"].to_numpy()
            np.testing.assert_array_equal(mine, platform.split.history(part, user)[0])
    features = pq.read_table(tmp_path / "features.parquet").column("vector").to_numpy()
    np.testing.assert_array_equal(np.stack(features), alpha.features.numpy())


def test_items_that_a_model_does_not_know_rank_last():
    vectors = Vectors(
        {"test": torch.tensor([[1.0]])},
        torch.tensor([[-5.0], [0.0], [3.0]]),
        torch.tensor([True, False, True]),
    )
    assert vectors.scores("test", np.array([0])).tolist() == [[-5.0, -torch.inf, 3.0]]


def test_not_run_is_told_apart_from_failed(platforms, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDCART_RECTOOLS_PYTHON", "/nowhere/python")
    [job] = run(platforms, jobs(platforms, ["sasrec", "alpha"])[:1], tmp_path, print)
    assert isinstance(job, NotRun)
    assert not job.failed
