"""`python -m benchmarks.candidates`: what else could be shared between trades, measured without noise.

    python -m benchmarks.candidates --data DATA [--out DIR] [--member NAME …] [--only NAME …] [--quick]

Each candidate's result is kept in --out and not made again.

| exit code | meaning                                     |
|-----------|---------------------------------------------|
| 0         | done                                        |
| 2         | an option, file or folder that is unusable  |
| 130       | interrupted; the same command continues     |
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.candidates.report import markdown
from benchmarks.candidates.study import CANDIDATES, Candidate, Field, Size, run
from benchmarks.commands import Format, among, data_folder
from benchmarks.commands import run as run_command
from benchmarks.provenance import code_of, provenance
from benchmarks.transfer.cells import key_of, read_json, write_json
from benchmarks.transfer.platforms import Platforms, fingerprint
from benchmarks.transfer.quick import quick_recipe, quick_study, write_shops
from benchmarks.transfer.study import HERE, Recipe, Study, load
from clients.platform import Platform

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def candidates(
    data: Annotated[
        Path | None, typer.Option(help="Folder of the data; FEDCART_DATA where left out.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where finished candidates are kept.")] = Path("runs/candidates"),
    member: Annotated[
        list[str] | None, typer.Option(help="A member of the transfer study; all if left out.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="A candidate; all if left out.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Batches of the members.")] = 1500,
    seed: Annotated[int, typer.Option(min=0, help="Of the training and of the draws.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny made-up shops, in seconds.")] = False,
    format: Annotated[Format, typer.Option(help="Output format.")] = Format.markdown,
) -> None:
    """Train each candidate on the members, judge it on all, and let the newcomer tune it."""
    with tempfile.TemporaryDirectory() as made_up:
        study = quick_study() if quick else load(Study, HERE / "study.toml")
        recipe = quick_recipe() if quick else load(Recipe, HERE / "recipe.toml")
        folder = write_shops(Path(made_up), study) if quick else data_folder(data)
        members = among("--member", member, [p.name for p in study.members])
        chosen = [c for c in CANDIDATES if c.name in among("--only", only, [c.name for c in CANDIDATES])]
        size = Size(5, 60, 40, 3, 32) if quick else Size(steps)
        wanted = [p for p in study.platform if p.name in members or p.name == study.newcomer]
        loaded = Platforms(study.model_copy(update={"platform": wanted}), recipe, folder).loaded
        platforms = list(loaded.values())
        results = finished(chosen, platforms, size, seed, None if quick else out)
    found = {
        "size": asdict(size),
        "seed": seed,
        "candidates": results,
        "data": {each.name: fingerprint(each) for each in platforms},
        "provenance": provenance(),
    }
    sys.stdout.write(json.dumps(found, indent=1) + "\n" if format is Format.json else markdown(found))


def finished(
    chosen: Sequence[Candidate], platforms: Sequence[Platform], size: Size, seed: int, out: Path | None
) -> dict[str, Any]:
    """Return every candidate's result, from `out` where it was made before; the last platform is the newcomer."""
    *members, newcomer = platforms
    data = {each.name: fingerprint(each) for each in platforms}
    key = key_of([asdict(size), seed, data, code_of("benchmarks.candidates.study")])
    files = {c.name: out / f"{c.name}-{key[:12]}.json" if out else None for c in chosen}
    results = {name: read_json(file) if file else None for name, file in files.items()}
    field = None
    for candidate in chosen:
        if results[candidate.name] is None:
            field = field or Field.of(members, newcomer, size, seed)
            results[candidate.name] = run(candidate, field, size, seed, _say)
            if file := files[candidate.name]:
                write_json(file, results[candidate.name])
    return results


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def main(arguments: list[str]) -> int:
    """Run the command and return its exit code."""
    return run_command(app, "candidates", arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
