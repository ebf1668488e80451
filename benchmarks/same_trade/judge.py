"""Serve a small platform with and without the shared table, choosing every weight on its own validation shoppers."""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.same_trade.neighbours import neighbour_scores
from clients.data.split import Part
from clients.evaluation import Scorer, evaluate
from clients.platform import Platform
from shared_model.metrics import ndcg_at

SHARPNESS = 50.0
"""log(1 + 50·t) of a table's score t: many weak neighbours do not outweigh a strong one."""
WEIGHTS = (0.5, 1.0, 2.0, 4.0)
Table = tuple[sparse.csr_matrix, NDArray[np.int64]]
"""A matrix over codes, and the code of each item of this catalogue."""


@dataclass(frozen=True, eq=False)
class Remembered:
    """A scorer that computes the scores of the same shoppers once, for as long as it lives."""

    scorer: Scorer
    _known: dict[tuple[Part, bytes], torch.Tensor] = field(default_factory=dict)

    def scores(self, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
        """Return the scorer's (B, I)."""
        key = (which, users.tobytes())
        if key not in self._known:
            self._known[key] = self.scorer.scores(which, users)
        return self._known[key]


@dataclass(frozen=True, eq=False)
class OfTable:
    """log(1 + 50·t) of a table's scores t."""

    platform: Platform
    table: Table

    def scores(self, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
        """Return (B, I)."""
        items, ages = (array[users] for array in self.platform.recent(which))
        return torch.from_numpy(neighbour_scores(*self.table, items, ages)).mul_(SHARPNESS).log1p_()


@dataclass(frozen=True, eq=False)
class Sum:
    """One scorer and so much of another."""

    one: Scorer
    other: Scorer
    weight: float

    def scores(self, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
        """Return (B, I)."""
        if self.weight == 0.0:
            return self.one.scores(which, users)
        return self.one.scores(which, users) + self.weight * self.other.scores(which, users)


def choose(platform: Platform, base: Scorer, table: Scorer) -> float:
    """Return the table's weight whose validation NDCG@10 is best, or 0 where none is clearly better than without it.

    Clearly: by more than one standard error of the paired gain, as `clients.evaluation.choose_blend` does.
    """
    without = _validation(platform, base)
    chosen, most = 0.0, 0.0
    for weight in WEIGHTS:
        gains = _validation(platform, Sum(base, table, weight)) - without
        if len(gains) > 1 and gains.mean() > max(most, gains.std(ddof=1) / np.sqrt(len(gains))):
            chosen, most = weight, float(gains.mean())
    return chosen


def _validation(platform: Platform, scorer: Scorer) -> NDArray[np.float64]:
    """Return (U,) NDCG@10 of the platform's validation shoppers."""
    return ndcg_at(evaluate(platform, scorer, "valid", platform.valid_users).ranks, 10)
