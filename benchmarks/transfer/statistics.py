"""Means over shoppers and seeds with bootstrap intervals, and paired tests shopper by shopper.

A shopper's value is the mean over the seeds of that shopper's metric, so a test has as many pairs as there are test
shoppers, and seeds do not pass for more of them. How far seeds alone move the mean stands beside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from shared_model.metrics import Estimate, bootstrap, ndcg_at, recall_at, reciprocal_rank

Floats = NDArray[np.float64]
METRICS: dict[str, Callable[[Floats], Floats]] = {
    "ndcg@10": lambda ranks: ndcg_at(ranks, 10),
    "recall@10": lambda ranks: recall_at(ranks, 10),
    "ndcg@50": lambda ranks: ndcg_at(ranks, 50),
    "recall@50": lambda ranks: recall_at(ranks, 50),
    "mrr": reciprocal_rank,
}


def values(metric: str, ranks: Sequence[Floats]) -> Floats:
    """Return (U,): each shopper's metric, averaged over the seeds' (U,) ranks.

    >>> values("recall@10", [np.array([1.0, 30.0]), np.array([20.0, 30.0])]).tolist()
    [0.5, 0.0]
    """
    return np.mean([METRICS[metric](r) for r in ranks], axis=0)


def estimate(metric: str, ranks: Sequence[Floats]) -> tuple[Estimate, list[float]]:
    """Return the mean with its 95 % interval over shoppers, and each seed's mean."""
    return bootstrap(values(metric, ranks), np.random.default_rng(0)), [
        float(METRICS[metric](r).mean()) for r in ranks
    ]


@dataclass(frozen=True)
class Comparison:
    """Method against baseline over the same shoppers.

    gain : mean paired difference with its 95 % bootstrap interval. relative : gain over the baseline's mean, NaN where
    that is 0. p : two-sided Wilcoxon signed-rank test of the paired differences; 1 where all are 0.
    """

    gain: Estimate
    relative: float
    p: float


def compare(method: Floats, baseline: Floats) -> Comparison:
    """Compare (U,) values of the same shoppers.

    The interval is about the mean difference, which is what is reported; the test (Wilcoxon 1945) about its symmetry
    around zero, dropping shoppers without a difference. A claim needs both.

    >>> same = np.array([0.0, 1.0, 0.5])
    >>> compare(same, same).p, compare(same, same).gain.mean
    (1.0, 0.0)
    """
    if method.shape != baseline.shape:
        raise ValueError(f"paired values must be of the same shoppers: {method.shape}, {baseline.shape}")
    difference = method - baseline
    p = float(wilcoxon(difference).pvalue) if np.any(difference) else 1.0
    mean = float(baseline.mean()) if len(baseline) else 0.0
    gain = bootstrap(difference, np.random.default_rng(0))
    return Comparison(gain, gain.mean / mean if mean else float("nan"), p)


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm 1979), in the same order.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(ps)
    adjusted = np.array(ps, dtype=np.float64)[order] * np.arange(len(ps), 0, -1)
    result = np.empty(len(ps))
    result[order] = np.minimum(np.maximum.accumulate(adjusted), 1.0)
    return result.tolist()
