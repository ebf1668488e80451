"""`python -m benchmarks.dp_step.alone METHOD USERS SEED THREADS`: three steps alone, and the memory they took."""

import json
import sys
from pathlib import Path

import torch

from benchmarks.dp_step.measure import METHODS
from benchmarks.dp_step.problem import make_problem


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{key}:"))


def main(method: str, users: str, seed: str, threads: str) -> None:
    """Print what the process held before the first step and at its peak, in megabytes."""
    torch.set_num_threads(int(threads))
    chosen = METHODS[method](make_problem(int(users), int(seed)))
    before = _status("VmRSS")
    for _ in range(3):
        chosen.step()
    sys.stdout.write(json.dumps({"before": before, "peak": _status("VmHWM")}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
