"""Compiled gradients: used where they proved themselves, refused where they are wrong or mix shoppers."""

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs
from torch.func import grad, vmap

from clients.compiled import Forms, compiled_or_eager
from clients.gradients import COMPILE_FROM, compiles
from clients.training import LocalRecipe, train_private
from privacy.noise import ReproducibleNoise
from privacy.plan import PrivacyPlan
from shared_model.model import ModelSpec

REPOSITORY = Path(__file__).parents[2]
WIDTHS = (3, 2)
B = 8


def loss(shared, public, columns):
    """Weigh two blocks of a shopper's features, and compare the shopper with public items."""
    weights = torch.repeat_interleave(shared["weights"].exp(), torch.tensor(WIDTHS), output_size=sum(WIDTHS))
    features, present = columns
    logits = public[0] @ (weights * features * present)
    return logits.logsumexp(0)


eager = vmap(grad(loss), in_dims=(None, None, 0))


@pytest.fixture
def arguments():
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return {"weights": normal(2)}, [normal(4, 5)], [normal(B, 5), normal(B, 5) > 0]


def test_a_gradient_that_is_zero_but_for_rounding_is_no_fault(monkeypatch):
    """One encoder's weight cancels: what is left of its gradient is rounding, and differs by all of itself."""

    def cancels(shared, public, columns):
        both = torch.stack([shared["weights"].sum(), -shared["weights"].sum()])
        return (both.sum() * 1e-3 + shared["bias"].sum()) * columns[0].square().sum()

    def noisy(function):
        def code(*given):
            rows = function(*given)
            return rows | {"weights": rows["weights"] + 3e-7}

        return code

    rows = vmap(grad(cancels), in_dims=(None, None, 0))
    monkeypatch.setattr(torch, "compile", lambda function, **_: noisy(function))
    forms = Forms.of({"weights": torch.zeros(2), "bias": torch.zeros(2)}, [], [torch.zeros(B, 5)])
    with capture_logs() as log:
        assert compiled_or_eager(rows, forms) is not rows
    assert not log


@pytest.fixture
def trial(monkeypatch, arguments):
    """Return what runs `compiled_or_eager` with a stand-in for the compiler: (chosen function, log)."""

    def run(compiler):
        monkeypatch.setattr(torch, "compile", lambda function, **_: compiler(function))
        with capture_logs() as log:
            chosen = compiled_or_eager(eager, Forms.of(*arguments))
        return chosen, log

    return run


def spoils(change):
    """Return a compiler whose code gives the right rows, changed."""

    def compiler(function):
        def code(shared, public, columns):
            return {name: change(row, columns) for name, row in function(shared, public, columns).items()}

        return code

    return compiler


def unable(function):
    def code(*_):
        raise RuntimeError("No working C++ compiler found\nand more")

    return code


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        (unable, "RuntimeError: No working C++ compiler found"),
        (spoils(lambda row, _: row.sum(0).expand_as(row)), "the compiled gradient of weights is wrong"),
        (spoils(lambda row, _: row * 1.001), "the compiled gradient of weights is wrong"),
        (spoils(lambda row, _: row * math.nan), "the compiled gradient of weights is wrong"),
        (spoils(lambda row, _: row.roll(1, 0)), "the compiled gradient of weights is wrong"),
        (spoils(lambda row, _: row + 0 * row.sum(0)), "the compiled gradient of weights mixes shoppers"),
        (
            spoils(lambda row, columns: row + 1e-12 * columns[0].nan_to_num().sum()),
            "the compiled gradient of weights mixes shoppers",
        ),
    ],
    ids=["none", "sum", "scale", "nan", "order", "nan spreads", "small leak"],
)
def test_a_compiler_that_fails_is_not_used(trial, arguments, compiler, reason):
    chosen, log = trial(compiler)
    assert chosen is eager
    assert [entry["log_level"] for entry in log] == ["warning"]
    assert log[0]["reason"] == reason
    assert log[0]["event"] == "gradients are not compiled: steps take longer, nothing else changes"


