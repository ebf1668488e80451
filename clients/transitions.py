"""Which items this platform's shoppers take near each other: a local, noise-free item-to-item memory.

    K[i, j] = Σ over shoppers of  max over the shopper's events of i and j, at most `WINDOW` events apart,
              of  w · w′ · max(gap, 1)^(−½)  /  ( n_i^½ · n_j^¼ )

gap counts baskets, w and w′ are the events' weights (1 unless the platform weighs kinds of events), n_i the shoppers who
have item i, each by their weightiest event of it. Both directions count alike. A weight is at most 1, so one shopper
counts at most 1 for a pair, as for an item: nobody decides alone what strangers see by repeating something.

It is an item-based neighbourhood (Deshpande & Karypis 2004) with sequential weights (Garg et al. 2019); the smaller power
on the candidate's side lets popular items keep a part of their lead. A shopper's score of item j sums K over their own
recent events:

    t(u, j) = Σ_l exp(−λ·age_l) · K[item_l, j]

K is a function of all shoppers: it belongs to the platform's local layer, never enters shared training and never
leaves. An item that nobody has is a zero row and column, and is ranked by the other parts of the score.

| case                                  | what happens                                       |
|---------------------------------------|-----------------------------------------------------|
| an item is repeated next to itself    | the pair does not count                             |
| a shopper has a pair several times    | counts once, by the strongest                       |
| a weight above 1                      | the pair counts 1                                   |
| no events, or one event a shopper     | K is empty, t is zero everywhere                    |
| same basket                           | gap 0 counts as 1                                   |
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from clients.data.sequences import Floats, Ints
from clients.data.split import Part, Split

WINDOW = 20
"""At most so many events apart."""
DECAY = 0.31
"""λ: how fast a shopper's own events lose weight, by basket."""
_EVENTS = 2**18
"""About so many events are held at a time: their pairs are up to WINDOW times as many."""
_SELF_POWER, _OTHER_POWER = 0.5, 0.25


def transitions(split: Split, which: Part, items: int) -> sparse.csr_matrix:
    """Return K, (I, I) float32, from what the shoppers had before what `which` holds out."""
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
    matrix = matrix + matrix.T
    holders = np.maximum(split.holders(which, items), 1)
    scaled = sparse.diags(holders**-_SELF_POWER) @ matrix @ sparse.diags(holders**-_OTHER_POWER)
    return sparse.csr_matrix(scaled, dtype=np.float32)


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


def transition_scores(
    matrix: sparse.csr_matrix, items: NDArray[np.int64], ages: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return t, (B, I) float32, for histories as `Split.padded` gives them: (B, L) items (−1: none) and ages."""
    real = items >= 0
    weights = np.exp(-DECAY * ages[real]).astype(np.float32)
    shape = (len(items), matrix.shape[0])
    recent = sparse.csr_matrix((weights, (np.nonzero(real)[0], items[real])), shape=shape)
    return np.asarray((recent @ matrix).toarray(), dtype=np.float32)
