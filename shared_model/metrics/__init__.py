"""Metrics of recommendations: one value per shopper wherever a shopper has one, and means with intervals apart.

    scores (B, I) ── target_ranks ──► ranks (B, R) ──► recall_at, precision_at, f1_at, ndcg_at, …
           │                             ▲
           │                         list_ranks ◄── relevant items (B, R)
           │                             │
           └──────── top_items ──► lists (B, K) ──► coverage, gini, novelty, serendipity, …
                                                              per shopper (B,) ──► bootstrap ──► Estimate

Shapes: B shoppers, I items, R relevant items of a shopper, K places of a list, F feature width. Rows that are shorter
than the longest are padded at the end: items with −1, ranks and ratings with NaN. A shopper for whom a metric is not
defined (nothing relevant, say) has NaN, and does not count in a mean. Only scores and features are large: what
sees them works in torch, in blocks, on the device where they are; the rest is numpy in float64.
"""

from shared_model.metrics.accuracy import (
    average_precision_at,
    f1_at,
    ndcg_at,
    precision_at,
    recall_at,
    reciprocal_rank,
)
from shared_model.metrics.beyond_accuracy import (
    average_popularity,
    coverage,
    gini,
    group_popularity_lift,
    intra_list_diversity,
    novelty,
    popularity_lift,
    serendipity,
)
from shared_model.metrics.calibration import category_shares, miscalibration
from shared_model.metrics.estimate import Estimate, bootstrap
from shared_model.metrics.ranking import list_ranks, target_ranks, top_items
from shared_model.metrics.ratings import mse, rmse

__all__ = [
    "Estimate",
    "average_popularity",
    "average_precision_at",
    "bootstrap",
    "category_shares",
    "coverage",
    "f1_at",
    "gini",
    "group_popularity_lift",
    "intra_list_diversity",
    "list_ranks",
    "miscalibration",
    "mse",
    "ndcg_at",
    "novelty",
    "popularity_lift",
    "precision_at",
    "recall_at",
    "reciprocal_rank",
    "rmse",
    "serendipity",
    "target_ranks",
    "top_items",
]
