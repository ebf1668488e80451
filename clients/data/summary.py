"""What a store holds, for the platform's own people: it counts shoppers and events, so it never leaves."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from clients.data.busiest import Busiest
from clients.data.catalogue import Catalogue
from clients.data.products import CodeReport
from clients.data.store import EventStore
from clients.data.wanted import TEXT_COLUMNS


@dataclass(frozen=True)
class Summary:
    """events, shoppers, items : how many; items are distinct ones in events. erased : how many were erased.

    lengths : (fewest, most, shoppers) for shoppers with that many events, in powers of two. coverage : share of
    catalogue items that have each of text, price, image …; empty without a catalogue. known : share of events whose
    item is in the catalogue; None without one. codes : what the catalogue's product codes are worth; None without one.
    busiest : the account with the most events.
    """

    events: int
    shoppers: int
    items: int
    erased: int
    lengths: tuple[tuple[int, int, int], ...]
    coverage: dict[str, float]
    known: float | None
    codes: CodeReport | None
    busiest: Busiest

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the busiest account's id."""
        lengths = [{"from": low, "to": high, "shoppers": count} for low, high, count in self.lengths]
        return {
            "events": self.events,
            "shoppers": self.shoppers,
            "items": self.items,
            "erased": self.erased,
            "lengths": lengths,
            "coverage": self.coverage,
            "events_of_known_items": self.known,
            "most_events_of_an_account": self.busiest.events,
            "codes": None if self.codes is None else self.codes.to_dict(),
        }

    def lines(self) -> list[str]:
        """The summary for a person."""
        out = [
            f"in the store: {self.events:,} events of {self.shoppers:,} shoppers with {self.items:,} items"
        ]
        if self.known is not None:
            out.append(f"  of items in the catalogue: {self.known:.1%} of events")
        out += [f"  catalogue items with {name}: {share:.1%}" for name, share in self.coverage.items()]
        out += [] if self.codes is None else [f"  {line}" for line in self.codes.lines()]
        widest = max((count for _, _, count in self.lengths), default=1)
        for low, high, count in self.lengths:
            span = f"{low:,}" if low == high else f"{low:,}–{high:,}"
            out.append(f"  {span:>15} events  {count:>12,} shoppers  {'█' * round(30 * count / widest)}")
        if self.events:
            out.append(f"  {self.busiest.line(self.events, self.shoppers)}")
        return [*out, f"  erased shoppers kept out: {self.erased:,}"] if self.erased else out


def summarise(
    store: EventStore,
    catalogue: Catalogue | None,
    images: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> Summary:
    """Read every shard once; memory is that of one shard and the distinct items. Raises StoreError.

    images : by model, the items that have a vector of it.
    """
    events = shoppers = known = 0
    items: set[str] = set()
    bins, busiest = np.zeros(64, dtype=np.int64), Busiest()
    for table in store.tables():
        counts = table.frame["user_id"].value_counts(sort=False).to_numpy()
        here = table.frame["item_id"].value_counts(sort=False)
        items.update(str(item) for item in here.index)
        if catalogue is not None:
            known += int(here.to_numpy()[catalogue.index_of(here.index.to_series()) >= 0].sum())
        bins += np.bincount(np.frexp(counts)[1] - 1, minlength=64)[:64]
        busiest = max(busiest, Busiest.of(table.frame["user_id"]))
        events, shoppers = events + len(table.frame), shoppers + len(counts)
    lengths = tuple((2**b, 2 ** (b + 1) - 1, int(n)) for b, n in enumerate(bins) if n)
    return Summary(
        events=events,
        shoppers=shoppers,
        items=len(items),
        erased=len(store.manifest().erased),
        lengths=lengths,
        coverage={} if catalogue is None else _coverage(catalogue, images),
        known=None if catalogue is None or not events else known / events,
        busiest=busiest,
        codes=None if catalogue is None else CodeReport.of(catalogue),
    )


def _coverage(catalogue: Catalogue, images: Mapping[str, Collection[str]]) -> dict[str, float]:
    frame = catalogue.frame
    texts = [name for name in TEXT_COLUMNS if name in frame]
    found = {"text": float(frame[texts].notna().any(axis=1).mean()) if texts else 0.0}
    found |= {str(name): float(frame[name].notna().mean()) for name in frame.columns if str(name) != "text"}
    ids = catalogue.item_ids
    return found | {
        f"image ({model})": sum(item in having for item in ids) / max(len(ids), 1)
        for model, having in images.items()
    }
