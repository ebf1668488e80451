"""The benchmark of one private step: every method computes the same, and the report says what was measured."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.dp_step import __main__ as command
from benchmarks.dp_step import measure, problem
from benchmarks.dp_step.measure import METHODS, Memory, errors, memory, ratio, times
from benchmarks.dp_step.methods import OpacusHooks, Ours, Plain
from benchmarks.dp_step.problem import make_problem

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing")


@pytest.fixture
def small(monkeypatch):
    for name, value in {"ENCODERS": (6, 4), "HISTORY": 5, "TARGETS": 4, "NEGATIVES": 7, "ITEMS": 60}.items():
        monkeypatch.setattr(problem, name, value)
    return make_problem(70, seed=3)


def test_every_private_method_computes_the_same_clipped_sum(small):
    found = errors(small)
    assert set(found) == {"ours", "ours_eager", "opacus_hooks", "ghost"}
    assert all(0 < error < 2e-6 for error in found.values())


def test_the_default_model_s_step_moves_its_scalars(small, monkeypatch):
    default = small.without_residual()
    assert set(default.shared) == {"log_isolation"}
    for method in (Ours(default, "auto"), Plain(default)):
        moved = []
        monkeypatch.setattr(
            f"benchmarks.dp_step.methods.train_{'private' if isinstance(method, Ours) else 'plain'}",
            lambda shared, spec, *rest, moved=moved: moved.append(spec.width),
        )
        method.step()
        assert moved == [0]


def test_a_method_that_clips_wrongly_shows(small, monkeypatch):
    class Careless(OpacusHooks):
        def __init__(self, given):
            super().__init__(given)
            self.optimizer.max_grad_norm *= 1.01

    monkeypatch.setitem(METHODS, "opacus_hooks", Careless)
    found = errors(small)
    assert found["opacus_hooks"] == pytest.approx(0.01, rel=0.3)
    assert found["ours"] < 2e-6


def test_opacus_steps_go_through_every_shopper(small):
    for name in ("opacus_hooks", "ghost"):
        method = METHODS[name](small)
        seen = []
        method.model.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(len(given[0].history)))
        before = [p.detach().clone() for p in method.model.parameters()]
        method.step()
        assert seen == [64, 6]
        assert all(not torch.equal(a, b) for a, b in zip(before, method.model.parameters(), strict=True))


def test_the_problem_is_the_same_for_a_seed_and_another_for_another(small):
    again, other = make_problem(70, seed=3), make_problem(70, seed=4)
    assert torch.equal(small.data.items, again.data.items)
    assert torch.equal(small.data.features, again.data.features)
    assert not torch.equal(small.data.items, other.data.items)
    history = (small.data.items >= 0).sum(1)
    assert (int(history.min()), int(history.max())) == (3, 5)


def test_the_ratio_is_of_pairs():
    """A machine that is ten times slower in one round changes no ratio."""
    assert ratio([1.5, 15.0, 1.6], [1.0, 10.0, 1.0]) == pytest.approx(1.5)
    assert ratio([3.0, 1.0], [3.0, 1.0]) == 1.0


def test_rounds_are_interleaved_in_an_order_of_their_own():
    class Recorder:
        note = ""

        def __init__(self, name, log):
            self.step = lambda: log.append(name)

    log = []
    timed = times({name: Recorder(name, log) for name in "abc"}, 8, 0, lambda _: None)
    rounds = ["".join(log[i : i + 3]) for i in range(0, len(log), 3)]
    assert rounds[0] == "abc"
    assert {"".join(sorted(r)) for r in rounds} == {"abc"}
    assert len(set(rounds)) > 2
    assert all(len(t.wall) == len(t.cpu) == 8 for t in timed.values())


@pytest.fixture
def quick(small, monkeypatch):
    """Two methods, nothing compiled, no further processes."""
    methods = {"plain": Plain, "ours": lambda p: Ours(p, "never"), "plain_compiled": Plain}
    methods |= {name: METHODS[name] for name in ("plain_default", "ours_default")}
    monkeypatch.setattr(command, "METHODS", methods)
    monkeypatch.setattr(measure, "METHODS", methods)
    monkeypatch.setattr(command, "memory", lambda *_: Memory(300.0, 412.0))


def test_the_report(quick, capsys):
    threads = torch.get_num_threads()
    try:
        assert command.main(["--format", "json", "--users", "70", "--repeats", "2", "--threads", "1"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert result["ratios"]["plain"] == 1.0
        assert result["ratios"]["ours"] > 0
        assert result["cpu_ratios"]["ours"] > 0
        assert result["ours_default_over_plain_default"] > 0
        assert result["methods"]["ours"]["peak_memory_mb"] == 412
        assert result["methods"]["ours"]["relative_error"] < 2e-6
        assert result["methods"]["plain"]["relative_error"] is None
        assert (result["problem"]["users"], result["seed"], result["repeats"]) == (70, 0, 2)
        assert result["machine"]["torch_threads"] == 1
        assert {"commit", "versions", "written"} <= set(result)
        assert "every shopper gets" in result["formulation_for_opacus"]
        assert command.main(["--users", "70", "--repeats", "1", "--threads", "1"]) == 0
        table = capsys.readouterr().out
        assert "commit " in table
        assert "ours over plain_compiled" in table
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("options", [["--users", "3"], ["--repeats", "0"], ["--colour"]])
def test_options_that_cannot_be_used(options, capsys):
    assert command.main(options) == 2
    assert options[0] in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from /proc")
def test_memory_is_that_of_a_process_of_its_own():
    held = memory("plain", 64, 0)
    assert 100 < held.before < held.peak < 1500
