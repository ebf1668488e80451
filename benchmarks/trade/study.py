"""One cell of the study: a trade, what its shops sell, one draw of shoppers and noise, an audience; every table.

Newcomer, first day : nothing of its own; the members' table from all that their shoppers did.
Newcomer, few-shot  : so many own shoppers to learn from. Alone: its tuned own layer. Joined: own and others' counts.
Member              : all of its shoppers. The others' table holds what their shoppers did before their test items.

The public constants and the newcomer's weights were chosen on toys' and beauty's validation shoppers; every choice within
a cell is made on validation shoppers of the shop that is served.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.provenance import commit
from benchmarks.trade.serve import (
    PRIOR,
    Memory,
    Near,
    Remembered,
    Served,
    Text,
    clearly_best,
    own_memory,
    ranks,
    table_memory,
    validation,
)
from benchmarks.trade.shops import Events, Shop, Sold, Trade, cut
from benchmarks.trade.tables import Way, added, releases, ways
from benchmarks.transfer.platforms import Audience
from clients.data.split import Part
from clients.evaluation import Scorer, choose_local
from clients.platform import Platform
from clients.recommender import LocalLayer
from shared_model.metrics import ndcg_at, recall_at
from shared_model.table import ProductTable

BETA, KAPPA = 0.1, 3.0
"""The newcomer's public weights of popularity and of what goes together."""
Weights = tuple[float, float]
GRID: tuple[Weights, ...] = (
    (BETA, KAPPA),
    *((b, k) for b in (0.1, 0.3, 1.0) for k in (1.5, 3.0, 6.0) if (b, k) != (BETA, KAPPA)),
)
"""β and κ that a shop with shoppers of its own chooses among; the public ones first."""
MANY = 500
"""So many validation shoppers can say that a shop's own layer serves it better."""
FIRST_DAY, MEMBER = "first day", "member"


@dataclass(frozen=True)
class Size:
    """test : at most so many test shoppers are ranked. shots : own shoppers of a few-shot newcomer."""

    test: int
    shots: tuple[int, ...]


class CellKey(NamedTuple):
    """Which cell."""

    trade: str
    sold: Sold
    seed: int
    audience: str


@dataclass(frozen=True, eq=False)
class Cell:
    """What a cell is made of. edges : (E, 2) of the trade's V items."""

    trade: Trade
    edges: NDArray[np.int32]
    seed: int
    size: Size

    @property
    def products(self) -> int:
        """V."""
        return 1 + max(int(shop.products.max()) for shop in (self.trade.newcomer, *self.trade.members))

    def parts(self, way: Way, before: Part | None) -> list[ProductTable]:
        """Return what each member adds to the table, of all that its shoppers did, or of what they did before."""
        events = [Events.of(shop, before) for shop in self.trade.members]
        return releases(events, self.edges, self.products, way, self.seed)

    def others(self, shop: Shop, table: ProductTable) -> Memory:
        """Return what a table says of a shop's items."""
        return table_memory(table.counts(self.edges), self.edges, shop.products)


def audiences(sold: Sold, size: Size) -> list[str]:
    """Return who is looked at: where shops sell a part only, the first day."""
    others = [f"{shots}-shot" for shots in size.shots] + [MEMBER] if sold is Sold.everything else []
    return [FIRST_DAY, *others]


def run(
    platform: Platform, edges: NDArray[np.int32], key: CellKey, size: Size, epsilons: Sequence[float]
) -> dict[str, Any]:
    """Return, for each way to serve an audience, means of Recall@10 and NDCG@10 and every test shopper's NDCG@10.

    Where shops sell a part only, or have shoppers of their own, the largest ε alone is looked at.
    """
    cell = Cell(cut(platform, key.sold, key.seed), edges, key.seed, size)
    few = ways([max(epsilons)])
    if key.audience == FIRST_DAY:
        found = _first_day(cell, ways(epsilons) if key.sold is Sold.everything else few)
    elif key.audience == MEMBER:
        found = _member(cell, few)
    else:
        found = _few_shot(cell, int(key.audience.partition("-")[0]), few)
    return {
        "commit": commit(),
        "shoppers": len(platform),
        "products": len(platform.catalogue),
        "edges": len(edges),
        "ways": found,
    }


