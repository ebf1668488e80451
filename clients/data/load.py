"""From a platform's two files (or frames) to its catalogue and sequences, in one call."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from clients.data.catalogue import Catalogue, build_catalogue
from clients.data.clean import clean_interactions, research_k_core
from clients.data.columns import split_columns
from clients.data.read import read_interactions, read_items
from clients.data.report import CleaningReport
from clients.data.sequences import Sequences, build_sequences
from clients.data.table import interactions_table, items_table


@dataclass(frozen=True, eq=False)
class PlatformData:
    """What a client works with: the public catalogue, the private sequences, and what cleaning did to
    each."""

    catalogue: Catalogue
    sequences: Sequences
    items_report: CleaningReport
    events_report: CleaningReport

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
    name: str = "columns",
) -> PlatformData:
    """Read, validate, clean and order a platform's data.

    `columns` is the flat table of the scenario file, `name` what messages call it; `k_core` is for research
    without privacy and taints the result; the other options are those of `build_catalogue`,
    `clean_interactions` and `build_sequences`. Raises `DataError`.
    """
    for_events, for_items = split_columns(columns, name)
    item_table = (
        items_table(items, for_items) if isinstance(items, pd.DataFrame) else read_items(items, for_items)
    )
    event_table = (
        interactions_table(interactions, for_events)
        if isinstance(interactions, pd.DataFrame)
        else read_interactions(interactions, for_events)
    )
    catalogue, items_report = build_catalogue(item_table, require_text=require_text)
    event_table, events_report = clean_interactions(
        event_table, catalogue, events=events, min_events=min_events, now=now
    )
    if k_core is not None:
        event_table, events_report = research_k_core(event_table, events_report, k_core)
    return PlatformData(
        catalogue, build_sequences(event_table, catalogue, seed=seed), items_report, events_report
    )
