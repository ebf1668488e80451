"""What shoppers did, as numbers about items: how many have each one, and which are taken near each other.

A platform's own memory is exact and never leaves (`clients.transitions` counts it). What the other platforms of a
federation know arrives as a table of noised sums (`shared_model.table`); `spread` turns it into the same two things,
so that own and others' counts are summed *before* they are normalised:

    K[i, j] = (own pairs + others' pairs)[i, j] / ( n_i^½ · n_j^¼ ),     n = own + others' shoppers with the item, ≥ 1

It is an item-based neighbourhood (Deshpande & Karypis 2004); the smaller power on the candidate's side lets popular items
keep a part of their lead. A shopper's score of item j sums K over their own recent events (`transition_scores`):

    t(u, j) = Σ_l exp(−λ·age_l) · K[item_l, j]

| case                                              | what happens                                            |
|---------------------------------------------------|---------------------------------------------------------|
| an item that nobody has                           | a zero row and column; the other parts rank it          |
| an item that is no product of the vocabulary      | others know nothing of it                               |
| two items of one shop that are the same product   | both have all that is known of the product              |
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from shared_model.table import Counts

DECAY = 0.31
"""λ: how fast a shopper's own events lose weight, by basket."""
_SELF_POWER, _OTHER_POWER = 0.5, 0.25


@dataclass(frozen=True, eq=False)
class Memory:
    """popularity : (I,) ≥ 0, shoppers who have each item. pairs : (I, I) ≥ 0, symmetric, shoppers who took both near
    each other."""

    popularity: NDArray[np.float64]
    pairs: sparse.csr_matrix

    @classmethod
    def empty(cls, items: int) -> "Memory":
        """Return the memory of nobody."""
        return cls(np.zeros(items), sparse.csr_matrix((items, items)))

    def plus(self, other: "Memory") -> "Memory":
        """Return what both know together."""
        return Memory(self.popularity + other.popularity, sparse.csr_matrix(self.pairs + other.pairs))

    @cached_property
    def matrix(self) -> sparse.csr_matrix:
        """K, (I, I) float32."""
        holders = np.maximum(self.popularity, 1)
        scaled = sparse.diags(holders**-_SELF_POWER) @ self.pairs @ sparse.diags(holders**-_OTHER_POWER)
        return sparse.csr_matrix(scaled, dtype=np.float32)


def spread(counts: Counts, edges: NDArray[np.integer], products: NDArray[np.int64]) -> Memory:
    """Return what a table says about a platform's items.

    counts : of V products and E edges. edges : (E, 2) products. products : (I,) the product of each item, −1 for none.
    """
    size = len(counts.popularity)
    known = np.flatnonzero(products >= 0)
    of_product = sparse.csr_matrix((np.ones(len(known)), (known, products[known])), (len(products), size))
    some = counts.pairs > 0
    half = sparse.csr_matrix((counts.pairs[some], (edges[some, 0], edges[some, 1])), (size, size))
    pairs = of_product @ (half + half.T) @ of_product.T
    return Memory(of_product @ counts.popularity, sparse.csr_matrix(pairs))


def transition_scores(
    matrix: sparse.csr_matrix, items: NDArray[np.int64], ages: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return t, (B, I) float32, for histories as `Split.padded` gives them: (B, L) items (−1: none) and ages."""
    real = items >= 0
    weights = np.exp(-DECAY * ages[real]).astype(np.float32)
    shape = (len(items), matrix.shape[0])
    recent = sparse.csr_matrix((weights, (np.nonzero(real)[0], items[real])), shape=shape)
    return np.asarray((recent @ matrix).toarray(), dtype=np.float32)