def test_a_compiler_that_is_right_is_used(trial, arguments):
    calls = []

    def honest(function):
        def code(*given):
            calls.append(1)
            return function(*given)

        return code

    chosen, log = trial(honest)
    before = len(calls)
    rows = chosen(*arguments)
    assert len(calls) == before + 1
    assert not log
    assert torch.equal(rows["weights"], eager(*arguments)["weights"])


def test_the_trial_sees_shapes_only(trial, arguments):
    """Nothing of a shopper can decide which code runs: the function that is tried never meets the arguments."""
    seen = []

    def watching(function):
        def code(shared, public, columns):
            seen.extend([*shared.values(), *public, *columns])
            return function(shared, public, columns)

        return code

    trial(watching)
    real = [*arguments[0].values(), *arguments[1], *arguments[2]]
    assert {t.shape for t in seen} == {t.shape for t in real}
    assert not any(torch.equal(made_up, t) for made_up in seen for t in real if t.shape == made_up.shape)


def plan(steps, population, sample_rate=0.1):
    return PrivacyPlan(
        epsilon=1000.0,
        delta=1e-6,
        clip_norm=0.5,
        sample_rate=sample_rate,
        population_size=population,
        steps=steps,
        noise_multiplier=50.0,
    )


def test_long_runs_on_a_cpu_are_compiled():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    spec, targets = ModelSpec((384, 116), 16, 50), 8  # 4,000 numbers a shopper
    long, short = plan(COMPILE_FROM // 4000, 640), plan(COMPILE_FROM // 4000 - 1, 640)
    assert compiles("auto", long, spec, targets, cpu)
    assert not compiles("auto", short, spec, targets, cpu)
    assert not compiles("auto", long, spec, targets - 1, cpu)
    assert not compiles("auto", long, ModelSpec((384, 100), 16, 50), targets, cpu)
    assert compiles("auto", plan(short.steps, 641), spec, targets, cpu)  # two chunks a step
    assert not compiles("auto", long, spec, targets, cuda)
    assert compiles("always", short, spec, targets, cuda)
    assert not compiles("never", long, spec, targets, cpu)


# Real compilation


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="compiling needs a C++ compiler"
)
def test_where_the_compiler_is_wrong_the_rows_are_right_all_the_same(arguments):
    """`repeat_interleave` is what TorchInductor 2.13 gets wrong: it sums the rows over all shoppers."""
    chosen = compiled_or_eager(eager, Forms.of(*arguments))
    torch.testing.assert_close(chosen(*arguments)["weights"], eager(*arguments)["weights"])
    fewer = [column[:3] for column in arguments[2]]  # other forms than were tried
    got = chosen(arguments[0], arguments[1], fewer)["weights"]
    assert torch.equal(got, eager(arguments[0], arguments[1], fewer)["weights"])


WITHOUT_COMPILER = """
import sys, torch
torch.set_num_threads(1)
from clients.training import train_private
from privacy.noise import ReproducibleNoise
import numpy as np
shared, spec, data, recipe, plan = torch.load(sys.argv[1], weights_only=False)
after = train_private(shared, spec, data, recipe, plan, ReproducibleNoise(3), np.random.default_rng(1), "always")
torch.save(after, sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.parametrize("setting", [("tiny",)], indirect=True)
def test_without_a_compiler_training_says_so_once_and_gives_the_same(setting, events, tmp_path):
    data, recipe = setting.of(events()).data, LocalRecipe(3, 1.0, 0.1, 0.05, negatives=6)
    chosen = plan(3, 20, 1.0)
    torch.save((setting.shared, setting.spec, data, recipe, chosen), tmp_path / "in.pt")
    (tmp_path / "bin").mkdir()
    environment = {k: v for k, v in os.environ.items() if k not in ("CXX", "CC")}
    environment |= {
        "PATH": str(tmp_path / "bin"),
        "PYTHONPATH": str(REPOSITORY),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),
    }
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_COMPILER, tmp_path / "in.pt", tmp_path / "out.pt"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("gradients are not compiled") == 1
    expected = train_private(
        setting.shared,
        setting.spec,
        data,
        recipe,
        chosen,
        ReproducibleNoise(3),
        np.random.default_rng(1),
        "never",
    )
    got = torch.load(tmp_path / "out.pt", weights_only=True)
    assert all(torch.equal(got[name], t) for name, t in expected.items())
