"""`python -m benchmarks.trade`: what joining brings within one trade, for a newcomer and for members.

    python -m benchmarks.trade --data DATA [--out DIR] [--trade NAME …] [--sold …] [--seeds N] [--quick] [--report]

A cell is a trade, what its shops sell, an audience and a draw; finished ones are kept in --out and not run again.

| exit code | meaning                                     |
|-----------|---------------------------------------------|
| 0         | done                                        |
| 2         | an option, file or folder that is unusable  |
| 130       | interrupted; the same command continues     |
"""

import os
import sys
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from benchmarks.commands import Format, among, data_folder
from benchmarks.commands import run as run_command
from benchmarks.provenance import code_of, provenance
from benchmarks.trade import curve, report
from benchmarks.trade.shops import Sold
from benchmarks.trade.study import CellKey, Size, audiences, run
from benchmarks.transfer.cells import key_of, locked, read_json, write_json
from benchmarks.transfer.platforms import Platforms, fingerprint
from benchmarks.transfer.quick import quick_recipe, quick_study, write_shops
from benchmarks.transfer.study import HERE, Recipe, Study, load
from clients.platform import Platform
from shared_model.model import scaled_items
from shared_model.neighbours import near_pairs
from shared_model.vocabulary import NEIGHBOURS

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def trade(
    data: Annotated[
        Path | None, typer.Option(help="Folder of the data; FEDCART_DATA where left out.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where cells and report go; an earlier run is continued.")
    ] = None,
    trade: Annotated[
        list[str] | None, typer.Option(help="A data set of the transfer study; all if left out.")
    ] = None,
    sold: Annotated[
        list[Sold] | None, typer.Option(help="What each shop sells; all three if left out.")
    ] = None,
    audience: Annotated[
        list[str] | None, typer.Option(help="first day, 100-shot, …, member; all if left out.")
    ] = None,
    epsilon: Annotated[
        list[float] | None, typer.Option(help="Privacy levels; 8, 4, 2, 1 if left out.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many draws of shoppers and noise.")] = 3,
    test: Annotated[
        int, typer.Option(min=2, help="At most so many test shoppers are ranked in a cell.")
    ] = 2000,
    only_report: Annotated[bool, typer.Option("--report", help="Run nothing; report what is there.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny made-up shops, in seconds.")] = False,
    format: Annotated[Format, typer.Option(help="What is printed on standard output.")] = Format.markdown,
) -> None:
    """Cut each trade into five shops by their shoppers, and see what the product table of four brings the fifth."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
    folder = out or Path("runs") / ("trade-quick" if quick else "trade")
    study = quick_study() if quick else load(Study, HERE / "study.toml")
    recipe = quick_recipe() if quick else load(Recipe, HERE / "recipe.toml")
    source = write_shops(folder / "data", study) if quick else data_folder(data)
    names = among("--trade", trade, study.names)
    epsilons = sorted(epsilon or [1.0, 2.0, 4.0, 8.0], reverse=True)
    size = Size(30, (10,)) if quick else Size(test, (100, 500, 2000))
    asked = among("--audience", audience, audiences(Sold.everything, size))
    platforms = {name: _platform(name, study, recipe, source) for name in names}
    keys = [
        CellKey(name, kind, seed, who)
        for seed in range(seeds)
        for kind in sold or list(Sold)
        for who in audiences(kind, size)
        if who in asked
        for name in names
    ]
    found = {}
    for key in keys:
        cell = _cell(platforms[key.trade], key, size, epsilons, folder, run_it=not only_report)
        if cell is not None:
            found[key] = cell
    trades = [
        {"trade": name, "fingerprint": fingerprint(platforms[name])}
        | {part: found[key][part] for part in ("shoppers", "products", "edges")}
        for name, key in {key.trade: key for key in found}.items()
    ]
    rows = report.rows(found)
    drawn = curve.draw(rows, epsilons, folder / "curve.svg")
    whole = {
        "size": asdict(size),
        "trades": trades,
        "targets": report.targets(rows),
        "rows": rows,
        "curve": drawn,
    }
    commits = sorted({cell["commit"] for cell in found.values()})
    whole["provenance"] = provenance() | {"cell_commits": commits}
    write_json(folder / "report.json", whole)
    (folder / "report.md").write_text(report.markdown(whole), encoding="utf-8")
    printed = folder / ("report.json" if format is Format.json else "report.md")
    sys.stdout.write(printed.read_text(encoding="utf-8") + "\n")


def _platform(name: str, study: Study, recipe: Recipe, source: Path) -> Platform:
    only = [entry for entry in study.platform if entry.name == name]
    chosen = study.model_copy(update={"platform": only, "newcomer": name})
    return Platforms(chosen, recipe, source).loaded[name]


def _cell(
    platform: Platform, key: CellKey, size: Size, epsilons: list[float], folder: Path, *, run_it: bool
) -> dict[str, Any] | None:
    """Return a cell, from the folder where it was run before with the same data, settings and code."""
    inputs = [*key, asdict(size), epsilons, fingerprint(platform), code_of("benchmarks.trade.study")]
    name = (
        f"{key.trade}-{key.sold.name}-{key.audience.replace(' ', '-')}-{key.seed}-{key_of(inputs)[:12]}.json"
    )
    path = folder / "cells" / name
    if not run_it:
        return read_json(path)
    with locked(path.parent):
        cell = read_json(path)
        if cell is None:
            sys.stderr.write(f"{key.trade}, each sells {key.sold}, {key.audience}, draw {key.seed}\n")
            cell = run(platform, public_edges(platform), key, size, epsilons)
            write_json(path, cell)
    return cell


@lru_cache(maxsize=8)
def public_edges(platform: Platform) -> NDArray[np.int32]:
    """Return (E, 2): each of a catalogue's items with its nearest by text, as a vocabulary of the trade has them."""
    rows = torch.nn.functional.normalize(
        scaled_items(platform.spec, platform.features, platform.norms), dim=1
    ).numpy()
    places = [str(row) for row in range(len(rows))]
    return near_pairs(lambda texts: rows[[int(place) for place in texts]], places, NEIGHBOURS)


def main(arguments: list[str]) -> int:
    """Run the command and return its exit code."""
    return run_command(app, "trade", arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
