"""Read interactions and items from a CSV or Parquet file, or from a folder of them. Only mapped columns are
read."""

import csv
import gzip
import itertools
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO, cast

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from clients.data.columns import InteractionColumns, ItemColumns, suggest
from clients.data.plain_csv import is_plain, plain_chunks
from clients.data.table import Table, interactions_table, items_table, stack
from clients.data.wanted import wanted_interactions, wanted_items
from clients.errors import DataError

CSV_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
PARQUET_SUFFIXES = (".parquet", ".pq")
_UNREADABLE = (OSError, EOFError, zlib.error, UnicodeError, ValueError, csv.Error, pa.ArrowException)
Wanted = Callable[[list[str], str], dict[str, str]]
_Parse = Callable[[pd.DataFrame, str], Table]


def read_interactions(path: str | Path, columns: InteractionColumns | None = None) -> Table:
    """Read interactions. Ids are text ("007" survives); the order is a position or unix seconds.

    Raises `DataError` for a path, file or column that cannot be used.
    """
    mapping = columns or InteractionColumns()
    return _read(
        path,
        lambda present, source: wanted_interactions(mapping, present, source),
        lambda frame, source: interactions_table(frame, mapping, source),
    )


def read_items(path: str | Path, columns: ItemColumns | None = None) -> Table:
    """Read the public catalogue. Raises `DataError` for a path, file or column that cannot be used."""
    mapping = columns or ItemColumns()
    return _read(
        path,
        lambda present, source: wanted_items(mapping, present, source),
        lambda frame, source: items_table(frame, mapping, source),
    )


def _read(path: str | Path, wanted: Wanted, parse: _Parse) -> Table:
    frames = [(_read_file(file, wanted), str(file)) for file in data_files(Path(path))]
    filled = [(frame, name) for frame, name in frames if len(frame)] or frames[:1]
    tables = [parse(frame, name) for frame, name in filled]
    kinds = {table.order_kind for table in tables}
    if len(kinds) > 1:
        raise DataError(f"{path}: some files are ordered by time, others by position. Set columns.order.")
    return stack(tables, str(path))


def data_files(path: Path) -> list[Path]:
    """The file itself, or the data files of a folder in order of name."""
    known = (*CSV_SUFFIXES, *PARQUET_SUFFIXES)
    try:
        if path.is_dir():
            names = sorted(p for p in path.iterdir() if not p.name.startswith((".", "_")))
            files = [p for p in names if p.is_file() and p.name.lower().endswith(known)]
            if not files:
                found = ", ".join(p.name for p in names[:10]) or "nothing"
                raise DataError(f"{path}: no data file in this folder, which holds {found}. Use {known}.")
            return files
        if not path.exists():
            beside = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
            raise DataError(f"{path}: no such file: {suggest(path.name, beside[:20])}")
    except OSError as error:
        raise DataError(f"{path}: cannot be opened: {error.strerror or error}.") from None
    if not path.name.lower().endswith(known):
        raise DataError(f"{path}: the type {path.suffix or '(none)'!r} is not known. Use one of {known}.")
    return [path]


def _read_file(path: Path, wanted: Wanted) -> pd.DataFrame:
    """The wanted columns of one file under the file's own names, values as they are stored."""
    return pd.concat(list(file_chunks(path, wanted)), ignore_index=True)


def file_chunks(path: Path, wanted: Wanted, rows: int | None = None) -> Iterator[pd.DataFrame]:
    """The wanted columns of one file, at most `rows` rows at a time, in order; at least one frame.

    Values are as they are stored, under the file's own names. Raises `DataError`.
    """
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty. Export the data again.")
        parquet = path.name.lower().endswith(PARQUET_SUFFIXES)
        yield from (_parquet_chunks if parquet else _csv_chunks)(path, wanted, rows)
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"{path}: cannot be read: {reason}. Export it again as UTF-8 CSV or Parquet."
        ) from None


def _parquet_chunks(path: Path, wanted: Wanted, rows: int | None) -> Iterator[pd.DataFrame]:
    file = pq.ParquetFile(path)
    present = [str(name) for name in file.schema_arrow.names]
    names = list(dict.fromkeys(wanted(present, str(path)).values()))
    batches = (pa.Table.from_batches([b]) for b in file.iter_batches(rows, columns=names)) if rows else ()
    whole = (
        pq.read_table(path, columns=names, partitioning=None) if not rows else file.schema_arrow.empty_table()
    )
    for table in itertools.chain((whole.select(names),), batches):
        frame = table.to_pandas(ignore_metadata=True, types_mapper=_nullable, timestamp_as_object=False)
        yield frame[names]


def _csv_chunks(path: Path, wanted: Wanted, rows: int | None) -> Iterator[pd.DataFrame]:
    """The wanted columns as text."""
    present, separator = _header(path)
    names = list(dict.fromkeys(wanted(present, str(path)).values()))
    if is_plain(path, separator, present):
        yield from plain_chunks(path, separator, present, names, rows)
        return
    _require_width(path, separator, len(present))
    options: dict[str, Any] = {
        "sep": separator,
        "header": 0,
        "usecols": [present.index(name) for name in names],
        "index_col": False,
        "dtype": str,
        "keep_default_na": False,
        "na_values": [""],
        "encoding": "utf-8-sig",
    }
    if rows is None:
        yield pd.read_csv(path, **options)[names]
        return
    with pd.read_csv(path, chunksize=rows, **options) as chunks:
        for frame in chunks:
            yield frame[names]


def _require_width(path: Path, separator: str, width: int) -> None:
    """Refuse fields beyond the header: pandas would drop them, but an unquoted comma has shifted that row."""
    with _open(path) as file:
        filled = (row for row in csv.reader(file, delimiter=separator) if row)
        for number, row in enumerate(filled):
            if len(row) > width and any(row[width:]):
                raise DataError(
                    f"{path}, row {number}: {len(row)} fields, but the header has {width}; the last is "
                    f"{row[-1]!r}. Quote values that contain {separator!r}."
                )


def _nullable(kind: pa.DataType) -> object | None:
    """Integers with nulls must not become floats: ids beyond 2^53 would change."""
    return pd.ArrowDtype(kind) if pa.types.is_integer(kind) or pa.types.is_boolean(kind) else None


def _header(path: Path) -> tuple[list[str], str]:
    """The header's names and the separator, the one of `, ; tab |` that splits the header into most names."""

    def first_row(file: TextIO, separator: str) -> list[str]:
        file.seek(0)
        return next((row for row in csv.reader(file, delimiter=separator) if row), [])

    with _open(path) as file:
        rows = {separator: first_row(file, separator) for separator in (",", ";", "\t", "|")}
    if not rows[","]:
        raise DataError(f"{path}: the file holds nothing but blank lines. Export the data again.")
    separator = max(rows, key=lambda s: len(rows[s]))
    return rows[separator], separator


def _open(path: Path) -> TextIO:
    """A CSV file as text, compressed or not."""
    if path.name.lower().endswith(".gz"):
        return cast(TextIO, gzip.open(path, "rt", encoding="utf-8-sig", newline=""))
    return path.open(encoding="utf-8-sig", newline="")
