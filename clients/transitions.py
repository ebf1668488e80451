"""A platform's own memory: how many of its shoppers have each item, and take each pair near each other.

    pairs[i, j] = Σ over shoppers of the sum, over pairs of their events of i and j at most `WINDOW` events apart,
                  of  w · w′ · max(gap, 1)^(−½)

gap counts baskets, w and w′ are the events' weights (1 unless the platform weighs kinds of events). Both directions count
alike (sequential weights: Garg et al. 2019). popularity is the number of shoppers who have an item, each by their
weightiest event of it. Both are functions of all shoppers: they are local, never enter shared training, and never leave.

| case                                  | what happens                                       |
|---------------------------------------|-----------------------------------------------------|
| an item is repeated next to itself    | the pair does not count                             |
| no events, or one event a shopper     | no pairs                                            |
| same basket                           | gap 0 counts as 1                                   |
"""

import numpy as np
from scipy import sparse

from clients.data.split import Part, Split
from clients.memory import Memory

WINDOW = 20
"""At most so many events apart."""


def own_memory(split: Split, which: Part, items: int) -> Memory:
    """Return what the shoppers did before what `which` holds out, for `items` = I items."""
    sequences = split.sequences
    users = sequences.event_users
    inside = np.arange(sequences.items.size) < split.ends(which)[users]
    users, rows, groups = users[inside], sequences.items[inside], sequences.groups[inside]
    weights = None if sequences.weights is None else sequences.weights[inside]
    matrix = sparse.csr_matrix((items, items), dtype=np.float32)
    for apart in range(1, min(WINDOW, max(len(rows) - 1, 0)) + 1):
        pair = (users[apart:] == users[:-apart]) & (rows[apart:] != rows[:-apart])
        first, second = rows[:-apart][pair], rows[apart:][pair]
        gap = np.maximum(groups[apart:] - groups[:-apart], 1)[pair]
        weight = (1 / np.sqrt(gap)).astype(np.float32)
        if weights is not None:
            weight *= weights[apart:][pair] * weights[:-apart][pair]
        matrix = matrix + sparse.csr_matrix((weight, (first, second)), shape=(items, items))
    return Memory(split.holders(which, items).astype(np.float64), sparse.csr_matrix(matrix + matrix.T))
