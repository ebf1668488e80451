"""One cell of the study: one trade, one range of items, one draw of shoppers, every privacy level."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.same_trade.codes import assign, make_codebook
from benchmarks.same_trade.judge import OfTable, Remembered, Sum, choose
from benchmarks.same_trade.neighbours import neighbour_matrix, plain_mean, release, shopper_rows
from benchmarks.same_trade.trade import Range, cut
from clients.evaluation import Scorer, choose_local, evaluate
from clients.platform import Platform
from clients.recommender import LocalLayer, Recommender
from privacy.noise import ReproducibleNoise
from privacy.plan import PrivacyPlan
from shared_model.metrics import ndcg_at, recall_at
from shared_model.model import initial_shared

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
    here = assign(_fused(trade.served), codebook).numpy()
    rows = shopper_rows(trade.large.split, assign(_fused(trade.large), codebook).numpy(), count)
    mine = neighbour_matrix(plain_mean(shopper_rows(trade.own.split, here, count), CLIP_NORM), 0.0, count)
    local = choose_local(trade.own)
    learnt, served = _alone(trade.own, local), _alone(trade.served, local)
    weight = choose(trade.own, learnt, _of(trade.own, mine, here))
    learnt = Remembered(Sum(learnt, _of(trade.own, mine, here), weight))
    served = Remembered(Sum(served, _of(trade.served, mine, here), weight))
    ways = {"alone": _judged(trade.served, served, weight)}
    for name, matrix in _tables(rows, len(trade.large), seed, epsilons, count).items():
        weight = choose(trade.own, learnt, _of(trade.own, matrix, here))
        joined = Sum(served, _of(trade.served, matrix, here), weight)
        ways[name] = _judged(trade.served, joined, weight)
    return {
        "large": len(trade.large),
        "items": [len(trade.large.catalogue), len(trade.served.catalogue)],
        "codes": count,
        "local": asdict(local),
        "ways": ways,
    }


def _alone(platform: Platform, local: LocalLayer) -> Remembered:
    """Return the platform's own recommender: text, popularity and its memory of which items follow each other."""
    return Remembered(Recommender(platform, initial_shared(platform.spec), local))


def _of(platform: Platform, matrix: sparse.csr_matrix, codes: NDArray[np.int64]) -> Remembered:
    return Remembered(OfTable(platform, (matrix, codes)))


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


def _judged(platform: Platform, scorer: Scorer, weight: float) -> dict[str, Any]:
    """Return the test shoppers' values; `weight` is that of the table that came last."""
    ranks = evaluate(platform, scorer, "test", platform.test_users).ranks
    values = ndcg_at(ranks, 10)
    return {
        "weight": weight,
        "recall@10": float(recall_at(ranks, 10).mean()),
        "ndcg@10": float(values.mean()),
        "per_shopper": values.round(6).tolist(),
    }
