"""A platform's part of the shared product table: one noised sum over its shoppers, or an exact one for research.

`release_stage` is all that a private round trains, and what `clients.audit` attacks.

Private release (Dwork & Roth 2014, A.1): a row of norm at most 1 a shopper (`clients.release`) → sum in float64 → one
step of Opacus' optimizer, which adds N(0, σ²) to every number. The parameters of that step are the table: it starts at
zero, its per-shopper gradient is the shopper's row, every shopper takes part (q = 1), and nothing is divided.

| case                                     | what happens                                              |
|------------------------------------------|-----------------------------------------------------------|
| no shopper, or none with a known product | the zero sum is noised, charged and sent like any other   |
| a sum that is not finite                 | MechanismError before any noise                           |
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.split import Split
from clients.products import Products
from clients.release import edge_sum, popularity_sum
from privacy.noise import NoiseSource
from privacy.optimizer import SourcedDPOptimizer
from privacy.plan import PrivacyPlan
from privacy.release import ReleasePlan
from shared_model.stages import Stage
from shared_model.table import ProductTable


@dataclass(frozen=True, eq=False)
class ShopperEvents:
    """What shoppers did before their validation basket, N events in all, as products of the vocabulary.

    users, products, groups : (N,) the shopper, the product (−1: none) and the basket of each event; shoppers ascend, and
    each one's events are in time order.
    """

    users: NDArray[np.int64]
    products: NDArray[np.int64]
    groups: NDArray[np.int64]

    @classmethod
    def of(cls, split: Split, products: NDArray[np.int64]) -> "ShopperEvents":
        """Return the events that may train; `products` (I,) are those of the catalogue's items."""
        sequences = split.sequences
        users = sequences.event_users
        inside = np.arange(sequences.items.size) < split.ends("train")[users]
        return cls(users[inside], products[sequences.items[inside]], sequences.groups[inside])


def exact_sum(
    stage: Stage,
    events: ShopperEvents,
    edges: NDArray[np.integer],
    given: Mapping[str, NDArray],
    products: int,
) -> NDArray[np.float64]:
    """Return the sum of a stage's rows, float64, **not private**: (V,) for popularity, (E,) for edges.

    edges : (E, 2) of the vocabulary. given : what the server sent (`temper` for edges). products : V.
    """
    if stage is Stage.POPULARITY:
        return popularity_sum(events.users, events.products, products)
    return edge_sum(events.users, events.products, events.groups, edges, products, given["temper"])


Sum = Callable[[Stage, ShopperEvents, NDArray[np.integer], Mapping[str, NDArray], int], NDArray[np.float64]]
"""`exact_sum`, or what an audit plants in its place."""


def release_stage(
    stage: Stage,
    events: ShopperEvents,
    edges: NDArray[np.integer],
    given: Mapping[str, NDArray],
    products: int,
    plan: ReleasePlan,
    noise: NoiseSource,
    total: Sum = exact_sum,
) -> NDArray[np.float32]:
    """Return what a platform releases in a stage: the sum of `exact_sum` with the noise of `private_sum`."""
    return private_sum(total(stage, events, edges, given, products), plan, stage, noise)


def private_sum(
    total: NDArray[np.float64], plan: ReleasePlan, stage: Stage, noise: NoiseSource
) -> NDArray[np.float32]:
    """Return a sum of rows of norm at most 1 with the stage's noise.

    Guarantee: the result is one release of `plan.event_of(stage.number)`. The caller charges that event *before* the
    call, and calls once.
    """
    event = plan.event_of(stage.number)
    step = PrivacyPlan(
        epsilon=plan.epsilon,  # of the whole run, of which this is a part
        delta=plan.delta,
        clip_norm=1.0,
        sample_rate=1.0,
        population_size=1,  # a sum, not a mean: no number of shoppers divides it
        steps=1,
        noise_multiplier=event.noise_multiplier,
    )
    table = torch.nn.Parameter(torch.zeros(len(total)))
    optimizer = SourcedDPOptimizer(torch.optim.SGD([table], lr=1.0), plan=step, noise=noise)
    optimizer.add_bounded([torch.from_numpy(total)])
    optimizer.step()
    released: NDArray[np.float32] = -table.detach().numpy()
    return released


def exact_table(events: ShopperEvents, products: Products, table: ProductTable) -> ProductTable:
    """Return what a platform adds to a table without privacy, for research."""
    given, count = {"temper": table.temper}, products.shape.products
    edges = products.vocabulary.edges
    popularity = exact_sum(Stage.POPULARITY, events, edges, given, count)
    pairs = (
        exact_sum(Stage.EDGES, events, edges, given, count) if table.temper.any() else np.zeros(len(edges))
    )
    return ProductTable(popularity, pairs, table.temper)
