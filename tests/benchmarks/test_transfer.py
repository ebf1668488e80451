"""The whole benchmark on made-up shops: what it writes, how it continues, how it refuses."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.transfer.__main__ import main
from shared_model.metrics import ndcg_at

PROJECT = Path(__file__).parents[2]
RECTOOLS = PROJECT / ".venv-rectools" / "bin" / "python"


@dataclass(frozen=True)
class Done:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        """The report that `--format json` prints."""
        return json.loads(self.out)


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of a command: no data and no RecTools unless a test says so."""
    kept = {k: v for k, v in os.environ.items() if k not in {"FEDCART_DATA", "COLUMNS"}}
    return kept | {"OMP_NUM_THREADS": "1", "FEDCART_RECTOOLS_PYTHON": "/nowhere/python"} | changes


def command(*arguments: str | Path) -> list[str]:
    """Return the command line of the benchmark."""
    return [sys.executable, "-m", "benchmarks.transfer", *map(str, arguments)]


def transfer(*arguments: str | Path, **changes: str) -> Done:
    """Run the benchmark to its end."""
    done = subprocess.run(
        command(*arguments),
        cwd=PROJECT,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def numbers(report: dict[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return the results without how long things took."""
    return {
        (platform, label, method): {k: v for k, v in entry.items() if k != "notes"}
        for platform, audiences in report["results"].items()
        for label, methods in audiences.items()
        for method, entry in methods.items()
    }


@dataclass(frozen=True)
class QuickRun:
    """A finished quick run and its folder."""

    folder: Path
    done: Done


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> QuickRun:
    """Run `--quick` once, without RecTools."""
    folder = tmp_path_factory.mktemp("transfer") / "run"
    return QuickRun(folder, transfer("--quick", "--out", folder, "--format", "json"))


def test_a_quick_run_fills_every_cell_but_those_of_a_missing_environment(quick):
    assert quick.done.code == 0, quick.done.err
    report = quick.done.report
    assert {job["method"] for job in report["not_run"]} == {"sasrec", "unisrec"}
    assert all("make bench-env" in job["reason"] and not job["failed"] for job in report["not_run"])
    per_method = 2 * (3 + 2)  # seeds × (members, newcomer with 40 and with all shoppers)
    assert report["cells"]["total"] - report["cells"]["done"] == 2 * per_method
    for member in ("alpha", "beta", "gamma"):
        assert {label: set(found) for label, found in report["results"][member].items()} == {
            "all": {"popularity", "prior", "own"}
        }
    assert set(report["results"]["delta"]) == {"zero-shot", "40-shot", "all"}
    assert set(report["results"]["delta"]["zero-shot"]) == {"popularity", "prior"}


def test_the_report_is_the_stored_ranks(quick):
    report = quick.done.report
    for platform, label, method in (
        ("alpha", "all", "own"),
        ("delta", "zero-shot", "prior"),
        ("delta", "40-shot", "own"),
    ):
        files = sorted((quick.folder / "cells" / method / f"{platform}-{label}").glob("*.parquet"))
        seeds = [ndcg_at(pd.read_parquet(file)["rank"].to_numpy(), 10).mean() for file in files]
        entry = report["results"][platform][label][method]["ndcg@10"]
        assert entry["seeds"] == pytest.approx(seeds, abs=0)
        assert entry["mean"] == pytest.approx(np.mean(seeds))
        assert entry["low"] <= entry["mean"] <= entry["high"]


def test_filtering_seen_items_never_makes_a_rank_worse(quick):
    for file in (quick.folder / "cells").rglob("seed0.parquet"):
        ranks = pd.read_parquet(file)
        assert (ranks["rank"] <= ranks["rank_unfiltered"]).all(), file
        assert (ranks["rank"] < ranks["rank_unfiltered"]).any(), file


def test_markdown_and_curve_are_written(quick):
    text = (quick.folder / "report.md").read_text("utf-8")
    for part in (
        "## delta, zero-shot",
        "make bench-env",
        "learning.svg",
        "p (Holm)",
    ):
        assert part in text
    assert (quick.folder / "learning.svg").read_text("utf-8").startswith("<?xml")
    assert json.loads((quick.folder / "report.json").read_text("utf-8")) == quick.done.report


def test_a_second_run_computes_nothing_and_reports_the_same(quick):
    again = transfer("--quick", "--out", quick.folder, "--format", "json", "--only", "own")
    assert again.code == 0
    assert "seed" not in again.err
    assert numbers(again.report) == numbers(quick.done.report)


def test_a_damaged_cell_is_made_again_and_the_others_are_kept(quick, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(quick.folder, folder)
    cell = folder / "cells" / "prior" / "alpha-all" / "seed0.parquet"
    cell.write_bytes(cell.read_bytes()[:100])
    again = transfer("--quick", "--out", folder, "--format", "json", "--only", "prior")
    assert again.err.count("NDCG@10") == 1
    assert numbers(again.report) == numbers(quick.done.report)


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_numbers(quick, tmp_path):
    folder = tmp_path / "run"
    arguments = ("--quick", "--out", folder, "--format", "json")
    for cells in (4, 10):  # killed twice, at different places
        process = subprocess.Popen(
            command(*arguments),
            cwd=PROJECT,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and len(list((folder / "cells").rglob("*.json"))) < cells:
            time.sleep(0.02)
        assert process.poll() is None, "the run ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = {p: p.stat().st_mtime_ns for p in (folder / "cells").rglob("*.json")}
    assert len(kept) >= 10
    done = transfer(*arguments)
    assert done.code == 0, done.err
    assert numbers(done.report) == numbers(quick.done.report)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept


def test_a_run_that_waits_for_another_says_so(tmp_path):
    folder = tmp_path / "work" / "popularity"
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        process = subprocess.Popen(
            command("--quick", "--only", "popularity", "--out", tmp_path),
            cwd=PROJECT,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        silent = threading.Timer(120, process.kill)
        silent.start()
        said = next((line for line in process.stderr if "another process" in line), "")
        silent.cancel()
        assert "popularity" in said
        assert str(tmp_path) in said
        assert process.poll() is None
        assert not (tmp_path / "cells" / "popularity").exists()
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    assert any((tmp_path / "cells" / "popularity").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--quick", "--only", "prio"], "prior"),
        (["--quick", "--newcomer", "omega"], "omega"),
        ([], "FEDCART_DATA"),
        (["--data", "nowhere"], "nowhere"),
        (["--data", "x", "--study", "missing.toml"], "missing.toml"),
    ],
)
def test_what_cannot_be_used_is_named(arguments, says, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("FEDCART_DATA", raising=False)
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert "Traceback" not in told


def test_another_newcomer_leaves_the_old_one_out(tmp_path, capsys):
    arguments = ["--quick", "--newcomer", "alpha", "--only", "popularity", "--format", "json"]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 0
    report = json.loads(capsys.readouterr().out)
    roles = {name: platform["role"] for name, platform in report["platforms"].items()}
    assert roles == {"alpha": "newcomer", "beta": "member", "gamma": "member"}


@pytest.mark.slow
@pytest.mark.skipif(not RECTOOLS.exists(), reason="RecTools' environment is not there: make bench-env")
def test_rectools_models_train_in_their_own_environment(tmp_path):
    done = transfer(
        *("--quick", "--only", "sasrec", "--only", "unisrec", "--only", "alpha"),
        *("--format", "json", "--out", tmp_path / "run"),
        FEDCART_RECTOOLS_PYTHON=str(RECTOOLS),
    )
    assert done.code == 0, done.err
    results = done.report["results"]["alpha"]["all"]
    for method in ("sasrec", "unisrec"):
        assert results[method]["seeds"] == 2
        assert results[method]["notes"][0]["versions"]["RecTools"] == "0.19.0"


SAME_LOSS = """
import sys
sys.path.insert(0, "benchmarks/rectools")
import numpy as np, pandas as pd, torch, train
from rectools.dataset import Dataset
from rectools.fast_transformers.unisrec.net import UniSRecNet
from rectools.models.nn.transformers.lightning import TransformerLightningModule
rng = np.random.default_rng(0)
rows = [(u, i, t) for u in range(300) for t, i in enumerate(rng.choice(40, size=rng.integers(2, 9), replace=False))]
events = pd.DataFrame(rows, columns=["user_id", "item_id", "datetime"]).assign(weight=1.0)
events["datetime"] = pd.to_datetime(events["datetime"], unit="s")
model = train.SASRecModel(n_blocks=1, n_heads=1, n_factors=8, session_max_len=6, dropout_rate=0.0, loss="softmax",
                          lightning_module_type=train.PackedSoftmax)
model._build_model_from_dataset(Dataset.construct(events))
module = model.lightning_model
module.log = lambda *a, **k: None
def same(module, ours, theirs):
    assert torch.allclose(ours, theirs, rtol=1e-5), (ours, theirs)
    weights = [p for p in module.parameters() if p.requires_grad]
    pairs = zip(*(torch.autograd.grad(3 * loss, weights, allow_unused=True) for loss in (ours, theirs)))
    for mine, other in pairs:
        assert (mine is None and other is None) or torch.allclose(mine, other, rtol=1e-4, atol=1e-6), (mine, other)
for number, batch in enumerate(model.data_preparator.get_dataloader_train()):
    same(module, module.training_step(batch, 0), TransformerLightningModule.training_step(module, batch, 0))
assert number == 2
features = torch.randn(41, 16)
net = UniSRecNet(40, features, n_factors=8, projection_hidden=8, n_blocks=1, session_max_len=6).eval()
module = train.SnapshottingUniSRec(features)._make_lightning(net, [], 1, [])
hidden, labels = torch.randn(30, 6, 8), torch.randint(0, 41, (30, 6))
labels[:, :2] = 0
same(net, module._full_softmax_loss(hidden, labels), type(module)._full_softmax_loss(module, hidden, labels))
"""


@pytest.mark.slow
@pytest.mark.skipif(not RECTOOLS.exists(), reason="RecTools' environment is not there: make bench-env")
def test_the_packed_losses_are_rectools_own():
    done = subprocess.run(
        [RECTOOLS, "-W", "ignore", "-c", SAME_LOSS],
        cwd=PROJECT,
        env=environment(PYTHONPATH=""),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
