"""From cells to the report: one JSON document, and the same as markdown with a curve."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.provenance import provenance
from benchmarks.transfer.cells import Cell, CellId, CellStore, write_json
from benchmarks.transfer.curve import draw
from benchmarks.transfer.platforms import Platforms, fingerprint
from benchmarks.transfer.ranks import write_ranks
from benchmarks.transfer.run import Job, NotRun
from benchmarks.transfer.statistics import METRICS, compare, estimate, holm, values
from benchmarks.transfer.tables import markdown


@dataclass(frozen=True)
class Found:
    """A method's finished cells on one audience by their seed. `fixed`: the one there is stands for every seed."""

    fixed: bool
    by_seed: dict[int, Cell]

    @property
    def cells(self) -> list[Cell]:
        """The cells."""
        return list(self.by_seed.values())

    def ranks(self, seeds: Sequence[int]) -> list[NDArray[np.float64]]:
        """Return the ranks of some seeds."""
        return [cell.ranks for seed, cell in self.by_seed.items() if self.fixed or seed in seeds]

    def common(self, other: "Found") -> list[int]:
        """Return the seeds to compare two methods by, those of both: a draw is not compared with another."""
        if self.fixed or other.fixed:
            return list((other if self.fixed else self).by_seed)
        return [seed for seed in self.by_seed if seed in other.by_seed]


Cells = dict[tuple[str, str], dict[str, Found]]
"""(platform, shots) → method → what was found."""


def write_report(
    platforms: Platforms, todo: Sequence[Job], store: CellStore, out: Path, left_out: Sequence[NotRun]
) -> dict[str, Any]:
    """Write `report.json`, `report.md`, the curve and `ranks.parquet` of every finished cell; return the document."""
    cells: Cells = {(a.platform.name, a.label): {} for a in platforms.audiences}
    done: list[tuple[CellId, str, Cell]] = []
    total = 0
    for job in todo:
        for audience in job.audiences:
            total += 1
            where = (audience.platform.name, audience.label)
            cell_id, key = job.cell(audience)
            cell = store.load(cell_id, key)
            if cell is not None:
                done.append((cell_id, key, cell))
                found = Found(not job.method.varies(audience), {})
                cells.setdefault(where, {}).setdefault(job.method.name, found).by_seed[job.seed] = cell
    study = platforms.study
    judged = {audience.platform.name: len(audience.judged) for audience in platforms.audiences}
    report: dict[str, Any] = {
        "study": study.model_dump(mode="json"),
        "provenance": provenance() | {"cell_commits": _commits(cells)},
        "cells": {"done": len(done), "total": total},
        "platforms": {
            name: {
                "role": "newcomer" if name == study.newcomer else "member",
                "shoppers": len(p),
                "test_shoppers": len(p.test_users),
                "judged": judged[name],
                "items": len(p.catalogue),
                "fingerprint": fingerprint(p),
            }
            for name, p in platforms.loaded.items()
        },
        "results": _results(cells),
        "comparisons": _comparisons(cells),
        "not_run": [asdict(job) for job in left_out],
    }
    out.mkdir(parents=True, exist_ok=True)
    report["learning"] = draw(report, out / "learning.svg")
    report = _finite(report)
    write_json(out / "report.json", report)
    (out / "report.md").write_text(markdown(report), encoding="utf-8")
    write_ranks(out / "ranks.parquet", done)
    return report


def _results(cells: Cells) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for (platform, label), methods in cells.items():
        for method, found in methods.items():
            entry: dict[str, Any] = {"seeds": len(found.cells), "notes": [cell.notes for cell in found.cells]}
            entry["coverage@10"] = float(np.mean([cell.coverage for cell in found.cells]))
            for metric in METRICS:
                middle, seeds = estimate(metric, [cell.ranks for cell in found.cells])
                entry[metric] = asdict(middle) | {"seeds": seeds}
            raw = [cell.unfiltered for cell in found.cells if cell.unfiltered is not None]
            if raw:
                entry["unfiltered"] = {metric: estimate(metric, raw)[0].mean for metric in METRICS}
            results.setdefault(platform, {}).setdefault(label, {})[method] = entry
    return results


def pairs(methods: Sequence[str]) -> list[tuple[str, str]]:
    """Return which methods are compared: all with the prior, the own layer with RecTools' models.

    >>> pairs(["popularity", "prior", "own", "sasrec"])
    [('own', 'prior'), ('sasrec', 'prior'), ('own', 'sasrec')]
    """
    wanted = [(method, "prior") for method in methods if method not in {"prior", "popularity"}]
    wanted += [("own", trained) for trained in ("sasrec", "unisrec")]
    return [pair for pair in wanted if set(pair) <= set(methods)]


def _comparisons(cells: Cells) -> list[dict[str, Any]]:
    """Return paired comparisons of NDCG@10, their p-values adjusted over all of them together."""
    found = []
    for (platform, label), methods in cells.items():
        for method, baseline in pairs(list(methods)):
            seeds = methods[method].common(methods[baseline])
            if not seeds:
                continue
            one, other = (values("ndcg@10", methods[m].ranks(seeds)) for m in (method, baseline))
            found.append(
                {"platform": platform, "shots": label, "method": method, "against": baseline, "seeds": seeds}
                | asdict(compare(one, other))
            )
    for entry, p in zip(found, holm([entry["p"] for entry in found]), strict=True):
        entry["p_holm"] = p
    return found


def _commits(cells: Cells) -> list[str]:
    every = (cell for methods in cells.values() for found in methods.values() for cell in found.cells)
    return sorted({cell.notes["commit"] for cell in every})


def _finite(value: Any) -> Any:
    """Replace NaN and inf, which JSON has not, by None."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
