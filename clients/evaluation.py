"""Full-ranking evaluation on one platform, and the choice of its local layer on validation shoppers."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.split import Part
from clients.platform import Platform
from clients.recommender import LocalLayer, Recommender
from shared_model.exchange import SharedTensors
from shared_model.metrics import ndcg_at, target_ranks
from shared_model.model import initial_shared

BLENDS = (0.25, 0.5, 0.75, 1.0)
POPULARITY_WEIGHTS = (0.0, 0.1, 0.3, 1.0, 2.0)
CHOICE_USERS = 2000
"""At most so many validation shoppers choose a local layer."""
_CHUNK = 256


class Scorer(Protocol):
    """Anything that scores all items for some shoppers: (B, I) of higher-is-better."""

    def scores(self, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
        """Return (B, I) scores for shoppers at positions `users`."""
        ...


@dataclass(frozen=True)
class Ranking:
    """Per evaluated shopper: ranks (B,) float64 from 1; top items (B, k), −1 where candidates ran out."""

    ranks: NDArray[np.float64]
    top: NDArray[np.int64]


def evaluate(
    platform: Platform, scorer: Scorer, which: Part, users: NDArray[np.int64], k: int = 10
) -> Ranking:
    """Rank the whole catalogue for each shopper and find the held-out item.

    What the shopper had before is filtered out if the platform's task says so; the held-out item itself is
    always a candidate.
    """
    targets = platform.split.test_target if which == "test" else platform.split.valid_target
    indptr, seen = platform.split.seen(which)
    ranks, top = [], []
    for start in range(0, len(users), _CHUNK):
        part = users[start : start + _CHUNK]
        scores = scorer.scores(which, part).clone()
        target = torch.from_numpy(targets[part])
        of_target = scores.gather(1, target.unsqueeze(1))
        if platform.filter_seen:
            for row, user in enumerate(part):
                scores[row, torch.from_numpy(seen[indptr[user] : indptr[user + 1]])] = -torch.inf
        scores.scatter_(1, target.unsqueeze(1), of_target)
        ranks.append(target_ranks(scores, target).numpy())
        best = scores.nan_to_num(nan=-torch.inf, posinf=torch.inf).topk(min(k, scores.shape[1]), dim=1)
        top.append(best.indices.where(best.values > -torch.inf, -1).numpy())
    if not ranks:
        return Ranking(np.zeros(0), np.zeros((0, k), dtype=np.int64))
    return Ranking(np.concatenate(ranks).astype(np.float64), np.concatenate(top))


def choose_popularity(platform: Platform) -> LocalLayer:
    """Return the prior with the popularity weight that has the best validation NDCG@10."""
    shared = initial_shared(platform.spec)
    users = platform.valid_users[:CHOICE_USERS]
    layers = [LocalLayer(0.0, weight) for weight in POPULARITY_WEIGHTS]
    return max(
        layers, key=lambda layer: _validation(platform, shared, layer, users).mean() if len(users) else 0
    )


def choose_blend(platform: Platform, shared: SharedTensors, prior: LocalLayer) -> LocalLayer:
    """Return the blend with the best validation NDCG@10, or the prior where none is clearly better.

    Clearly: its mean paired gain over the prior exceeds one standard error of that gain (the one-standard-error
    rule, Breiman et al. 1984). So a platform that the shared part does not help keeps its prior.
    """
    users = platform.valid_users[:CHOICE_USERS]
    if len(users) < 2:
        return prior
    floor = _validation(platform, shared, prior, users)
    best, best_gain = prior, 0.0
    for blend in BLENDS:
        layer = replace(prior, blend=blend)
        gains = _validation(platform, shared, layer, users) - floor
        error = gains.std(ddof=1) / np.sqrt(len(gains))
        if gains.mean() > max(best_gain, error):
            best, best_gain = layer, float(gains.mean())
    return best


def _validation(
    platform: Platform, shared: SharedTensors, layer: LocalLayer, users: NDArray[np.int64]
) -> NDArray[np.float64]:
    ranking = evaluate(platform, Recommender(platform, shared, layer), "valid", users)
    return ndcg_at(ranking.ranks, 10)