def _first_day(cell: Cell, tables: Sequence[Way]) -> dict[str, Any]:
    shop = cell.trade.newcomer
    users = _test_users(shop.platform, cell.size.test)
    text = Remembered(Text(shop.platform, PRIOR))
    found = {"prior": _judged(shop.platform, text, users)}
    for way in tables:
        others = cell.others(shop, added(cell.parts(way, None)))
        served = Served(text, Near(shop.platform, others), others.popularity, BETA, KAPPA)
        found[way.name] = _judged(shop.platform, served, users)
    return found


def _few_shot(cell: Cell, shots: int, tables: Sequence[Way]) -> dict[str, Any]:
    shop = cell.trade.newcomer
    own = Audience(shop.platform, shots).own(cell.seed)
    others = {way: cell.others(shop, added(cell.parts(way, None))) for way in tables}
    return _served(shop.platform, own, others, cell.size.test)


def _member(cell: Cell, tables: Sequence[Way]) -> dict[str, Any]:
    number = cell.seed % len(cell.trade.members)
    shop = cell.trade.members[number]
    others = {}
    for way in tables:
        parts = cell.parts(way, "test")
        others[way] = cell.others(shop, added(parts).minus(parts[number]))
    return _served(shop.platform, shop.platform, others, cell.size.test)


def _served(whole: Platform, own: Platform, others: dict[Way, Memory], most: int) -> dict[str, Any]:
    """Return how a shop that learns from `own` serves alone and with each way's table, its choices made on `own`."""
    local, users = choose_local(own), _test_users(whole, most)
    learnt, known = own_memory(own, "valid"), own_memory(own, "test")
    text, alone = Remembered(Text(whole, local)), (local.popularity, local.transitions)

    def judged(memory: Memory, weights: Weights) -> dict[str, Any]:
        served = Served(text, Near(whole, memory), memory.popularity, *weights)
        return _judged(whole, served, users) | {"weights": weights}

    found = {"alone": judged(known, alone)}
    for way, table in others.items():
        weights = _pooled_weights(own, local, learnt, table)
        found[way.name] = judged(known, alone) if weights is None else judged(known.plus(table), weights)
        found[way.name]["joined"] = weights is not None
    return found


def _pooled_weights(own: Platform, local: LocalLayer, learnt: Memory, table: Memory) -> Weights | None:
    """Return β and κ of own and others' counts together, or None where a shop's own layer serves it better.

    Chosen on its validation shoppers. It starts at pooled counts with the public weights, or at its own layer where
    `MANY` shoppers say that it is better, and moves to what is better than that by one standard error: a hundred
    shoppers cannot tell, and then the federation's counts are more than their own.
    """
    text, pooled = Remembered(Text(own, local)), learnt.plus(table)
    near, alone = Remembered(Near(own, pooled)), (local.popularity, local.transitions)
    grid = [*GRID, alone]
    values = [validation(own, Served(text, near, pooled.popularity, *weights)) for weights in grid]
    without = validation(own, Served(text, Near(own, learnt), learnt.popularity, *alone))
    if len(without) >= MANY and without.mean() > values[0].mean():
        best = clearly_best([without, *values]) - 1
        return grid[best] if best >= 0 else None
    best = clearly_best([*values, without])
    return grid[best] if best < len(grid) else None


def _test_users(platform: Platform, most: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(0).permutation(platform.test_users)[:most])


def _judged(platform: Platform, scorer: Scorer, users: NDArray[np.int64]) -> dict[str, Any]:
    found = ranks(platform, scorer, "test", users)
    values = ndcg_at(found, 10)
    return {
        "recall@10": float(recall_at(found, 10).mean()),
        "ndcg@10": float(values.mean()),
        "per_shopper": values.round(5).tolist(),
    }
