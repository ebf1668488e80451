"""Canary shoppers among the real ones: each takes the two products of an edge that it owns, again and again.

Its rows, as the product makes them, are public and of length 1: 1/√2 on each of its two products, and 1 on its edge.
It comes back `VISITS` times, so that a row which is not scaled to 1 would be far longer.
"""

import numpy as np
from numpy.typing import NDArray

from clients.training import ShopperEvents

VISITS = 10
"""Baskets of a canary; each holds both of its products."""


def owned_edges(edges: NDArray[np.integer], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return (m,), m ≤ `most`: places of edges that have no product in common, found in a public random order."""
    taken: set[int] = set()
    owned: list[int] = []
    for place in rng.permutation(len(edges)):
        if len(owned) == most:
            break
        ends = set(edges[place].tolist())
        if not taken & ends:
            taken |= ends
            owned.append(int(place))
    return np.array(owned, dtype=np.int64)


def with_canaries(shoppers: ShopperEvents, pairs: NDArray[np.int64]) -> ShopperEvents:
    """Return the real shoppers' events, and after them those of a canary for each of the (k, 2) `pairs`."""
    first = int(shoppers.users.max(initial=-1)) + 1
    users = np.repeat(np.arange(first, first + len(pairs)), 2 * VISITS)
    groups = np.tile(np.repeat(np.arange(VISITS), 2), len(pairs))
    return ShopperEvents(
        np.concatenate([shoppers.users, users]),
        np.concatenate([shoppers.products, np.tile(pairs, VISITS).ravel()]),
        np.concatenate([shoppers.groups, groups]),
    )
