"""Each shopper's events in time order, as flat arrays. One shopper is one example."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from clients.data.catalogue import Catalogue
from clients.data.distinct import codes_of
from clients.data.keyed import Hashes, combine, keyed_hash
from clients.data.table import Table
from clients.errors import DataError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Sequences:
    """The events of `U` shoppers, `E` in all.

    `user_ids` (U,) sorted; `items` int64 (E,) catalogue rows, in time order within each shopper; `groups`
    int64 (E,) ordinal 0, 1, 2 … of the event's group (basket) within its shopper; `offsets` int64 (U+1,):
    the events of shopper `u` are `offsets[u]:offsets[u+1]`. The order within a group means nothing. `weights`
    float32 (E,) > 0: how much each event counts; None where all count 1.
    """

    user_ids: tuple[str, ...]
    items: Ints
    groups: Ints
    offsets: Ints
    weights: Floats | None = None

    def __len__(self) -> int:
        return len(self.user_ids)

    @cached_property
    def event_users(self) -> Ints:
        """The shopper's position for each event, int64 (E,)."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    @property
    def event_weights(self) -> Floats:
        """How much each event counts, (E,)."""
        return np.ones(len(self.items), dtype=np.float32) if self.weights is None else self.weights

    def user(self, u: int) -> tuple[Ints, Ints]:
        """Items and groups of the shopper at position `u`."""
        part = slice(self.offsets[u], self.offsets[u + 1])
        return self.items[part], self.groups[part]

    def take(self, indices: npt.ArrayLike) -> "Sequences":
        """The shoppers at these positions, in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        lengths = np.diff(self.offsets)[chosen]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        events = np.arange(offsets[-1]) + np.repeat(self.offsets[chosen] - offsets[:-1], lengths)
        names = tuple(self.user_ids[u] for u in chosen)
        weights = None if self.weights is None else self.weights[events]
        return Sequences(names, self.items[events], self.groups[events], offsets, weights)

    def without(self, user_id: str) -> "Sequences":
        """All shoppers but one: the neighbouring data set of the privacy definition. `KeyError` if
        unknown."""
        if user_id not in self.user_ids:
            raise KeyError(user_id)
        return self.take([u for u, name in enumerate(self.user_ids) if name != user_id])

    def fingerprint(self) -> str:
        """SHA-256 (hex) of everything here. It is computed from private data: it stays on the platform."""
        digest = hashlib.sha256("\0".join(self.user_ids).encode())
        for array in (self.items, self.groups, self.offsets):
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        if self.weights is not None:
            digest.update(np.ascontiguousarray(self.weights, dtype="<f4").tobytes())
        return digest.hexdigest()


def item_hashes(catalogue: Catalogue, seed: int) -> Hashes:
    """The keyed hash of each item, (I,), which orders what time does not."""
    return keyed_hash(seed, "order-item", catalogue.item_ids)


def concatenated(parts: Sequence[Sequences]) -> Sequences:
    """All shoppers of several parts, which share none, sorted by id. Needs about twice the memory of the result."""
    names = [name for part in parts for name in part.user_ids]
    order = np.array(sorted(range(len(names)), key=names.__getitem__), dtype=np.int64)
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    offsets = np.concatenate([[0], np.cumsum(lengths[order])]).astype(np.int64)
    starts = np.empty(len(names), dtype=np.int64)
    starts[order] = offsets[:-1]
    items, groups = (np.empty(offsets[-1], dtype=np.int64) for _ in range(2))
    weighted = any(part.weights is not None for part in parts)
    weights = np.ones(offsets[-1], dtype=np.float32) if weighted else None
    first = 0
    for part in parts:
        where = starts[first : first + len(part)]
        events = np.arange(part.items.size) + np.repeat(where - part.offsets[:-1], np.diff(part.offsets))
        items[events], groups[events] = part.items, part.groups
        if weights is not None:
            weights[events] = part.event_weights
        first += len(part)
    return Sequences(tuple(names[u] for u in order), items, groups, offsets, weights)


def build_sequences(
    table: Table, catalogue: Catalogue, *, seed: int, hashes: Hashes | None = None
) -> Sequences:
    """Order each shopper's events and put them into groups. Expects a cleaned table.

    A group is a basket where the event has one (placed at its earliest event), else all events of the
    shopper with the same time, else (an order column of positions) the event alone. Inside a group, and
    between baskets or positions that tie, a hash keyed by `seed` of shopper, basket and item decides: the
    file's row order never does. A column `weight`, which the event store has, becomes the weights. `hashes`:
    `item_hashes(catalogue, seed)`, for whoever has them already. Raises `DataError`
    when an item is not in the catalogue or an id or order is missing.
    """
    frame = table.frame
    rows, (codes, known) = catalogue.index_of(frame["item_id"]), codes_of(frame["user_id"])
    if (rows < 0).any() or (codes < 0).any() or frame["order"].isna().any():
        raise DataError(f"{table.source}: rows that cannot be used: call clean_interactions first.")
    users, names = _ranked(codes, known)
    hashes = item_hashes(catalogue, seed) if hashes is None else hashes
    starts, baskets, basket_names = _starts(table, users)
    by_position = table.order_kind == "position"
    order = np.argsort(starts)  # not stable: events that tie are put in order below
    small = np.uint16 if len(names) <= 2**16 else np.int64  # numpy sorts 16 bits by radix
    order = order[np.argsort(users[order].astype(small), kind="stable")]
    users, starts = users[order], starts[order]
    new_user = np.diff(users, prepend=-1) != 0
    opens = new_user | (np.diff(starts, prepend=np.nan) != 0)
    tied = np.flatnonzero(~opens | np.append(~opens[1:], False))
    if tied.size:
        those, runs = order[tied], np.cumsum(opens)[tied]
        user_hash = _hashed(seed, "order-user", names, users[tied])
        item_hash = combine(user_hash, hashes[rows[those]])
        tie = item_hash.copy() if by_position else np.zeros(len(tied), dtype=np.uint64)
        has = baskets[those] >= 0
        if has.any():
            tie[has] = combine(
                user_hash[has], _hashed(seed, "order-basket", basket_names, baskets[those][has])
            )
        within = np.lexsort((rows[those], item_hash, tie, runs))
        order[tied], tie = those[within], tie[within]
        opens[tied] |= np.diff(tie, prepend=tie[:1]) != 0
    if by_position:
        opens |= baskets[order] < 0
    ordinal = np.cumsum(opens) - 1
    counts = np.bincount(users, minlength=len(names))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    groups = ordinal - np.repeat(ordinal[offsets[:-1]], counts)
    return Sequences(tuple(names), rows[order], groups.astype(np.int64), offsets, _weights(table, order))


def _ranked(codes: Ints, known: "pd.Index[Any]") -> tuple[Ints, list[str]]:
    """Each event's shopper by position among those who have an event, sorted, and these."""
    used = np.flatnonzero(np.bincount(codes, minlength=len(known)))
    names = [str(name) for name in known[used]]
    order = sorted(range(len(names)), key=names.__getitem__)
    ranks = np.empty(len(known), dtype=np.int64)
    ranks[used[order]] = np.arange(len(order))
    return ranks[codes], [names[at] for at in order]


