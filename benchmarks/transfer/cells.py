"""Cells on disk: one method on one audience with one seed, with every shopper's rank. Written whole or not at all.

cells/<method>/<platform>-<shots>/seed<n>.parquet   rank, and where asked for unfiltered: one row a test shopper
cells/<method>/<platform>-<shots>/seed<n>.json      key, coverage, notes; written last

The key is a hash of everything that went in (settings, data, code). A cell with another key counts as missing.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CellId:
    """Which cell."""

    method: str
    platform: str
    shots: str
    seed: int


@dataclass(frozen=True)
class Cell:
    """What is known about it.

    ranks : (U,) of each test shopper's held-out item, from 1, seen items filtered. unfiltered : the same with nothing
    filtered, or None. coverage : share of the catalogue in some shopper's first ten. notes : how it came about.
    """

    ranks: Floats
    unfiltered: Floats | None
    coverage: float
    notes: dict[str, Any]


def key_of(inputs: Any) -> str:
    """Return the hash of a JSON value."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:32]


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a crash leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value, indent=1), encoding="utf-8")
    temporary.replace(path)


def read_json(path: Path) -> Any:
    """Return the JSON value in a file, or None where there is none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def chosen(file: Path, key: str, choose: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the choice kept in a file, or make and keep it."""
    kept = read_json(file)
    if not isinstance(kept, dict) or kept.get("key") != key:
        kept = {"key": key} | choose()
        write_json(file, kept)
    return kept


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: a second process that wants to train the same thing waits here."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class CellStore:
    """The cells in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, cell: CellId, suffix: str) -> Path:
        return self._folder / cell.method / f"{cell.platform}-{cell.shots}" / f"seed{cell.seed}{suffix}"

    def save(self, cell: CellId, key: str, value: Cell) -> None:
        """Store a cell."""
        columns = {"rank": value.ranks}
        if value.unfiltered is not None:
            columns["rank_unfiltered"] = value.unfiltered
        path = self._path(cell, ".parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        pd.DataFrame(columns).to_parquet(temporary)
        temporary.replace(path)
        head = {"key": key, "coverage": value.coverage, "notes": value.notes}
        write_json(self._path(cell, ".json"), head)

    def load(self, cell: CellId, key: str) -> Cell | None:
        """Return a cell, None where it is missing, stale or unreadable."""
        head = read_json(self._path(cell, ".json"))
        if not isinstance(head, dict) or head.get("key") != key:
            return None
        try:
            frame = pd.read_parquet(self._path(cell, ".parquet"))
        except (OSError, ValueError):
            return None
        unfiltered = frame["rank_unfiltered"].to_numpy() if "rank_unfiltered" in frame else None
        return Cell(frame["rank"].to_numpy(), unfiltered, head["coverage"], head["notes"])
