"""Defects that the self-test plants in a run: each changes one thing that the training is given, and no code.

| what is given                | defects                                                        |
|------------------------------|----------------------------------------------------------------|
| the noise source             | no noise, σ a third of the claim, the same noise in both stages |
| the sums                     | rows not scaled to norm 1, edges counted twice                 |
| the temper of edges          | exact popularity instead of the noised one                     |
| what is published beside     | how many shoppers have each product, exactly                   |
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clients.release import popularity_sum
from clients.training import ShopperEvents, exact_sum
from privacy.noise import NoiseSource
from shared_model.stages import Stage
from shared_model.table import ProductTable


@dataclass(frozen=True)
class Scaled:
    """Noise of `factor` times its claimed size."""

    source: NoiseSource
    factor: float
    private = False
    name = "planted"

    def normal(self, n: int) -> NDArray[np.float64]:
        """Return (n,) numbers of standard deviation `factor`."""
        return self.factor * self.source.normal(n)

    def poisson_mask(self, n: int, q: float) -> NDArray[np.bool_]:
        """Return what the source returns, (n,)."""
        return self.source.poisson_mask(n, q)


@dataclass
class Repeated:
    """The same numbers whenever it is asked, as one seed for both stages gives."""

    source: NoiseSource
    drawn: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    private = False
    name = "planted"

    def normal(self, n: int) -> NDArray[np.float64]:
        """Return the first (n,) numbers, drawing only those that are missing."""
        self.drawn = np.concatenate([self.drawn, self.source.normal(max(n - len(self.drawn), 0))])
        return self.drawn[:n]

    def poisson_mask(self, n: int, q: float) -> NDArray[np.bool_]:
        """Return what the source returns, (n,)."""
        return self.source.poisson_mask(n, q)


def unscaled(
    stage: Stage,
    events: ShopperEvents,
    edges: NDArray[np.integer],
    given: Mapping[str, NDArray],
    products: int,
) -> NDArray[np.float64]:
    """Return a stage's sum in which every event counts 1, or every pair of neighbouring events on an edge."""
    if stage is Stage.POPULARITY:
        return np.bincount(events.products[events.products >= 0], minlength=products).astype(np.float64)
    users, held = events.users, events.products
    beside = (users[1:] == users[:-1]) & (held[1:] >= 0) & (held[:-1] >= 0)
    a, b = (held[:-1][beside], held[1:][beside])
    keys = edges[:, 0].astype(np.int64) * products + edges[:, 1]
    wanted = np.minimum(a, b) * products + np.maximum(a, b)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.bincount(at[keys[at] == wanted], minlength=len(edges)).astype(np.float64)


def edges_twice(
    stage: Stage,
    events: ShopperEvents,
    edges: NDArray[np.integer],
    given: Mapping[str, NDArray],
    products: int,
) -> NDArray[np.float64]:
    """Return a stage's sum in which an edge counts in both of its directions, after rows were scaled."""
    total = exact_sum(stage, events, edges, given, products)
    return 2.0 * total if stage is Stage.EDGES else total


def exact_temper(released: ProductTable, events: ShopperEvents) -> ProductTable:
    """Return a table whose temper is made of the exact popularity instead of what was released."""
    exact = popularity_sum(events.users, events.products, len(released.popularity))
    return ProductTable(exact, released.edges, released.temper, runs=1).fixed_temper()


def exact_counts(events: ShopperEvents, products: int) -> NDArray[np.float64]:
    """Return (V,): how many shoppers have each product, as a careless card would say."""
    held = events.products >= 0
    each = np.unique(events.users[held] * products + events.products[held])
    return np.bincount(each % products, minlength=products).astype(np.float64)
