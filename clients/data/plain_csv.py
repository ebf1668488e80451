"""CSV without quotes below its header, as most exports of events are: looked through and parsed in blocks by numpy and
arrow.

`is_plain` says whether that is sure to read what pandas would: no quotes, no lone carriage return, no zero byte, and
in every line as many fields as in the header. Every other file is pandas' to read and judge.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv as arrow_csv

_BLOCK = 1 << 22
"""Bytes that are looked through at a time. No line of a plain file is as long as two of them; arrow parses four."""
_TEXT = {pa.large_string(): pd.StringDtype("pyarrow", na_value=np.nan)}


def is_plain(path: Path, separator: str, present: Sequence[str]) -> bool:
    """Whether a file has the header `present`, of 2 different names at least, and one or more plain lines below it."""
    width = len(present)
    if len(set(present)) < max(width, 2) or path.name.lower().endswith(".gz"):
        return False
    rest, more, some = b"", True, False
    with path.open("rb") as file:
        header = file.readline(_BLOCK).decode("utf-8-sig")
        if next(csv.reader([header], delimiter=separator), None) != list(present):
            return False
        while more:
            read = file.read(_BLOCK)
            more = bool(read)
            block = rest + read
            end = block.rfind(b"\n") + 1 if more else len(block)
            rest, lines = block[end:], block[:end]
            if lines and not _has_fields(lines if lines.endswith(b"\n") else lines + b"\n", separator, width):
                return False
            if len(rest) > _BLOCK:
                return False
            some = some or bool(lines)
    return some


def _has_fields(lines: bytes, separator: str, width: int) -> bool:
    if b'"' in lines or b"\0" in lines or lines.count(b"\r") != lines.count(b"\r\n"):
        return False
    letters = np.frombuffer(lines, dtype=np.uint8)
    ends = np.flatnonzero(letters == ord("\n"))
    between = np.flatnonzero(letters == ord(separator))
    if len(between) != len(ends) * (width - 1):
        return False
    of_line = between.reshape(len(ends), width - 1)
    return bool((of_line[:, -1] < ends).all() and (of_line[1:, 0] > ends[:-1]).all())


def plain_chunks(
    path: Path, separator: str, present: Sequence[str], names: Sequence[str], rows: int | None
) -> Iterator[pd.DataFrame]:
    """Yield the columns `names` of a plain file as text, at most `rows` rows at a time; at least one frame."""
    kinds = dict.fromkeys(names, pa.large_string())
    options = arrow_csv.ConvertOptions(
        column_types=kinds, include_columns=list(names), null_values=[""], strings_can_be_null=True
    )
    reader = arrow_csv.open_csv(
        path,
        arrow_csv.ReadOptions(
            use_threads=False, block_size=4 * _BLOCK, column_names=list(present), skip_rows=1
        ),
        arrow_csv.ParseOptions(delimiter=separator, quote_char=False),
        options,
    )
    waiting: list[pa.RecordBatch] = []
    held, given = 0, False
    for batch in reader:
        start = 0
        while rows and held + len(batch) - start >= rows:
            waiting.append(batch.slice(start, rows - held))
            start += rows - held
            yield _frame(waiting, reader.schema)
            waiting, held, given = [], 0, True
        waiting.append(batch.slice(start))
        held += len(batch) - start
    if held or not given:
        yield _frame(waiting, reader.schema)


def _frame(batches: list[pa.RecordBatch], schema: pa.Schema) -> pd.DataFrame:
    return pa.Table.from_batches(batches, schema).to_pandas(types_mapper=_TEXT.get)
