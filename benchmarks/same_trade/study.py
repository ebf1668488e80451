"""One cell of the study: one trade, one range of items, one draw of shoppers, every privacy level."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.same_trade.judge import Shop, Table, choose, join
from benchmarks.same_trade.trade import Range, cut
from clients.evaluation import evaluate
from clients.neighbours import neighbour_matrix, plain_mean, release, shopper_rows
from clients.platform import Platform
from privacy.noise import ReproducibleNoise
from privacy.plan import PrivacyPlan
from shared_model.codes import assign, make_codebook
from shared_model.metrics import ndcg_at, recall_at

DELTA, CLIP_NORM = 1e-6, 1.0
NOT_PRIVATE = "not private"


@dataclass(frozen=True)
class Size:
    """How many shoppers the small platform has in all, how many of them it learns from, and K."""

    judged: int
    shots: int
    codes: int


def run(platform: Platform, sold: Range, seed: int, size: Size, epsilons: Sequence[float]) -> dict[str, Any]:
    """Return means of Recall@10 and NDCG@10, and every test shopper's NDCG@10, for each way to serve."""
    trade = cut(platform, sold, size.judged, size.shots, seed)
    codebook = make_codebook(_fused(trade.large), size.codes)
    count = len(codebook)
    codes = {p: assign(_fused(p), codebook).numpy() for p in (trade.large, trade.served)}
    here = codes[trade.served]
    rows = shopper_rows(trade.large.split, codes[trade.large], count)
    mine = plain_mean(shopper_rows(trade.own.split, here, count), CLIP_NORM)
    own: Table = (neighbour_matrix(mine, 0.0, count), here)
    alone = choose(trade.own, own)
    ways = {"alone": Shop(trade.served, own, None, alone)}
    for name, matrix in _tables(rows, len(trade.large), seed, epsilons, count).items():
        shared: Table = (matrix, here)
        ways[name] = Shop(trade.served, own, shared, join(trade.own, own, shared, alone))
    return {
        "large": len(trade.large),
        "items": [len(trade.large.catalogue), len(trade.served.catalogue)],
        "codes": count,
        "ways": {name: _judged(shop) for name, shop in ways.items()},
    }


def _tables(
    rows: sparse.csr_matrix, shoppers: int, seed: int, epsilons: Sequence[float], count: int
) -> dict[str, sparse.csr_matrix]:
    """Return the large platform's table without privacy and at each ε; noise is reproducible, so nothing is secret."""
    tables = {NOT_PRIVATE: neighbour_matrix(plain_mean(rows, CLIP_NORM), 0.0, count)}
    for epsilon in epsilons:
        plan = PrivacyPlan.calibrated(
            epsilon=epsilon,
            delta=DELTA,
            clip_norm=CLIP_NORM,
            sample_rate=1.0,
            population_size=max(round(shoppers, -3), 1000),
            steps=1,
        )
        deviation = plan.noise_multiplier * plan.clip_norm / plan.normaliser
        means = release(rows, plan, ReproducibleNoise(seed, "large", 1))
        tables[f"ε = {epsilon:g}"] = neighbour_matrix(means, deviation, count)
    return tables


def _fused(platform: Platform) -> Any:
    """Return (I, F) unit rows; zero where an item has no known word."""
    length = platform.features.norm(dim=-1, keepdim=True)
    return platform.features / length.where(length > 0, 1.0)


def _judged(shop: Shop) -> dict[str, Any]:
    ranks: NDArray[np.float64] = evaluate(shop.platform, shop, "test", shop.platform.test_users).ranks
    values = ndcg_at(ranks, 10)
    return {
        "weights": asdict(shop.weights),
        "recall@10": float(recall_at(ranks, 10).mean()),
        "ndcg@10": float(values.mean()),
        "per_shopper": values.round(6).tolist(),
    }
