"""From a platform's sources into its event store: in chunks, only what is new, whole or not at all.

Chunk by chunk rows are judged one by one, and staged by shard. At the end each shard that got rows is merged with
what is there: an event that is there already, equal in every column, is not added. Then one manifest makes events
and marks count together, so a crash at any moment leaves the store before or after.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from clients.data.report import CleaningReport
from clients.data.sources.raw import Raw, localised
from clients.data.sources.settings import EventSource, ItemSource
from clients.data.store import (
    COLUMNS,
    SCHEMA,
    STAGED,
    EventStore,
    Manifest,
    file_name,
    shard_numbers,
    to_arrow,
    to_frame,
)
from clients.data.table import OrderKind, Table, interactions_table, items_table, stack
from clients.data.validate import interaction_rules, rejected_rows
from clients.data.wanted import wanted_interactions
from clients.errors import DataError

CHUNK_ROWS = 500_000
_IDENTITY = [name for name in COLUMNS if name != "weight"]
Progress = Callable[[str, int], None]
"""Called with a source's name and how many of its rows were read so far."""


@dataclass
class _Tally:
    """What happened to the rows of one source."""

    source: str
    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def report(self) -> CleaningReport:
        return CleaningReport(self.source, self.read, self.kept, dict(self.dropped), examples=self.examples)


@dataclass(frozen=True)
class Ingested:
    """What one ingest did: a report for each source, rows that were new, and rows that were there before."""

    reports: tuple[CleaningReport, ...]
    added: int
    known: int


class _Staging:
    """Rows that do not count yet, one file for each shard."""

    def __init__(self, store: EventStore, manifest: Manifest, stack: ExitStack) -> None:
        self._store, self._manifest, self._stack = store, manifest, stack
        self._writers: dict[int, pa.ipc.RecordBatchFileWriter] = {}

    def add(self, frame: pd.DataFrame, shards: np.ndarray) -> None:
        order = np.argsort(shards, kind="stable")
        table, ordered = to_arrow(frame).combine_chunks().take(order), shards[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=-1))
        for start, end in zip(starts, [*starts[1:], len(ordered)], strict=True):
            self._writer(int(ordered[start])).write_table(table.slice(start, end - start))

    def _writer(self, shard: int) -> pa.ipc.RecordBatchFileWriter:
        if shard not in self._writers:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            writer = pa.ipc.new_file(str(self._path(shard)), SCHEMA, options=options)
            self._writers[shard] = self._stack.enter_context(writer)
        return self._writers[shard]

    def read(self, shard: int) -> pd.DataFrame:
        with pa.ipc.open_file(str(self._path(shard))) as reader:
            return to_frame(reader.read_all())

    def _path(self, shard: int) -> Path:
        return self._store.path / f"{STAGED}{shard:03}.arrow"

    def finish(self) -> list[int]:
        self._stack.close()
        return sorted(self._writers)


def ingest(
    store: EventStore,
    sources: Mapping[str, EventSource],
    catalogue: ItemSource | None,
    *,
    now: float,
    full: bool = False,
    rows: int = CHUNK_ROWS,
    progress: Progress = lambda source, read: None,
) -> Ingested:
    """Read what is new in all sources, and the catalogue whole; raise DataError or StoreError and change nothing.

    now : unix seconds; later events (by more than a day) are impossible. full : read sources from their beginning
    (to find what came in later than they allow for); nothing is added twice. rows : rows of a chunk.
    """
    with store.changing() as manifest, ExitStack() as stack:
        staging = _Staging(store, manifest, stack)
        tallies, marks, kind = [], dict(manifest.marks), manifest.order_kind
        for name, source in sources.items():
            tally, mark = _Tally(name), {} if full else dict(marks.get(name, {}))
            columns = source.event_columns(name)
            for raw in source.events(columns, dict(mark), rows, now):
                mark |= raw.mark
                if len(raw.frame):
                    table = _table(raw, source, name)
                    kind = _same_kind(kind, table.order_kind, name)
                    _stage(store, manifest, table, source.weights, now, tally, staging)
                    progress(name, tally.read)
            marks[name] = mark
            tallies.append(tally)
        generation = manifest.generation + 1
        files, added, staged = dict(manifest.files), 0, sum(t.kept for t in tallies)
        for shard in staging.finish():
            before = store.shard(manifest, shard)
            new = staging.read(shard)
            merged = _distinct(pd.concat([before, new], ignore_index=True) if len(before) else new)
            if len(merged) > len(before):
                if (merged["weight"] != 1).any():  # a weight that was changed since takes the old one's place
                    merged = merged.drop_duplicates(_IDENTITY, keep="last")
                files[shard] = file_name(generation, shard)
                store.write(files[shard], to_arrow(merged))
                added += len(merged) - len(before)
        items = manifest.items if catalogue is None else _items(store, catalogue, generation)
        changed = {
            "generation": generation,
            "files": files,
            "marks": marks,
            "order_kind": kind,
            "items": items,
        }
        store.commit(manifest.model_copy(update=changed))
    return Ingested(tuple(t.report() for t in tallies), added, staged - added)


