"""`python -m benchmarks.serving`: what serving costs; `… soak`: whether it holds.

| exit code | meaning                                       |
|-----------|-----------------------------------------------|
| 0         | done                                          |
| 1         | the soak found a wrong code or growing memory |
| 2         | an option that cannot be used                 |
| 70        | a bug; the traceback is shown                 |
| 130       | interrupted                                   |
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from benchmarks.commands import run as run_command
from benchmarks.provenance import provenance
from benchmarks.report import Format
from benchmarks.serving.measure import against_faiss, exact_pass, over_grpc
from benchmarks.serving.rectools import against_rectools
from benchmarks.serving.soak import LEAST, TARGET_MS, highest_rate
from benchmarks.serving.soak import soak as run_soak
from benchmarks.serving.start import first_answer, made_folder
from shared_model.encoders import HashedWordsEncoder

GROWTH = 0.05
"""Memory that grows by more between the halves of a soak is a leak."""
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


FormatOption = Annotated[Format, typer.Option(help="What is printed on standard output.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of items, shoppers and questions.")]


@app.callback(invoke_without_command=True)
def serving(
    context: typer.Context,
    items: Annotated[int, typer.Option(min=1000, help="Items behind gRPC.")] = 100_000,
    large: Annotated[int, typer.Option(min=1000, help="Items of the exact pass.")] = 1_000_000,
    width: Annotated[int, typer.Option(min=8, help="Width of the features.")] = 384,
    rate: Annotated[float, typer.Option(min=1, help="Requests a second.")] = 50.0,
    length: Annotated[float, typer.Option(min=1, help="Seconds of requests.")] = 20.0,
    seed: SeedOption = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 2,
    format: FormatOption = Format.table,
) -> None:
    """Measure lists over gRPC, the exact pass over all items, and faiss' flat index and RecTools, in one run."""
    if context.invoked_subcommand is not None:
        return
    torch.set_num_threads(threads)
    say = Console(stderr=True, highlight=False, markup=False).print
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        say(f"lists over gRPC: {items} items, {rate:g} a second")
        grpc = over_grpc(items, 20_000, width, seed, rate, length, folder)
        say("start to first answer")
        platform = made_folder(items, 300, seed, folder)
        cold, *warm = (first_answer(platform) for _ in range(6))
        say("16 lists, and faiss' flat index")
        faiss = against_faiss(items, 1000, width, seed, 30, folder)
        say("RecTools' recommend")
        rectools = {
            f"{count} threads": against_rectools(20_000, 1000, width, seed, count, 2, folder)
            for count in (1, 2)
        }
    say(f"exact pass over {large} items")
    exact = exact_pass(large, width, seed, 10)
    _show(
        {
            "benchmark": "serving",
            **provenance(),
            "seed": seed,
            "load_before": load,
            "load_after": os.getloadavg()[0],
            "over_grpc": grpc,
            "start": {
                "items": items,
                "shoppers": 300,
                "cold_seconds": cold,
                "width": HashedWordsEncoder().dimension,
                "warm_seconds": {"least": min(warm), "median": median(warm), "most": max(warm)},
                "target": {"warm_seconds": 5},
            },
            "exact_pass": exact,
            "against_faiss_flat": faiss,
            "against_rectools": rectools,
        },
        format,
    )


@app.command()
def soak(
    minutes: Annotated[float, typer.Option(min=0.01, help="How long.")] = 10.0,
    rate: Annotated[
        float | None,
        typer.Option(min=1, help="Good requests a second; the most that meet the target where left out."),
    ] = None,
    seed: SeedOption = 0,
    format: FormatOption = Format.table,
) -> None:
    """Load the service with good and bad callers while it exchanges model and catalogue."""
    say = Console(stderr=True, highlight=False, markup=False).print
    with tempfile.TemporaryDirectory() as made:
        found = highest_rate(seed, Path(made), say=say) if rate is None else rate
        result = run_soak(minutes, found or LEAST, seed, Path(made), say=say)
    result |= {"searched": rate is None, "target_met": found > 0 and result["p99_ms"] <= TARGET_MS}
    _show({"benchmark": "serving soak", **provenance(), "seed": seed, **result}, format)
    if result["failed"] or (minutes >= 1 and result["memory_growth"] > GROWTH):
        raise typer.Exit(1)


def _show(result: dict[str, Any], format: Format) -> None:
    if format is Format.json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
        return
    for name, value in result.items():
        if isinstance(value, dict):
            sys.stdout.write(f"{name}\n")
            for key, inner in value.items():
                sys.stdout.write(f"  {key:28} {inner}\n")
        else:
            sys.stdout.write(f"{name:30} {value}\n")


if __name__ == "__main__":
    sys.exit(run_command(app, "serving", sys.argv[1:]))
