"""`python -m benchmarks.dp_step`: what a private step costs, against plain training and Opacus in the same run.

| exit code | meaning                                    |
|-----------|--------------------------------------------|
| 0         | done                                       |
| 2         | an option that cannot be used              |
| 70        | a bug; the traceback is shown              |
| 130       | interrupted                                |
"""

import json
import sys
from statistics import median
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.commands import run as run_command
from benchmarks.dp_step.measure import METHODS, errors, memory, ratio, times
from benchmarks.dp_step.opacus_model import __doc__ as formulation
from benchmarks.dp_step.problem import make_problem
from benchmarks.provenance import provenance
from benchmarks.report import Format

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def dp_step(
    users: Annotated[int, typer.Option(min=64, help="Shoppers in a step.")] = 1024,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; each takes one step of every method.")] = 15,
    seed: Annotated[int, typer.Option(min=0, help="Of data, negatives and order.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 2,
    format: Annotated[Format, typer.Option(help="What is printed on standard output.")] = Format.table,
) -> None:
    """Time one whole training step of the real model: plain, ours, Opacus' hooks, Opacus' ghost clipping."""
    say = Console(stderr=True, highlight=False, markup=False).print
    torch.set_num_threads(threads)
    problem = make_problem(users, seed)
    methods = {name: make(problem) for name, make in METHODS.items()}
    timed = times(methods, repeats, seed, say)
    plain, wrong = timed["plain"], errors(problem)
    rows: dict[str, dict[str, Any]] = {}
    for name, taken in timed.items():
        say(f"{name}: memory, in a process of its own")
        held = memory(name, users, seed)
        rows[name] = {
            "median_seconds": median(taken.wall),
            "least_seconds": min(taken.wall),
            "median_cpu_seconds": median(taken.cpu),
            "least_cpu_seconds": min(taken.cpu),
            "first_step_seconds": taken.first,
            "memory_before_mb": held and held.before,
            "peak_memory_mb": held and held.peak,
            "relative_error": wrong.get(name),
            "note": methods[name].note,
        }
    result = {
        "benchmark": "dp_step",
        **provenance(),
        "seed": seed,
        "repeats": repeats,
        "problem": problem.describe(),
        "methods": rows,
        "ratios": {name: ratio(t.wall, plain.wall) for name, t in timed.items()},
        "ratios_of_least": {name: min(t.wall) / min(plain.wall) for name, t in timed.items()},
        "cpu_ratios": {name: ratio(t.cpu, plain.cpu) for name, t in timed.items()},
        "ours_over_plain_compiled": ratio(timed["ours"].wall, timed["plain_compiled"].wall),
        "ours_default_over_plain_default": ratio(timed["ours_default"].wall, timed["plain_default"].wall),
        "targets": {"ratios.ours": 1.2, "methods.ours.peak_memory_mb": 1000},
        "formulation_for_opacus": (formulation or "").strip(),
    }
    if format is Format.json:
        sys.stdout.write(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    else:
        _show(result)


def _show(result: dict[str, Any]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False, markup=False)
    table = Table(title="One step", title_justify="left")
    for column in ("method", "× plain", "least", "CPU", "median s", "CPU s", "first s", "peak MB", "error"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for name, row in result["methods"].items():
        peak, error = row["peak_memory_mb"], row["relative_error"]
        table.add_row(
            name,
            f"{result['ratios'][name]:.2f}",
            f"{result['ratios_of_least'][name]:.2f}",
            f"{result['cpu_ratios'][name]:.2f}",
            f"{row['median_seconds']:.3f}",
            f"{row['median_cpu_seconds']:.3f}",
            f"{row['first_step_seconds']:.1f}",
            "" if peak is None else f"{peak:.0f}",
            "" if error is None else f"{error:.0e}",
        )
    console.print(table)
    for name, row in result["methods"].items():
        console.print(f"{name}: {row['note']}")
    console.print(f"ours over plain_compiled: {result['ours_over_plain_compiled']:.2f}")
    console.print(f"ours_default over plain_default: {result['ours_default_over_plain_default']:.2f}")
    shapes = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in result["problem"].items())
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    machine = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in result["machine"].items())
    console.print(f"{shapes}; seed {result['seed']}, {result['repeats']} rounds", soft_wrap=True)
    console.print(f"commit {result['commit']}; {versions}; {machine}", soft_wrap=True)


def main(arguments: list[str]) -> int:
    """Run the command and return its exit code."""
    return run_command(app, "dp_step", arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
