"""What every benchmark prints: its rows, and what they were measured with."""

from __future__ import annotations

import gc
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.provenance import commit


class Format(StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"


@dataclass(frozen=True)
class Row:
    """One measurement.

    Args:
        task: what was done.
        seconds: CPU seconds of ours.
        baseline: what it is compared with; empty where there is nothing to compare with.
        baseline_seconds: CPU seconds of the baseline, for the same task.
        apart: relative difference of the two results, ours less theirs.
    """

    task: str
    seconds: float
    baseline: str = ""
    baseline_seconds: float | None = None
    apart: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times as long the baseline takes."""
        return None if self.baseline_seconds is None else self.baseline_seconds / self.seconds


def measure(task: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Least CPU seconds of this process over ``repeats`` calls, and the last result."""
    least, result = float("inf"), None
    for _ in range(repeats):
        gc.collect()
        start = time.process_time()
        result = task()
        least = min(least, time.process_time() - start)
    return least, result


def setting(packages: Sequence[str], seed: int) -> dict[str, Any]:
    """Commit, versions, machine and seed."""
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "seed": seed,
    }


def show(title: str, rows: Sequence[Row], what: dict[str, Any], format: Format) -> None:
    """Print rows and setting on standard output."""
    if format is Format.json:
        document = {**what, "rows": [asdict(row) | {"ratio": row.ratio} for row in rows]}
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        return
    table = Table(title=title, title_justify="left")
    table.add_column("task")
    for name in ("ours, CPU s", "baseline, CPU s", "ratio", "apart"):
        table.add_column(name, justify="right")
    table.add_column("baseline")
    for row in rows:
        table.add_row(
            row.task,
            f"{row.seconds:.4f}",
            "" if row.baseline_seconds is None else f"{row.baseline_seconds:.4f}",
            "" if row.ratio is None else f"{row.ratio:.3g}",
            "" if row.apart is None else f"{row.apart:+.1e}",
            row.baseline,
        )
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    console.print(table)
    versions = ", ".join(f"{name} {number}" for name, number in what["versions"].items())
    console.print(
        f"commit {what['commit']}, Python {what['python']}, {versions}; {what['machine']}, {what['cpus']} CPUs, "
        f"threads {what['threads']}; seed {what['seed']}",
        soft_wrap=True,
    )
