"""Folders and files as sources: CSV, Parquet, RecBole's atomic files, Amazon's JSON lines.

The mark holds each file's size and times of change: an unchanged file is not read again, a changed or new one is,
whole, and events that are there already are not added again.
"""

import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from clients.data.read import Wanted, data_files, file_chunks
from clients.data.sources.raw import Mark, Raw
from clients.errors import DataError

JSON_SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz")


def state_of(path: Path) -> str:
    """A file's size, and when it was written and changed; raise DataError where it cannot be looked at.

    Whoever writes a file may set the first time to what it was before, but not the second.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be opened: {error.strerror or error}.") from None
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


def table_chunks(path: Path, wanted: Wanted, since: Mark, rows: int) -> Iterator[Raw]:
    """Rows of a CSV or Parquet file, or a folder of them."""
    for file in data_files(path):
        state = state_of(file)  # before reading: what is appended meanwhile is read next time
        if since.get(file.name) == state:
            continue
        frame = pd.DataFrame()
        for frame in file_chunks(file, wanted, rows):
            if len(frame):
                yield Raw(frame, str(file))
        yield Raw(frame.iloc[:0], str(file), {file.name: state})


def atomic_chunks(path: Path, suffix: str, since: Mark, rows: int) -> Iterator[Raw]:
    """Rows of RecBole's atomic files: tab-separated, no quotes, a header of `name:type`.

    Format: RecBole, "Atomic Files", https://recbole.io/atomic_files.html.
    """
    for file in _with_suffix(path, (suffix,)):
        state = state_of(file)
        if since.get(file.name) == state:
            continue
        options: dict[str, Any] = {
            "sep": "\t",
            "dtype": str,
            "keep_default_na": False,
            "na_values": [""],
            "quoting": csv.QUOTE_NONE,
            "encoding": "utf-8-sig",
        }
        try:
            with pd.read_csv(file, chunksize=rows, index_col=False, **options) as chunks:
                for chunk in chunks:
                    yield Raw(chunk.rename(columns=lambda name: str(name).split(":")[0]), str(file))
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                f"{file}: is no atomic file: {reason}. Its header is name:type, tabs between."
            ) from None
        yield Raw(pd.DataFrame(), str(file), {file.name: state})


def json_chunks(path: Path, columns: Mapping[str, tuple[str, ...]], since: Mark, rows: int) -> Iterator[Raw]:
    """Rows of JSON lines: `columns` says, per canonical name, which keys may hold it, the first that is there.

    Formats: Amazon reviews of 2014, 2018 (reviewerID, asin, unixReviewTime) and 2023 (user_id, parent_asin,
    timestamp in ms), https://amazon-reviews-2023.github.io. Raises `DataError` that names file and line.
    """
    for file in _with_suffix(path, JSON_SUFFIXES):
        state = state_of(file)
        if since.get(file.name) == state:
            continue
        records = _records(file)
        while chunk := list(islice(records, rows)):
            frame = {
                name: [next((r[key] for key in keys if r.get(key) is not None), None) for r in chunk]
                for name, keys in columns.items()
            }
            yield Raw(pd.DataFrame(frame, dtype=object), str(file))
        yield Raw(pd.DataFrame(), str(file), {file.name: state})


def _records(file: Path) -> Iterator[dict[str, Any]]:
    number = 1
    try:
        with gzip.open(file, "rb") if file.name.endswith(".gz") else file.open("rb") as lines:
            for line in lines:
                if line.strip():
                    yield _record(line)
                number += 1
    except (OSError, EOFError, ValueError, zlib.error) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{file}, line {number}: cannot be read: {reason}. Each line must be one JSON object in UTF-8."
        ) from None


def _record(line: bytes) -> dict[str, Any]:
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError("it is no object")
    return record


def _with_suffix(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    try:
        found = (
            sorted(p for p in path.iterdir() if p.name.lower().endswith(suffixes))
            if path.is_dir()
            else [path]
        )
    except OSError as error:
        raise DataError(f"{path}: cannot be opened: {error.strerror or error}.") from None
    if not found or not all(p.is_file() for p in found):
        raise DataError(
            f"{path}: no file that ends with {' or '.join(suffixes)}. Set path to one, or its folder."
        )
    return found
