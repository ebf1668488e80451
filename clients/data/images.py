"""Image vectors that were made elsewhere, by item id: a row for every item of the catalogue, zero where there is none."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from clients.data.ids import parse_ids
from clients.data.spellings import Listed, refusal, texts
from clients.errors import DataError
from shared_model.encoders import FloatArray

_FORM = (
    "It is a .npz with the arrays `item_id` (n) and `vector` (n, F), or a Parquet file with columns of those names, "
    "`vector` being a list of F numbers"
)


def read_images(path: Path, item_ids: Sequence[str]) -> FloatArray:
    """Return (I, F) float32 vectors for `item_ids`, zero for an item that the file does not name.

    Vectors of other items are passed over. Raises DataError, naming the file and the first bad row, for a file that
    cannot be read, an id that stands there twice, or may be the catalogue's in another spelling, and a vector that holds
    anything but finite numbers.
    """
    ids, vectors = _read(path)
    index = pd.Index(ids, dtype="str")
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        raise DataError(f"{path}: item_id {twice!r} stands there twice. Keep one vector for an item.")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        raise DataError(
            f"{path}: the vector of item {ids[bad[0]]!r} is not finite. Leave the item out: it then counts as one "
            "without an image."
        )
    wanted = pd.Index(list(item_ids), dtype="str")
    two = Listed(texts(wanted)).otherwise(texts(index))
    if two is not None:
        raise refusal(f"{path}, and the catalogue", *two)
    at = index.get_indexer(wanted)
    rows = np.zeros((len(item_ids), vectors.shape[1]), dtype=np.float32)
    rows[at >= 0] = vectors[at[at >= 0]]
    return rows


def pictured(path: Path) -> frozenset[str]:
    """Return the ids of the items that have a vector; raise DataError for a file that cannot be read."""
    return frozenset(_read(path)[0])


def _read(path: Path) -> tuple[list[str], FloatArray]:
    """Return the ids as text, and (n, F) float32."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                ids, vectors = arrays["item_id"], arrays["vector"]
        else:
            table = pq.read_table(path, columns=["item_id", "vector"])
            ids = np.asarray(table["item_id"].to_pylist(), dtype=object)
            vectors = np.array(table["vector"].to_pylist(), dtype=np.float32)
        rows = np.asarray(vectors, dtype=np.float32)
    except (
        OSError,
        KeyError,
        ValueError,
        TypeError,
        EOFError,
        zipfile.BadZipFile,
        pa.ArrowException,
    ) as error:
        raise DataError(f"{path}: the image vectors cannot be read: {error}. {_FORM}.") from None
    if rows.ndim != 2 or ids.shape != (len(rows),) or not rows.shape[1]:
        raise DataError(
            f"{path}: the image vectors cannot be used: item_id has shape {ids.shape}, vector {rows.shape}. {_FORM}."
        )
    return parse_ids(pd.Series(ids), "item_id", str(path)).fillna("").tolist(), rows
