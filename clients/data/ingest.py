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
import pyarrow.compute as pc

from clients.data.distinct import repeated
from clients.data.report import CleaningReport
from clients.data.sources.raw import Raw, localised
from clients.data.sources.settings import EventSource, ItemSource
from clients.data.spellings import Listed, refusal, texts, two_spellings
from clients.data.store import (
    COLUMNS,
    IDS,
    SCHEMA,
    STAGED,
    EventStore,
    Manifest,
    file_name,
    to_frame,
)
from clients.data.table import OrderKind, Table, interactions_table, items_table, stack
from clients.data.validate import Rule, interaction_rules, rejected_rows
from clients.data.wanted import wanted_interactions
from clients.errors import DataError

CHUNK_ROWS = 500_000
_IDENTITY = [name for name in COLUMNS if name != "weight"]
_STAGED_SCHEMA = SCHEMA.append(pa.field("source", pa.int64()))
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
    """What one ingest did: a report for each source, rows that were new, rows that were there before, and events that
    the sources no longer have, which went (only where they were read anew)."""

    reports: tuple[CleaningReport, ...]
    added: int
    known: int
    removed: int = 0


class _Staging:
    """Rows that do not count yet, one file for each shard."""

    def __init__(self, store: EventStore, manifest: Manifest, stack: ExitStack) -> None:
        self._store, self._manifest, self._stack = store, manifest, stack
        self._writers: dict[int, pa.ipc.RecordBatchFileWriter] = {}

    def add(self, frame: pd.DataFrame, source: int) -> None:
        """Stage rows of one source; `frame` holds those of COLUMNS that there are."""
        shards = self._store.shards_of(self._manifest, texts(frame["user_id"]))
        small = shards.astype(np.uint16 if self._manifest.shards <= 2**16 else np.int64)
        order = np.argsort(small, kind="stable")  # numpy sorts 16 bits by radix
        columns = [
            pa.chunked_array(pa.array(frame[field.name], field.type, from_pandas=True)).take(pa.array(order))
            if field.name in frame
            else pa.nulls(len(frame), field.type)
            for field in SCHEMA
        ]
        table = pa.table([*columns, np.full(len(frame), source)], schema=_STAGED_SCHEMA).combine_chunks()
        ordered = shards[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=-1))
        for start, end in zip(starts, [*starts[1:], len(ordered)], strict=True):
            self._writer(int(ordered[start])).write_table(table.slice(start, end - start))

    def _writer(self, shard: int) -> pa.ipc.RecordBatchFileWriter:
        if shard not in self._writers:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            writer = pa.ipc.new_file(str(self._path(shard)), _STAGED_SCHEMA, options=options)
            self._writers[shard] = self._stack.enter_context(writer)
        return self._writers[shard]

    def read(self, shard: int) -> pa.Table:
        with pa.ipc.open_file(str(self._path(shard))) as reader:
            return reader.read_all()

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
    anew: bool = False,
    rows: int = CHUNK_ROWS,
    listed: Listed | None = None,
    progress: Progress = lambda source, read: None,
) -> Ingested:
    """Read what is new in all sources, and the catalogue whole; raise DataError or StoreError and change nothing.

    now : unix seconds; later events (by more than a day) are impossible. full : read sources from their beginning
    (to find what came in later than they allow for); nothing is added twice. anew : the same, and keep only what they
    have now. rows : rows of a chunk. listed : the catalogue's ids where it is no source.
    """
    with store.changing() as manifest, ExitStack() as stack:
        staging = _Staging(store, manifest, stack)
        tallies, marks, kind = [], dict(manifest.marks), manifest.order_kind
        for number, (name, source) in enumerate(sources.items()):
            tally, mark = _Tally(name), {} if full or anew else dict(marks.get(name, {}))
            columns = source.event_columns(name)
            for raw in source.events(columns, dict(mark), rows, now):
                mark |= raw.mark
                if len(raw.frame):
                    table = _table(raw, source, name)
                    kind = _same_kind(kind, table.order_kind, name)
                    usable = _judged(table, source.weights, now, tally)
                    if len(usable):
                        staging.add(usable, number)
                    progress(name, tally.read)
            marks[name] = mark
            tallies.append(tally)
        generation = manifest.generation + 1
        items = None if catalogue is None else _items(catalogue)
        listed = listed if items is None else _listed(items)
        files, added, kept = ({} if anew else dict(manifest.files)), 0, 0
        for shard in staging.finish():
            before = store.shard(manifest, shard)
            new = _wanted(store, manifest, staging.read(shard), tallies)
            merged = _merged(before, new)
            added += 0 if merged is None else len(merged) - len(before)
            if anew:
                merged = _merged(SCHEMA.empty_table(), new)
                kept += 0 if merged is None else len(merged)
            if merged is not None:
                _require_one_spelling(merged, staging.read(shard), list(sources), listed)
                files[shard] = file_name(generation, shard)
                store.write(files[shard], merged)
        if anew and not kept:
            raise DataError(
                "the sources hold no event that can be used, so nothing was taken from the store. To empty it, delete "
                f"{store.path}: then erased shoppers must be erased again."
            )
        removed = store.size(manifest) + added - kept if anew else 0
        written = manifest.items
        if items is not None:
            written = f"{generation}-items.parquet"
            store.write(written, pa.Table.from_pandas(items.frame, preserve_index=False))
        changed = {
            "generation": generation,
            "files": files,
            "added": manifest.added + added,
            "marks": marks,
            "order_kind": kind,
            "items": written,
        }
        store.commit(manifest.model_copy(update=changed))
    reports = tuple(t.report() for t in tallies)
    return Ingested(reports, added, sum(t.kept for t in tallies) - added, removed)


