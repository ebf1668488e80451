"""One cell of the study: a trade, what its shops sell, one draw of shoppers and noise, an audience; every table.

Newcomer, first day : nothing of its own; the members' table from all that their shoppers did.
Newcomer, few-shot  : so many own shoppers to learn from. Alone: its tuned own layer. Joined: own and others' counts.
Member              : all of its shoppers. The others' table holds what their shoppers did before their test items.

The public constants and the newcomer's weights were chosen on toys' and beauty's validation shoppers; every choice within
a cell is made on validation shoppers of the shop that is served.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.provenance import commit
from benchmarks.trade.shops import Shop, Sold, Trade, cut, events_of
from benchmarks.trade.tables import Way, added, releases, ways
from benchmarks.transfer.platforms import Audience
from clients.data.split import Part
from clients.evaluation import choose_joined, choose_local, evaluate_layers
from clients.memory import Memory, spread
from clients.platform import Platform
from clients.recommender import PRIOR, LocalLayer, federation_default
from shared_model.metrics import ndcg_at, recall_at
from shared_model.table import ProductTable

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
        events = [events_of(shop, before) for shop in self.trade.members]
        return releases(events, self.edges, self.products, way, self.seed)

    def others(self, shop: Shop, table: ProductTable) -> Memory:
        """Return what a table says of a shop's items."""
        return spread(table.counts(self.edges), self.edges, shop.products)


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
    found = {"prior": _judged(shop.platform, PRIOR, None, users)}
    for way in tables:
        others = cell.others(shop, added(cell.parts(way, None)))
        found[way.name] = _judged(shop.platform, federation_default(_declared(cell)), others, users)
    return found


def _few_shot(cell: Cell, shots: int, tables: Sequence[Way]) -> dict[str, Any]:
    audience = Audience(cell.trade.newcomer.platform, shots)
    others = {way: cell.others(cell.trade.newcomer, added(cell.parts(way, None))) for way in tables}
    own = audience.own(cell.seed)
    return _served(cell, audience.served(own), own, others)


def _member(cell: Cell, tables: Sequence[Way]) -> dict[str, Any]:
    number = cell.seed % len(cell.trade.members)
    shop = cell.trade.members[number]
    others = {}
    for way in tables:
        parts = cell.parts(way, "test")
        others[way] = cell.others(shop, added(parts).minus(parts[number]))
    return _served(cell, shop.platform, shop.platform, others)


def _declared(cell: Cell) -> int:
    return sum(len(member.platform.split.sequences) for member in cell.trade.members)


def _served(cell: Cell, whole: Platform, own: Platform, others: dict[Way, Memory]) -> dict[str, Any]:
    """Return how a shop that learned from `own` serves alone and with each way's table, its choices made on `own`."""
    alone, users = choose_local(own), _test_users(whole, cell.size.test)
    public = federation_default(_declared(cell))
    found = {"alone": _judged(whole, alone, None, users)}
    for way, table in others.items():
        found[way.name] = _judged(whole, choose_joined(own, table, alone, public), table, users)
    return found


def _test_users(platform: Platform, most: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(0).permutation(platform.test_users)[:most])


def _judged(
    platform: Platform, layer: LocalLayer, others: Memory | None, users: NDArray[np.int64]
) -> dict[str, Any]:
    with torch.no_grad():
        ranks = evaluate_layers(platform, {"": layer}, others, "test", users, k=1)[""].ranks
    values = ndcg_at(ranks, 10)
    return {
        "recall@10": float(recall_at(ranks, 10).mean()),
        "ndcg@10": float(values.mean()),
        "per_shopper": values.round(5).tolist(),
        "layer": asdict(layer),
    }
