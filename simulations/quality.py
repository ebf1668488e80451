"""How good one ranking of a platform's test shoppers is, by the metrics of docs/metrics.md that need no ratings."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.evaluation import Ranking
from clients.platform import Platform
from shared_model.metrics import (
    Estimate,
    average_popularity,
    average_precision_at,
    bootstrap,
    coverage,
    f1_at,
    gini,
    group_popularity_lift,
    intra_list_diversity,
    ndcg_at,
    novelty,
    precision_at,
    recall_at,
    reciprocal_rank,
    serendipity,
)

CUTOFFS = (10, 20, 50)
"""The k of the metrics that look at ranks."""
_AT_K = {
    "recall": recall_at,
    "precision": precision_at,
    "f1": f1_at,
    "ndcg": ndcg_at,
    "mrr": reciprocal_rank,
    "map": average_precision_at,
}


@dataclass(frozen=True)
class Quality:
    """Metric → mean over test shoppers with its interval, and metric → one number over all of them at once."""

    means: dict[str, Estimate]
    totals: dict[str, float]

    def to_json(self) -> dict[str, object]:
        """Return values under the metrics' names, and the intervals of means under `intervals`."""
        values: dict[str, object] = {name: e.mean for name, e in self.means.items()}
        return values | self.totals | {"intervals": {name: [e.low, e.high] for name, e in self.means.items()}}


def quality(platform: Platform, ranking: Ranking, rng: np.random.Generator) -> Quality:
    """Measure a ranking of all the platform's test shoppers, with lists of 10."""
    values = {f"{name}@{k}": at(ranking.ranks, k) for name, at in _AT_K.items() for k in CUTOFFS}
    values["mrr"] = reciprocal_rank(ranking.ranks)
    lists, items = ranking.top[:, :10], len(platform.catalogue)
    counts = platform.popularity("test").cpu().numpy()
    targets = platform.split.test_target[platform.test_users]
    values["novelty@10"] = novelty(lists, counts, len(platform))
    values["serendipity@10"] = serendipity(lists, targets, counts)
    values["diversity@10"] = intra_list_diversity(lists, platform.features)
    lift = group_popularity_lift(average_popularity(lists, counts), _profile_popularity(platform, counts))
    totals = {
        "coverage@10": coverage(lists, items),
        "gini@10": gini(lists, items),
        "popularity_lift@10": lift,
    }
    return Quality({name: bootstrap(value, rng) for name, value in values.items()}, totals)


def _profile_popularity(platform: Platform, counts: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean popularity of what each test shopper had before the test."""
    indptr, seen = platform.seen("test")
    total = np.concatenate([[0.0], counts[seen].cumsum(dtype=np.float64)])
    users = platform.test_users
    return (total[indptr[users + 1]] - total[indptr[users]]) / (indptr[users + 1] - indptr[users])
