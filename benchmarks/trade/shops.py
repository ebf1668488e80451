"""One trade, cut by shoppers into five shops: four members that release their sums, and a newcomer."""

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.transfer.platforms import with_shoppers
from clients.data.catalogue import Catalogue
from clients.data.sequences import Sequences
from clients.data.split import Part, leave_one_out
from clients.platform import Platform
from clients.training import ShopperEvents
from shared_model.isolation import isolation

MEMBERS = 4
Ints = NDArray[np.int64]


class Sold(StrEnum):
    """What each shop sells of the trade's items: all, or so much of its own draw."""

    everything = "everything"
    most = "70%"
    half = "50%"

    @property
    def share(self) -> float:
        """The chance of an item to be sold."""
        return {Sold.everything: 1.0, Sold.most: 0.7, Sold.half: 0.5}[self]


@dataclass(frozen=True, eq=False)
class Shop:
    """A platform, and the product of each of its items: (I,), rows of the trade's catalogue."""

    platform: Platform
    products: Ints


def events_of(shop: Shop, before: Part | None) -> ShopperEvents:
    """Return what a shop's shoppers did before what is held out, or all of it."""
    split = shop.platform.split
    users = split.sequences.event_users
    inside = np.full(len(users), True)
    if before is not None:
        inside = np.arange(len(users)) < split.ends(before)[users]
    items, groups = split.sequences.items[inside], split.sequences.groups[inside]
    return ShopperEvents(users[inside], shop.products[items], groups)


@dataclass(frozen=True, eq=False)
class Trade:
    """Five shops with a fifth of the trade's shoppers each."""

    newcomer: Shop
    members: tuple[Shop, ...]


def cut(platform: Platform, sold: Sold, seed: int) -> Trade:
    """Deal the shoppers out by `seed`; each shop sells a draw of its own."""
    rng = np.random.default_rng([seed, 17])
    parts = np.array_split(rng.permutation(len(platform)), MEMBERS + 1)
    shops = []
    for part in parts:
        shop = with_shoppers(platform, np.sort(part))
        kept = rng.random(len(platform.catalogue)) < sold.share
        shops.append(
            Shop(selling(shop, kept) if sold.share < 1 else shop, np.flatnonzero(kept | (sold.share == 1)))
        )
    return Trade(shops[0], tuple(shops[1:]))


def selling(platform: Platform, kept: NDArray[np.bool_]) -> Platform:
    """Return the platform as it is if only the (I,) `kept` items were ever sold."""
    rows = np.flatnonzero(kept)
    features, norms = platform.features[torch.from_numpy(rows)], platform.norms[torch.from_numpy(rows)]
    frame = platform.catalogue.frame.iloc[rows].reset_index(drop=True)
    names = tuple(platform.catalogue.item_ids[row] for row in rows)
    sequences = _events_of(platform.split.sequences, kept)
    return replace(
        platform,
        catalogue=Catalogue(names, frame),
        split=leave_one_out(sequences, first_time_only=platform.filter_seen, seed=0),
        features=features,
        norms=norms,
        isolation=isolation(platform.spec, features, norms),
    )


def _events_of(sequences: Sequences, kept: NDArray[np.bool_]) -> Sequences:
    """Return the shoppers' events with `kept` items; a shopper without any stays, with nothing."""
    stays = kept[sequences.items]
    users, items, groups = sequences.event_users[stays], sequences.items[stays], sequences.groups[stays]
    counts = np.bincount(users, minlength=len(sequences))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    opens = (np.diff(groups, prepend=-1) != 0) | (np.diff(users, prepend=-1) != 0)
    ordinal = np.cumsum(opens) - 1
    starts = ordinal[np.minimum(offsets[:-1], max(len(ordinal) - 1, 0))] if len(ordinal) else offsets[:-1]
    renumbered = ordinal - np.repeat(starts, counts)
    return Sequences(sequences.user_ids, (np.cumsum(kept) - 1)[items], renumbered.astype(np.int64), offsets)