def _hashed(seed: int, purpose: str, names: "Sequence[str] | pd.Index[Any]", codes: Ints) -> Hashes:
    """The keyed hash of `names[code]` for each code; of no other name."""
    distinct, back = np.unique(codes, return_inverse=True)
    return keyed_hash(seed, purpose, [str(names[code]) for code in distinct])[back]


def _weights(table: Table, order: npt.NDArray[np.int64]) -> Floats | None:
    """Per event in this order: its weight; None where the table has none, or all are 1."""
    if "weight" not in table.frame:
        return None
    weights = table.frame["weight"].to_numpy(dtype=np.float32)
    return None if (weights == 1).all() else weights[order]


def _starts(table: Table, users: Ints) -> tuple[npt.NDArray[np.float64], Ints, "pd.Index[Any]"]:
    """Per event: when its group starts, and its basket's number, −1 where it has none; and the baskets."""
    starts = table.frame["order"].to_numpy(dtype=np.float64).copy()
    if "basket" not in table.frame or table.frame["basket"].isna().all():
        return starts, np.full(len(starts), -1, dtype=np.int64), pd.Index([])
    codes, names = codes_of(table.frame["basket"])
    has = codes >= 0
    pair = pd.Series(starts[has]).groupby([users[has], codes[has]], sort=False)
    starts[has] = pair.transform("min").to_numpy()
    return starts, codes, names
