"""Times, interleaved in one process; peak memory, each method in a process of its own; errors against float64."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol, runtime_checkable

import torch

from benchmarks.dp_step.methods import (
    OpacusGhost,
    OpacusHooks,
    Ours,
    Plain,
    PlainCompiled,
    Scalars,
    Step,
    clipped_sum,
)
from benchmarks.dp_step.problem import Problem
from shared_model.exchange import SharedTensors

PROJECT = Path(__file__).parents[2]


class Method(Protocol):
    """One way to take a step."""

    note: str

    @property
    def step(self) -> Step:
        """Takes one whole step."""


@runtime_checkable
class Clipping(Protocol):
    """A method that clips."""

    def clipped_sum(self) -> SharedTensors:
        """Return the clipped sum over the first chunk, without noise."""


METHODS: dict[str, Callable[[Problem], Method]] = {
    "plain": Plain,
    "ours": lambda problem: Ours(problem, "auto"),
    "ours_eager": lambda problem: Ours(problem, "never"),
    "opacus_hooks": OpacusHooks,
    "ghost": OpacusGhost,
    "plain_compiled": PlainCompiled,
    "plain_default": lambda problem: Scalars(problem, private=False),
    "ours_default": lambda problem: Scalars(problem, private=True),
}


@dataclass(frozen=True)
class Times:
    """Seconds of one method's steps: the first (which may compile), then one a round; `cpu`: of all its threads."""

    first: float
    wall: list[float]
    cpu: list[float]


def ratio(method: Sequence[float], baseline: Sequence[float]) -> float:
    """Return the median over rounds of this method's time over the baseline's in the *same* round.

    Pairs share what else the machine was busy with at that moment, so the ratio does not.
    """
    return statistics.median(m / b for m, b in zip(method, baseline, strict=True))


def times(
    methods: Mapping[str, Method], repeats: int, seed: int, say: Callable[[str], object]
) -> dict[str, Times]:
    """Take one step of every method to warm up, then `repeats` rounds of one step each in a new random order."""
    timed = {}
    for name, method in methods.items():
        say(f"{name}: first step")
        timed[name] = Times(_seconds(method.step)[0], [], [])
    order, random = list(methods), Random(seed)  # noqa: S311  # an order, not a secret
    for number in range(repeats):
        say(f"round {number + 1} of {repeats}")
        random.shuffle(order)
        for name in order:
            wall, cpu = _seconds(methods[name].step)
            timed[name].wall.append(wall)
            timed[name].cpu.append(cpu)
    return timed


def _seconds(step: Step) -> tuple[float, float]:
    """Return wall-clock seconds, and CPU seconds of all threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    return time.perf_counter() - wall, time.process_time() - cpu


def errors(problem: Problem) -> dict[str, float]:
    """Return method → ‖its clipped sum − the same in float64‖ / ‖the latter‖, over the first chunk of the first step."""
    exact = clipped_sum(problem, compiled=False, dtype=torch.float64)
    length = torch.stack([t.norm() for t in exact.values()]).norm()
    found = {}
    for name, make in METHODS.items():
        method = make(problem)
        if isinstance(method, Clipping):
            sums = method.clipped_sum()
            difference = torch.stack([(sums[n].double() - t).norm() for n, t in exact.items()]).norm()
            found[name] = float(difference / length)
    return found


@dataclass(frozen=True)
class Memory:
    """Megabytes (10⁶ bytes): before the first step and at the peak, a compiler that runs beside it included."""

    before: float
    peak: float


def memory(method: str, users: int, seed: int) -> Memory | None:
    """Take three steps in a new process and return what memory it had; None where there is no /proc."""
    if not Path("/proc/self/smaps_rollup").exists():
        return None
    command = [sys.executable, "-m", "benchmarks.dp_step.alone", method, str(users), str(seed)]
    command.append(str(torch.get_num_threads()))
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    together = 0.0
    while process.poll() is None:
        together = max(together, sum(map(_proportional, _descendants(process.pid))))
        time.sleep(0.1)
    if process.returncode or process.stdout is None:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    alone = json.loads(process.stdout.read().splitlines()[-1])
    return Memory(alone["before"], max(alone["peak"], together))


def _descendants(process: int) -> list[int]:
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [process] + [p for child in text.split() for p in _descendants(int(child))]


def _proportional(process: int) -> float:
    """Return the proportional set size of a process: pages that several share count once between them."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("Pss:")), 0.0)