def _require_one_spelling(
    merged: pa.Table, staged: pa.Table, sources: list[str], listed: Listed | None
) -> None:
    """Refuse shoppers of a shard of whom two may be one, and items that the catalogue may have in another spelling.

    All spellings of a shopper's number are in one shard.
    """

    def named(column: str, spelled: str) -> str:
        found = pc.unique(staged["source"].filter(pc.equal(staged[column], spelled))).to_pylist()
        return f"sources.{sources[found[0]]}" if found else "what was ingested before"

    two = two_spellings(merged["user_id"].combine_chunks().dictionary)
    if two is not None:
        raise refusal(f"shoppers of {' and '.join(named('user_id', spelled) for spelled in two)}", *two)
    two = None if listed is None else listed.otherwise(merged["item_id"].combine_chunks().dictionary)
    if two is not None:
        raise refusal(f"items of {named('item_id', two[0])} and of the catalogue", *two)


def _wanted(store: EventStore, manifest: Manifest, staged: pa.Table, tallies: list[_Tally]) -> pa.Table:
    """Staged rows but those of erased shoppers, which are counted. Here a shopper is hashed once, not once a chunk."""
    if manifest.erased:
        shoppers = pc.unique(staged["user_id"])
        gone = [digest.hex() in manifest.erased for digest in store.digests(shoppers.to_pylist())]
        erased = pc.is_in(staged["user_id"], value_set=shoppers.filter(pa.array(gone)))
        for number, rows in enumerate(np.bincount(staged["source"].filter(erased), minlength=len(tallies))):
            if rows:
                tallies[number].kept -= int(rows)
                tallies[number].dropped["erased"] += int(rows)
        staged = staged.filter(pc.invert(erased))
    return staged.select(COLUMNS)


def _merged(before: pa.Table, new: pa.Table) -> pa.Table | None:
    """What was there and what is new, each event once, the first of equal ones; None where nothing is new.

    A weight that was changed since takes the old one's place.
    """
    events = pa.concat_tables([before, new])
    for name in IDS:
        encoded = events[name].combine_chunks().dictionary_encode()
        events = events.set_column(events.column_names.index(name), name, encoded)
    frame = to_frame(events)
    stay = ~repeated(frame)
    if int(stay.sum()) == len(before):
        return None
    if (frame["weight"] != 1).any():
        stay[stay] = ~repeated(frame[stay], _IDENTITY, keep="last")
    return events if stay.all() else events.filter(pa.array(stay))


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


def _judged(table: Table, weights: Mapping[str, float], now: float, tally: _Tally) -> pd.DataFrame:
    """Judge each row by itself, count why it is left out, and return the others, weighed."""
    frame, rules = table.frame, list(interaction_rules(table, now=now))
    if weights:
        if "event" not in frame:
            raise DataError(
                f"{table.source}: weights need the column with the kind of event: set columns.event."
            )
        weight = frame["event"].map(dict(weights)).fillna(0.0).astype(np.float64)
        frame = frame.assign(weight=weight)
        rules.append(Rule("other_event", lambda frame: frame["weight"] > 0))
    else:
        frame = frame.assign(weight=1.0)
    reasons = rejected_rows(frame, rules)
    tally.read += len(frame)
    tally.kept += len(frame) - len(reasons)
    for why, count in reasons.value_counts(sort=False).items():
        tally.dropped[str(why)] += int(count)
        if str(why) not in tally.examples:
            first = int(reasons.index[reasons == why][0])
            tally.examples[str(why)] = table.cell(first, _SHOWN[str(why)])
    return frame.drop(index=reasons.index) if len(reasons) else frame


# reason → the column to show
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


def _listed(items: Table) -> Listed:
    ids = pc.unique(texts(items.frame["item_id"])).drop_null()
    two = two_spellings(ids)
    if two is not None:
        raise refusal(items.source, *two)
    return Listed(ids)


def _items(catalogue: ItemSource) -> Table:
    """Read the catalogue as it stands in its source now."""
    columns = catalogue.item_columns("catalogue")
    tables = [
        items_table(raw.frame, columns, raw.where)
        for raw in catalogue.items(columns, CHUNK_ROWS)
        if len(raw.frame)
    ]
    if not tables:
        raise DataError("catalogue: the source holds no item. Set it to the table or file of the items.")
    return stack(tables, "catalogue")
