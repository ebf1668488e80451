"""Run what is missing: every method, seed by seed, on every audience it serves."""

import fcntl
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.provenance import commit
from benchmarks.transfer.cells import Cell, CellId, CellStore, key_of, locked
from benchmarks.transfer.methods import (
    Method,
    OwnLayer,
    PopularityMethod,
    Prior,
    Say,
    Served,
    UnavailableError,
)
from benchmarks.transfer.platforms import Audience, Platforms, fingerprint
from benchmarks.transfer.rectools import RecTools
from clients.data.split import Part
from clients.evaluation import Scorer, evaluate
from privacy.errors import PrivacyError
from shared_model.errors import BadInputError, FedcartError
from shared_model.metrics import coverage, ndcg_at

_CHUNK = 256
"""Shoppers that are scored at once."""


def lineup(platforms: Platforms) -> list[Method]:
    """Return the methods of a study, quick ones first."""
    study = platforms.study
    return [
        PopularityMethod(),
        Prior(platforms),
        OwnLayer(platforms),
        RecTools(platforms, "sasrec", study.sasrec),
        RecTools(platforms, "unisrec", study.unisrec),
    ]


@dataclass(frozen=True)
class Job:
    """One method with one seed, and the audiences it serves."""

    method: Method
    seed: int
    audiences: tuple[Audience, ...]

    def cell(self, audience: Audience) -> tuple[CellId, str]:
        """Return a cell's id and the key that it must have."""
        where = CellId(self.method.name, audience.platform.name, audience.label, self.seed)
        inputs = [
            self.method.inputs(),
            fingerprint(audience.platform),
            audience.shots,
            audience.most,
            str(audience.platform.scoring),
            self.seed,
        ]
        return where, key_of(inputs)


def jobs(platforms: Platforms, only: Sequence[str] = ()) -> list[Job]:
    """Return the study's jobs, seed by seed, so that a run that is stopped early has compared all methods.

    `only` names methods, platforms, or both. Raises BadInputError for an unknown name.
    """
    methods, audiences = lineup(platforms), platforms.audiences
    known = {m.name for m in methods} | set(platforms.study.names)
    unknown = [name for name in only if name not in known]
    if unknown:
        raise BadInputError(f"--only {unknown[0]}: choose among {', '.join(sorted(known))}.")
    wanted = [n for n in only if n not in platforms.study.names]
    places = [n for n in only if n in platforms.study.names]
    found = []
    for method in methods:
        if wanted and method.name not in wanted:
            continue
        served = tuple(a for a in audiences if method.serves(a) and (not places or a.platform.name in places))
        first, *later = platforms.study.seeds
        again = tuple(a for a in served if _repeated(method, a))
        found += [Job(method, first, served)] + [Job(method, seed, again) for seed in later if again]
    return sorted(found, key=lambda job: platforms.study.seeds.index(job.seed))


def _repeated(method: Method, audience: Audience) -> bool:
    """Say whether later seeds run, too: where they can differ, save for RecTools' models of large platforms."""
    return method.varies(audience) and not (isinstance(method, RecTools) and method.large(audience))


@dataclass(frozen=True)
class NotRun:
    """A job that has no result: it failed, or this machine lacks what it needs."""

    method: str
    seed: int
    reason: str
    failed: bool


def run(platforms: Platforms, todo: Sequence[Job], out: Path, say: Say) -> list[NotRun]:
    """Run the jobs' missing cells and return the jobs that could not be run; the others go on."""
    store = CellStore(out / "cells")
    _restore_choices(todo, out)
    left_out: list[NotRun] = []
    for number, job in enumerate(todo, start=1):
        folder = _work(out, job)
        if _in_use(folder):
            say(
                f"[{number}/{len(todo)}] {job.method.name}: another process runs it in {out}; waiting until that is "
                "done. To run both at once give one of them another --out, and copy its cells."
            )
        with locked(folder):
            # Looked up under the lock: another process may just have made them.
            missing = [a for a in job.audiences if store.load(*job.cell(a)) is None]
            if not missing:
                continue
            say(f"[{number}/{len(todo)}] {job.method.name}, seed {job.seed}")
            first = job.seed == platforms.study.seeds[0]
            try:
                _run_job(job, missing, store, folder, say, unfiltered=first)
            except (FedcartError, PrivacyError) as error:
                failed = not isinstance(error, UnavailableError)
                left_out.append(NotRun(job.method.name, job.seed, str(error), failed))
                say(f"  {'failed' if failed else 'not run'}: {error}")
    return left_out


def _in_use(folder: Path) -> bool:
    """Say whether another process holds a method's folder."""
    try:
        with (folder / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _restore_choices(todo: Sequence[Job], out: Path) -> None:
    """Let later seeds train what a first seed's cell says it chose, where its work folder is gone."""
    store = CellStore(out / "cells")
    for job in todo:
        if isinstance(job.method, RecTools):
            for audience in job.audiences:
                if (cell := store.load(*job.cell(audience))) is not None:
                    job.method.keep_choice(audience, job.seed, _work(out, job), cell.notes)


def _work(out: Path, job: Job) -> Path:
    return out / "work" / job.method.name


def _run_job(
    job: Job, missing: Sequence[Audience], store: CellStore, folder: Path, say: Say, *, unfiltered: bool
) -> None:
    start = time.monotonic()
    serve = job.method.fit(job.seed, folder, say)
    fitted = time.monotonic() - start
    for audience in missing:
        start = time.monotonic()
        served = serve(audience)
        cell = _judge(audience, served, unfiltered=unfiltered)
        where, key = job.cell(audience)
        notes: dict[str, Any] = {"commit": commit(), "fit_seconds": round(fitted, 1)}
        notes |= {"seconds": round(time.monotonic() - start, 1)} | served.notes
        store.save(where, key, replace(cell, notes=notes))
        value = ndcg_at(cell.ranks, 10).mean()
        say(f"  {audience.platform.name} {audience.label}: NDCG@10 {value:.4f}, {notes['seconds']:g} s")


@dataclass(eq=False)
class _Once:
    """A scorer that remembers its last answer: filtered and unfiltered ranks need the same scores."""

    scorer: Scorer
    last: tuple[NDArray[np.int64], torch.Tensor] | None = None

    def scores(self, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
        """Return (B, I) scores."""
        if self.last is None or not np.array_equal(self.last[0], users):
            self.last = (users, self.scorer.scores(which, users))
        return self.last[1]


def _judge(audience: Audience, served: Served, *, unfiltered: bool) -> Cell:
    """Rank the whole catalogue for every judged shopper."""
    platform = audience.platform
    bare = replace(platform, filter_seen=False)
    scorer = _Once(served.scorer)
    ranks, raw, tops = [np.zeros(0)], [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
    judged = audience.judged
    with torch.no_grad():
        for start in range(0, len(judged), _CHUNK):
            users = judged[start : start + _CHUNK]
            ranking = evaluate(platform, scorer, "test", users)
            ranks.append(ranking.ranks)
            tops.append(ranking.top.ravel())
            if unfiltered:
                raw.append(evaluate(bare, scorer, "test", users).ranks)
    covered = coverage(np.concatenate(tops), len(platform.catalogue))
    return Cell(np.concatenate(ranks), np.concatenate(raw) if unfiltered else None, covered, {})
