"""Serve a small platform with and without the shared table, choosing every weight on its own validation shoppers."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from clients.data.split import Part
from clients.evaluation import evaluate
from clients.neighbours import neighbour_scores
from clients.platform import Platform
from clients.recommender import LocalLayer, Recommender
from clients.transitions import transition_scores
from shared_model.metrics import ndcg_at
from shared_model.model import PRIOR_DECAY, initial_shared

SHARPNESS = 50.0
"""log(1 + 50·t) of a table's score t: many weak neighbours do not outweigh a strong one."""
POPULARITY, MEMORY, TABLE = (0.0, 0.1, 0.3, 1.0), (0.0, 1.0, 2.0, 4.0), (0.5, 1.0, 2.0, 4.0)
Table = tuple[sparse.csr_matrix, NDArray[np.int64]]
"""A matrix over codes, and the code of each item of this catalogue."""


@dataclass(frozen=True)
class Weights:
    """Of popularity, of the local memory, of the platform's own table of codes, and of the shared one."""

    popularity: float
    memory: float
    own: float
    shared: float = 0.0


@dataclass(frozen=True, eq=False)
class Shop:
    """A platform that is served with up to two tables: `clients.evaluation.Scorer` for given weights."""

    platform: Platform
    own: Table
    shared: Table | None
    weights: Weights

    def scores(self, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
        """Return (B, I)."""
        weights, platform = self.weights, self.platform
        prior = Recommender(platform, initial_shared(platform.spec), LocalLayer(0.0, weights.popularity))
        score = prior.scores(which, users)
        items, ages = (array[users] for array in platform.recent(which))
        if weights.memory:
            near = transition_scores(platform.transitions(which), items, ages, PRIOR_DECAY)
            score += weights.memory * torch.from_numpy(near).mul_(10).log1p_()
        for table, weight in ((self.own, weights.own), (self.shared, weights.shared)):
            if weight and table is not None:
                near = neighbour_scores(*table, items, ages, PRIOR_DECAY)
                score += weight * torch.from_numpy(near).mul_(SHARPNESS).log1p_()
        return score


def choose(own: Platform, table: Table) -> Weights:
    """Return the weights of what the platform has alone with the best validation NDCG@10, its own table's last."""

    def best(grid: Sequence[Weights]) -> Weights:
        return max(grid, key=lambda weights: float(_validation(Shop(own, table, None, weights)).sum()))

    chosen = best([Weights(*each, 0.0) for each in itertools.product(POPULARITY, MEMORY)])
    return best([replace(chosen, own=weight) for weight in (0.0, *TABLE)])


def join(own: Platform, table: Table, shared: Table, alone: Weights) -> Weights:
    """Return `alone`, with the weight of the shared table whose validation NDCG@10 is best, if it is clearly better.

    Clearly: by more than one standard error of the paired gain, as `clients.evaluation.choose_blend` does.
    """
    base = _validation(Shop(own, table, shared, alone))
    chosen, most = alone, 0.0
    for weight in TABLE:
        weights = replace(alone, shared=weight)
        gains = _validation(Shop(own, table, shared, weights)) - base
        if len(gains) > 1 and gains.mean() > max(most, gains.std(ddof=1) / np.sqrt(len(gains))):
            chosen, most = weights, float(gains.mean())
    return chosen


def _validation(shop: Shop) -> NDArray[np.float64]:
    """Return (U,) NDCG@10 of the platform's validation shoppers."""
    return ndcg_at(evaluate(shop.platform, shop, "valid", shop.platform.valid_users).ranks, 10)
