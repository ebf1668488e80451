"""A platform's own memory: how many of its shoppers have each item, and take each pair near each other.

    pairs[i, j] = Σ over shoppers of  max over the shopper's events of i and j, at most `WINDOW` events apart,
                  of  w · w′ · max(gap, 1)^(−½)

gap counts baskets, w and w′ are the events' weights (1 unless the platform weighs kinds of events). Both directions count
alike (sequential weights: Garg et al. 2019). A weight is at most 1, so one shopper counts at most 1 for a pair, as for an
item: nobody decides alone what strangers see by repeating something. popularity is the number of shoppers who have an
item, each by their weightiest event of it. Both are functions of all shoppers: they are local, never enter shared
training, and never leave.

| case                                  | what happens                                       |
|---------------------------------------|-----------------------------------------------------|
| an item is repeated next to itself    | the pair does not count                             |
| a shopper has a pair several times    | counts once, by the strongest                       |
| a weight above 1                      | the pair counts 1                                   |
| no events, or one event a shopper     | no pairs                                            |
| same basket                           | gap 0 counts as 1                                   |
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from clients.data.sequences import Floats, Ints
from clients.data.split import Part, Split
from clients.memory import Memory

WINDOW = 20
"""At most so many events apart."""
_EVENTS = 2**18
"""About so many events are held at a time: their pairs are up to WINDOW times as many."""


def own_memory(split: Split, which: Part, items: int) -> Memory:
    """Return what the shoppers did before what `which` holds out, for `items` = I items."""
    sequences = split.sequences
    users = sequences.event_users
    inside = np.arange(sequences.items.size) < split.ends(which)[users]
    users, rows, groups = users[inside], sequences.items[inside], sequences.groups[inside]
    weights = None if sequences.weights is None else sequences.weights[inside]
    matrix = sparse.csr_matrix((items, items), dtype=np.float32)
    start = 0
    while start < len(users):
        last = users[min(start + _EVENTS, len(users)) - 1]
        at = slice(start, int(np.searchsorted(users, last, side="right")))
        matrix = matrix + _pairs(
            users[at], rows[at], groups[at], None if weights is None else weights[at], items
        )
        start = at.stop
    popularity = split.holders(which, items).astype(np.float64)
    return Memory(popularity, sparse.csr_matrix(matrix + matrix.T))


def near_events(
    users: NDArray[np.integer], rows: NDArray[np.integer], groups: NDArray[np.integer]
) -> Iterator[tuple[Ints, Ints, NDArray[np.float64]]]:
    """Yield the pairs of one shopper's events of different items, at most `WINDOW` events apart, by how far.

    users, rows, groups : (N,) shopper, item and basket of each event; each shopper's in time order. Yields positions of
    the earlier and the later event, and max(gap, 1)^(−½).
    """
    for apart in range(1, min(WINDOW, len(rows) - 1) + 1):
        at = np.flatnonzero((users[apart:] == users[:-apart]) & (rows[apart:] != rows[:-apart]))
        yield at, at + apart, np.maximum(groups[at + apart] - groups[at], 1) ** -0.5


def _pairs(users: Ints, rows: Ints, groups: Ints, weights: Floats | None, items: int) -> sparse.csr_matrix:
    """Return (I, I), above the diagonal: the sum over some shoppers of their strongest pair of events of two items."""
    owners, pairs, values = [], [], []
    for at, later, value in near_events(users, rows, groups):
        one, other = rows[at], rows[later]
        if weights is not None:
            value = np.minimum(value * weights[at] * weights[later], 1)  # noqa: PLW2901
        owners.append(users[at])
        pairs.append(np.minimum(one, other) * items + np.maximum(one, other))
        values.append(value.astype(np.float32))
    if not sum(map(len, owners)):
        return sparse.csr_matrix((items, items), dtype=np.float32)
    owner, pair, value = (np.concatenate(parts) for parts in (owners, pairs, values))
    order = np.lexsort((pair, owner))
    owner, pair = owner[order], pair[order]
    first = np.flatnonzero((np.diff(owner, prepend=-1) != 0) | (np.diff(pair, prepend=-1) != 0))
    strongest = np.maximum.reduceat(value[order], first)
    return sparse.csr_matrix((strongest, np.divmod(pair[first], items)), shape=(items, items))