def _distinct(frame: pd.DataFrame) -> pd.DataFrame:
    """Each event once, the first of equal ones. Columns that hold one value tell none apart, and are not compared."""
    differs = [name for name in frame if not _alike(frame[name])]
    return frame[~frame.duplicated(differs)] if differs else frame.iloc[:1]


def _alike(column: pd.Series) -> bool:
    first, last = column.iloc[0], column.iloc[-1]
    if pd.isna(first):
        return bool(column.isna().all())
    return bool(first == last and (column == first).all())


def _table(raw: Raw, source: EventSource, name: str) -> Table:
    columns = source.event_columns(name)
    order = wanted_interactions(columns, [str(c) for c in raw.frame.columns], raw.where)["order"]
    timed = raw.frame.assign(**{order: localised(raw.frame[order], source.timezone, raw.where)})
    return interactions_table(timed, columns, raw.where)


def _same_kind(before: OrderKind | None, here: OrderKind | None, name: str) -> OrderKind | None:
    if before is not None and here != before:
        raise DataError(
            f"sources.{name} orders events by {here}, what is in the store by {before}: they cannot be put into "
            "one order. Set columns.order, or use a store of its own."
        )
    return here


def _stage(
    store: EventStore,
    manifest: Manifest,
    table: Table,
    weights: Mapping[str, float],
    now: float,
    tally: _Tally,
    staging: _Staging,
) -> None:
    """Judge each row by itself, count why it is left out, and stage the others."""
    frame = table.frame
    reasons = rejected_rows(frame, interaction_rules(table, now=now))
    reason = pd.Series(None, index=frame.index, dtype=object)
    reason[reasons.index] = reasons
    weight = pd.Series(1.0, index=frame.index)
    if weights:
        if "event" not in frame:
            raise DataError(
                f"{table.source}: weights need the column with the kind of event: set columns.event."
            )
        weight = frame["event"].map(dict(weights)).fillna(0.0).astype(np.float64)
        reason[reason.isna() & ~(weight > 0)] = "other_event"
    codes, names = pd.factorize(frame["user_id"])
    digests = store.digests(names.tolist())
    if manifest.erased:
        gone = np.array([digest.hex() in manifest.erased for digest in digests], dtype=bool)
        has = codes >= 0
        erased = np.zeros(len(frame), dtype=bool)
        erased[has] = gone[codes[has]]
        reason[reason.isna() & erased] = "erased"
    tally.read += len(frame)
    for why, count in reason.value_counts(sort=False).items():
        tally.dropped[str(why)] += int(count)
        shown = _SHOWN.get(str(why))
        if shown is not None and str(why) not in tally.examples:
            tally.examples[str(why)] = table.cell(int(reason.index[reason == why][0]), shown)
    stay = reason.isna().to_numpy(dtype=bool)
    tally.kept += int(stay.sum())
    if stay.any():
        kept = frame[stay].assign(weight=weight[stay]).reindex(columns=COLUMNS)
        shards = shard_numbers(digests, manifest.shards)[codes[stay]]
        staging.add(kept, shards)


# reason → the column to show; nothing of an erased shopper is shown
_SHOWN = {
    "missing_user_id": "user_id",
    "missing_item_id": "item_id",
    "bad_time": "order",
    "bad_position": "order",
    "negative_time": "order",
    "future_time": "order",
    "bad_value": "value",
    "other_event": "event",
}


def _items(store: EventStore, catalogue: ItemSource, generation: int) -> str:
    """Write the catalogue in canonical columns, as it stands in its source now."""
    columns = catalogue.item_columns("catalogue")
    tables = [
        items_table(raw.frame, columns, raw.where)
        for raw in catalogue.items(columns, CHUNK_ROWS)
        if len(raw.frame)
    ]
    if not tables:
        raise DataError("catalogue: the source holds no item. Set it to the table or file of the items.")
    frame = stack(tables, "catalogue").frame
    name = f"{generation}-items.parquet"
    store.write(name, pa.Table.from_pandas(frame, preserve_index=False))
    return name
