"""Which items this platform's shoppers take near each other: a local, noise-free item-to-item memory.

    K[i, j] = Σ over pairs of events of i and j, at most `WINDOW` events apart in one shopper's history,
              of  w · w′ · max(gap, 1)^(−½)  /  ( n_i^½ · n_j^¼ )

gap counts baskets, w and w′ are the events' weights (1 unless the platform weighs kinds of events), n_i the shoppers who
have item i, each by their weightiest event of it. Both directions count alike. It is an item-based neighbourhood
(Deshpande & Karypis 2004) with sequential weights (Garg et al. 2019); the smaller power on the candidate's side lets
popular items keep a part of their lead. A shopper's score of item j sums K over their own recent events:

    t(u, j) = Σ_l exp(−λ·age_l) · K[item_l, j]

K is a function of all shoppers: it belongs to the platform's local layer, never enters shared training and never
leaves. An item that nobody has is a zero row and column, and is ranked by the other parts of the score.

| case                                  | what happens                                       |
|---------------------------------------|-----------------------------------------------------|
| an item is repeated next to itself    | the pair does not count                             |
| no events, or one event a shopper     | K is empty, t is zero everywhere                    |
| same basket                           | gap 0 counts as 1                                   |
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from clients.data.split import Part, Split

WINDOW = 20
"""At most so many events apart."""
DECAY = 0.31
"""λ: how fast a shopper's own events lose weight, by basket."""
_SELF_POWER, _OTHER_POWER = 0.5, 0.25


def transitions(split: Split, which: Part, items: int) -> sparse.csr_matrix:
    """Return K, (I, I) float32, from what the shoppers had before what `which` holds out."""
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
    matrix = matrix + matrix.T
    holders = np.maximum(split.holders(which, items), 1)
    scaled = sparse.diags(holders**-_SELF_POWER) @ matrix @ sparse.diags(holders**-_OTHER_POWER)
    return sparse.csr_matrix(scaled, dtype=np.float32)


def transition_scores(
    matrix: sparse.csr_matrix, items: NDArray[np.int64], ages: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return t, (B, I) float32, for histories as `Split.padded` gives them: (B, L) items (−1: none) and ages."""
    real = items >= 0
    weights = np.exp(-DECAY * ages[real]).astype(np.float32)
    shape = (len(items), matrix.shape[0])
    recent = sparse.csr_matrix((weights, (np.nonzero(real)[0], items[real])), shape=shape)
    return np.asarray((recent @ matrix).toarray(), dtype=np.float32)
