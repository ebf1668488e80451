"""Ranking metrics over one held-out item per shopper, per shopper and with bootstrap intervals.

The rank of a target among I items is 1 + (items scored higher) + half of the items that tie with it, so that
ties neither help nor hurt and the order of the catalogue does not matter.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def target_ranks(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the (B,) ranks, from 1, of `targets` (B,) in `scores` (B, I); −inf scores are filtered items.

    NaN counts as −inf, so a model that has diverged ranks like one that says nothing, never first.

    >>> target_ranks(torch.tensor([[3., 2., 1.], [1., 1., 0.]]), torch.tensor([1, 0])).tolist()
    [2.0, 1.5]
    """
    if bool(scores.sum().isnan()):  # far cheaper than looking at every score, and NaN is rare
        scores = scores.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    of_target = scores.gather(1, targets.unsqueeze(1))
    higher = (scores > of_target).sum(1)
    ties = (scores == of_target).sum(1) - 1
    return 1.0 + higher + ties / 2.0


def recall_at(ranks: Floats, k: int) -> Floats:
    """Return 1 where the one target is among the first k, else 0 (with one target, Recall@k = HitRate@k).

    >>> recall_at(np.array([1.0, 10.0, 11.0]), 10).tolist()
    [1.0, 1.0, 0.0]
    """
    return (ranks <= k).astype(np.float64)


def ndcg_at(ranks: Floats, k: int) -> Floats:
    """Return 1/log2(1+rank) up to rank k, else 0 (Järvelin and Kekäläinen 2002 with one relevant item).

    >>> ndcg_at(np.array([1.0, 3.0, 11.0]), 10).tolist()
    [1.0, 0.5, 0.0]
    """
    return np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks), 0.0)


def reciprocal_rank(ranks: Floats) -> Floats:
    """Return 1/rank over the whole catalogue, the terms of MRR.

    >>> reciprocal_rank(np.array([1.0, 4.0])).tolist()
    [1.0, 0.25]
    """
    return 1.0 / ranks


def coverage(top_items: NDArray[np.int64], items: int) -> float:
    """Return the share of the catalogue's `items` that appears in some shopper's top list (B, k).

    >>> coverage(np.array([[0, 1], [1, 2]]), 10)
    0.3
    """
    return len(np.unique(top_items[top_items >= 0])) / items if items else 0.0


@dataclass(frozen=True)
class Estimate:
    """A mean over shoppers with its bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap(values: Floats, rng: np.random.Generator, resamples: int = 1000) -> Estimate:
    """Return mean and 95 % percentile-bootstrap interval over shoppers (Efron 1979).

    Resamples are drawn as multinomial counts of the distinct values, which is the same distribution as
    drawing shoppers and costs little for metrics that take few values. No shopper gives NaN throughout.
    """
    if len(values) == 0:
        return Estimate(float("nan"), float("nan"), float("nan"))
    distinct, counts = np.unique(values, return_counts=True)
    draws = rng.multinomial(len(values), counts / len(values), size=resamples)
    means = draws @ distinct / len(values)
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high))
