"""`python -m benchmarks.transfer`: run what is missing of the study, and write the report.

| exit code | meaning                                                            |
|-----------|--------------------------------------------------------------------|
| 0         | done; what this machine cannot run is named in the report          |
| 1         | a method failed; the others are in the report, which names it      |
| 2         | an option, file or data folder that cannot be used                 |
| 70        | a bug; the traceback is shown                                      |
| 130       | interrupted; the same command continues                            |
"""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from benchmarks.commands import Format, data_folder
from benchmarks.commands import run as run_command
from benchmarks.transfer.cells import CellStore
from benchmarks.transfer.platforms import Platforms
from benchmarks.transfer.quick import quick_study, write_shops
from benchmarks.transfer.ranks import read_ranks
from benchmarks.transfer.report import write_report
from benchmarks.transfer.run import jobs, run
from benchmarks.transfer.study import HERE, load

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def transfer(
    quick: Annotated[
        bool, typer.Option("--quick", help="Tiny made-up shops, every step, in about a minute.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the study's data; FEDCART_DATA where left out.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where cells and report go; an earlier run there is continued.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="A method or a platform; may be given several times.")
    ] = None,
    study: Annotated[Path | None, typer.Option(help="Another study (TOML).")] = None,
    newcomer: Annotated[
        str | None, typer.Option(help="A member in the place of the study's newcomer.")
    ] = None,
    ranks: Annotated[
        Path | None, typer.Option(help="An earlier report's ranks.parquet: its cells are not run again.")
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="Run nothing; report what is there.")] = False,
    format: Annotated[Format, typer.Option(help="What is printed on standard output.")] = Format.markdown,
) -> int:
    """Compare what a platform can do alone, on every platform.

    Each finished cell is stored, so a run that was stopped continues with the same command.
    """
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
    say = Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print
    folder = out or Path("runs") / ("transfer-quick" if quick else "transfer")
    if quick:
        chosen = quick_study()
        source = write_shops(folder / "data", chosen)
    else:
        chosen = load(study or HERE / "study.toml")
        source = data_folder(data)
    if newcomer is not None:
        chosen = chosen.with_newcomer(newcomer)
    platforms = Platforms(chosen, source)
    everything, todo = jobs(platforms), jobs(platforms, only or ())
    store = CellStore(folder / "cells")
    if ranks is not None:
        wanted = dict(job.cell(audience) for job in everything for audience in job.audiences)
        say(f"{read_ranks(ranks, store, wanted)} of {len(wanted)} cells from {ranks}")
    say(f"{chosen.name}: {len(todo)} jobs, cells in {folder}")
    left_out = [] if report else run(platforms, todo, folder, say)
    result = write_report(platforms, everything, store, folder, left_out)
    if format is Format.json:
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
    else:
        sys.stdout.write((folder / "report.md").read_text(encoding="utf-8"))
    say(f"written to {folder / 'report.md'}")
    return 1 if any(job.failed for job in left_out) else 0


def main(arguments: list[str]) -> int:
    """Run the command and return its exit code."""
    return run_command(app, "transfer", arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
