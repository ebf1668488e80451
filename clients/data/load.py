"""From a platform's two files (or frames), or its event store, to its catalogue and sequences, in one call."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clients.data.catalogue import Catalogue, build_catalogue
from clients.data.clean import clean_interactions, nothing_usable, research_k_core, sift
from clients.data.columns import ItemColumns, split_columns
from clients.data.read import read_interactions, read_items
from clients.data.report import CleaningReport, merged
from clients.data.sequences import Sequences, build_sequences, concatenated, item_hashes
from clients.data.store import EventStore
from clients.data.table import Table, interactions_table, items_table
from clients.errors import DataError, NoShopperError


@dataclass(frozen=True, eq=False)
class PlatformData:
    """What a client works with: the public catalogue, the private sequences, and what cleaning did to
    each. `nobody` says why there is no shopper, where there is none."""

    catalogue: Catalogue
    sequences: Sequences
    items_report: CleaningReport
    events_report: CleaningReport
    nobody: NoShopperError | None = None

    @property
    def tainted(self) -> bool:
        """Whether a filter over all users ran, so that no ε may be claimed."""
        return self.events_report.tainted


def load_platform(
    interactions: str | Path | pd.DataFrame,
    items: str | Path | pd.DataFrame,
    columns: Mapping[str, Any] | None = None,
    *,
    seed: int,
    events: Collection[str] | None = None,
    min_events: int = 3,
    now: float | None = None,
    k_core: int | None = None,
    require_text: bool = True,
    may_be_empty: bool = False,
    name: str = "columns",
) -> PlatformData:
    """Read, validate, clean and order a platform's data.

    `columns` is the flat table of the scenario file, `name` what messages call it; `k_core` is for research
    without privacy and taints the result; the other options are those of `build_catalogue`,
    `clean_interactions` and `build_sequences`. Raises `DataError`, and `NoShopperError` where no shopper can be used,
    unless the data `may_be_empty`.
    """
    for_events, for_items = split_columns(columns, name)
    item_table = _items(items, for_items)
    catalogue, items_report = build_catalogue(item_table, require_text=require_text)
    try:
        event_table = (
            interactions_table(interactions, for_events)
            if isinstance(interactions, pd.DataFrame)
            else read_interactions(interactions, for_events)
        )
        event_table, events_report = clean_interactions(
            event_table, catalogue, events=events, min_events=min_events, now=now
        )
    except NoShopperError as nobody:
        return _empty(catalogue, items_report, nobody, may_be_empty)
    if k_core is not None:
        event_table, events_report = research_k_core(event_table, events_report, k_core)
    return PlatformData(
        catalogue, build_sequences(event_table, catalogue, seed=seed), items_report, events_report
    )


def load_store(
    store: EventStore,
    items: str | Path | pd.DataFrame | None = None,
    columns: Mapping[str, Any] | None = None,
    *,
    seed: int,
    min_events: int = 3,
    require_text: bool = True,
    may_be_empty: bool = False,
    name: str = "columns",
) -> PlatformData:
    """Clean and order what `clients.data.ingest` made, shard by shard: the same as `load_platform` of the same rows.

    `items`: the catalogue where the store keeps none. Raises `DataError` when there is no catalogue, `NoShopperError`
    when there is no shopper, unless it `may_be_empty`, and StoreError when the store cannot be read.
    """
    manifest = store.manifest()
    if manifest.items is not None:
        catalogue_table = read_items(store.path / manifest.items)
    elif items is not None:
        catalogue_table = _items(items, split_columns(columns, name)[1])
    else:
        raise DataError(f"{store.path}: there is no catalogue. Set items or [catalogue], and ingest again.")
    catalogue, items_report = build_catalogue(catalogue_table, require_text=require_text)
    parts, reports, hashes = [], [], item_hashes(catalogue, seed)
    for table in store.tables():
        kept, report = sift(table, catalogue, min_events=min_events)
        reports.append(report)
        if report.kept:
            parts.append(build_sequences(kept, catalogue, seed=seed, hashes=hashes))
    if not reports:
        nobody = NoShopperError(f"{store.path}: holds no event yet. Run: fedcart client ingest.")
        return _empty(catalogue, items_report, nobody, may_be_empty)
    report = merged(reports, str(store.path))
    if not parts:
        return _empty(catalogue, items_report, nothing_usable(report), may_be_empty)
    sequences = concatenated(parts)
    counts = np.bincount(sequences.items, minlength=len(catalogue))
    report = replace(report, users=len(sequences), items=int((counts > 0).sum()))
    return PlatformData(catalogue, sequences, items_report, report)


def _empty(
    catalogue: Catalogue, items_report: CleaningReport, nobody: NoShopperError, allowed: bool
) -> PlatformData:
    """Return the data of a platform without a shopper; raise `nobody` where that is not allowed."""
    if not allowed:
        raise nobody
    none = np.empty(0, dtype=np.int64)
    sequences = Sequences((), none, none, np.zeros(1, dtype=np.int64))
    return PlatformData(catalogue, sequences, items_report, CleaningReport("nobody", 0, 0), nobody)


def _items(items: str | Path | pd.DataFrame, columns: ItemColumns) -> Table:
    return items_table(items, columns) if isinstance(items, pd.DataFrame) else read_items(items, columns)
