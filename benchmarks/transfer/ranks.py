"""Cells in one file, `ranks.parquet`, a row each: what a report was made of.

It can be kept, looked into, tested in other ways, and gone on with on another machine.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.transfer.cells import Cell, CellId, CellStore
from shared_model.errors import BadInputError


def write_ranks(path: Path, cells: Sequence[tuple[CellId, str, Cell]]) -> None:
    """Write cells, each with its key, to one Parquet file; ranks are exact in float32 up to 16 million items."""
    rows = [
        asdict(where)
        | {
            "key": key,
            "coverage": cell.coverage,
            "notes": json.dumps(cell.notes),
            "rank": cell.ranks.astype(np.float32),
            "rank_unfiltered": None if cell.unfiltered is None else cell.unfiltered.astype(np.float32),
        }
        for where, key, cell in cells
    ]
    ranks = pa.list_(pa.float32())
    text = {name: pa.string() for name in ("method", "platform", "shots", "key", "notes")}
    schema = text | {"seed": pa.int64(), "coverage": pa.float64(), "rank": ranks, "rank_unfiltered": ranks}
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    pq.write_table(
        pa.Table.from_pylist(rows, pa.schema(list(schema.items()))),
        temporary,
        compression="zstd",
        compression_level=19,
        use_dictionary=False,
        data_page_size=2**28,  # one page, in which methods that agree are stored once
    )
    temporary.replace(path)


def read_ranks(path: Path, store: CellStore, wanted: Mapping[CellId, str]) -> int:
    """Put those of the file's cells into the store that it lacks and whose key is `wanted`; return how many.

    Raises BadInputError for a file that cannot be read.
    """
    try:
        found = [_cell(row) for row in pq.read_table(path).to_pylist()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError(
            f"{path}: cannot be read as ranks of a study: {error}. Give a ranks.parquet that a report came with."
        ) from None
    new = [part for part in found if wanted.get(part[0]) == part[1] and store.load(*part[:2]) is None]
    for where, key, cell in new:
        store.save(where, key, cell)
    return len(new)


def _cell(row: Mapping[str, Any]) -> tuple[CellId, str, Cell]:
    unfiltered = None if row["rank_unfiltered"] is None else np.array(row["rank_unfiltered"])
    where = CellId(row["method"], row["platform"], row["shots"], row["seed"])
    return (
        where,
        row["key"],
        Cell(np.array(row["rank"]), unfiltered, row["coverage"], json.loads(row["notes"])),
    )
