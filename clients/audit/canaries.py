"""Canary shoppers among the real ones: each takes the two products of an edge that it owns, again and again.

Its rows, as the product makes them, are public and of length 1: 1/√2 on each of its two products, and 1 on its edge. It comes
back `VISITS` times, so that a row which is not scaled to 1 would be far longer.
"""

import numpy as np
from numpy.typing import NDArray

from clients.training import ShopperEvents

VISITS = 10
"""Baskets of a canary; each holds both of its products."""


def owned_pairs(edges: NDArray[np.integer], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return (m, 2) the products of m ≤ `most` edges, none of which share a product: taken in a public random order."""
    taken: set[int] = set()
    pairs: list[tuple[int, int]] = []
    for a, b in rng.permutation(edges).tolist():
        if len(pairs) == most:
            break
        if a not in taken and b not in taken:
            taken.update((a, b))
            pairs.append((a, b))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


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
