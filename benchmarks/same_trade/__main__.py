"""`python -m benchmarks.same_trade`: what a small platform gains from a large one of its own trade.

    python -m benchmarks.same_trade --data DATA [--out DIR] [--trade NAME …] [--quick] [--format markdown|json]

A cell is a trade, a range of items and a draw of shoppers; finished ones are kept in --out and not run again.

| exit code | meaning                                     |
|-----------|---------------------------------------------|
| 0         | done                                        |
| 2         | an option, file or folder that is unusable  |
| 130       | interrupted; the same command continues     |
"""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.commands import Format, among, data_folder
from benchmarks.commands import run as run_command
from benchmarks.provenance import code_of, provenance
from benchmarks.same_trade.report import CellKey, markdown, summary
from benchmarks.same_trade.study import Size, run
from benchmarks.same_trade.trade import Range
from benchmarks.transfer.cells import key_of, read_json, write_json
from benchmarks.transfer.platforms import Platforms, fingerprint
from benchmarks.transfer.quick import quick_recipe, quick_study, write_shops
from benchmarks.transfer.study import HERE, Recipe, Study, load
from clients.platform import Platform

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def same_trade(
    data: Annotated[
        Path | None, typer.Option(help="Folder of the data; FEDCART_DATA where left out.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where finished cells are kept.")] = Path("runs/same-trade"),
    trade: Annotated[
        list[str] | None, typer.Option(help="A data set of the transfer study; all if left out.")
    ] = None,
    sold: Annotated[
        list[Range] | None, typer.Option(help="What the two sell; all three if left out.")
    ] = None,
    epsilon: Annotated[
        list[float] | None, typer.Option(help="Privacy levels; 8, 4, 2, 1 if left out.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many draws of shoppers and noise.")] = 3,
    judged: Annotated[int, typer.Option(min=2, help="Shoppers of the small platform.")] = 4500,
    shots: Annotated[int, typer.Option(min=1, help="How many of them it learns from.")] = 500,
    codes: Annotated[int, typer.Option(min=1, help="K, the codes of the table.")] = 2048,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny made-up shops, in seconds.")] = False,
    format: Annotated[Format, typer.Option(help="Output format.")] = Format.markdown,
) -> None:
    """Cut trades in two and see what the small half gains from the large one's table."""
    with tempfile.TemporaryDirectory() as made_up:
        study = quick_study() if quick else load(Study, HERE / "study.toml")
        recipe = quick_recipe() if quick else load(Recipe, HERE / "recipe.toml")
        folder = write_shops(Path(made_up), study) if quick else data_folder(data)
        size = Size(60, 20, 16) if quick else Size(judged, shots, codes)
        names = among("--trade", trade, study.names)
        asked = study.model_copy(update={"platform": [p for p in study.platform if p.name in names]})
        cells = finished_cells(
            Platforms(asked, recipe, folder).loaded,
            [(name, each, seed) for name in names for each in sold or Range for seed in range(seeds)],
            size,
            epsilon or [8.0, 4.0, 2.0, 1.0],
            None if quick else out,
        )
    found = {"size": asdict(size), "cells": summary(cells), "provenance": provenance()}
    sys.stdout.write((json.dumps(found, indent=2) if format is Format.json else markdown(found)) + "\n")


def finished_cells(
    platforms: Mapping[str, Platform],
    keys: Sequence[CellKey],
    size: Size,
    epsilons: Sequence[float],
    out: Path | None,
) -> dict[CellKey, dict[str, Any]]:
    """Return every cell, from `out` where it was run before."""
    code = code_of("benchmarks.same_trade.study")
    cells = {}
    for name, sold, seed in keys:
        platform = platforms[name]
        inputs = [name, sold, seed, asdict(size), list(epsilons), fingerprint(platform), code]
        path = out / f"{name}-{sold}-{seed}-{key_of(inputs)[:12]}.json" if out else None
        cell = read_json(path) if path else None
        if cell is None:
            sys.stderr.write(f"{name}, items {sold}, draw {seed}\n")
            cell = run(platform, sold, seed, size, epsilons)
            if path:
                write_json(path, cell)
        cells[name, sold, seed] = cell
    return cells


def main(arguments: list[str]) -> int:
    """Run the command and return its exit code."""
    return run_command(app, "same_trade", arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
