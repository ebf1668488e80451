"""How a shop of the trade serves: text, popularity and what goes together, from its own counts, the table's, or both."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from clients.data.split import Part
from clients.evaluation import Scorer, evaluate
from clients.platform import Platform
from clients.recommender import LocalLayer, ScoreParts
from clients.transitions import transition_scores, transitions
from shared_model.metrics import ndcg_at
from shared_model.table import Counts

PRIOR = LocalLayer(blend=0.0, popularity=0.0)
"""Text alone, as it is before anything was learned."""


@dataclass(frozen=True, eq=False)
class Memory:
    """popularity : (I,), pairs : (I, I) symmetric; in shoppers."""

    popularity: NDArray[np.float64]
    pairs: sparse.csr_array

    def plus(self, other: "Memory") -> "Memory":
        """Return both added up."""
        return Memory(self.popularity + other.popularity, sparse.csr_array(self.pairs + other.pairs))

    @cached_property
    def matrix(self) -> sparse.csr_matrix:
        """K = D^-½ C D^-¼ (`clients.transitions`)."""
        holders = np.maximum(self.popularity, 1)
        scaled = sparse.diags_array(holders**-0.5) @ self.pairs @ sparse.diags_array(holders**-0.25)
        return sparse.csr_matrix(scaled, dtype=np.float32)


def own_memory(platform: Platform, which: Part) -> Memory:
    """Return a platform's exact counts before what `which` holds out."""
    count = len(platform.catalogue)
    holders = platform.split.holders(which, count).astype(np.float64)
    least = np.maximum(holders, 1)
    matrix = transitions(platform.split, which, count)
    return Memory(
        holders, sparse.csr_array(sparse.diags_array(least**0.5) @ matrix @ sparse.diags_array(least**0.25))
    )


def table_memory(counts: Counts, edges: NDArray[np.int32], products: NDArray[np.int64]) -> Memory:
    """Return what a table says of a shop's items; products (I,)."""
    size = len(counts.popularity)
    half = sparse.csr_array((counts.pairs, (edges[:, 0], edges[:, 1])), (size, size))
    pairs = sparse.csr_array(half + half.T)
    if not np.array_equal(products, np.arange(size)):
        pairs = sparse.csr_array(pairs[products][:, products])
    return Memory(counts.popularity[products], pairs)


@dataclass(frozen=True, eq=False)
class Remembered:
    """A scorer that scores the same shoppers once, for as long as it lives."""

    scorer: Scorer
    _known: dict[tuple[Part, bytes], torch.Tensor] = field(default_factory=dict)

    def scores(self, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
        """Return the scorer's (B, I)."""
        key = (which, users.tobytes())
        if key not in self._known:
            self._known[key] = self.scorer.scores(which, users)
        return self._known[key]


@dataclass(frozen=True, eq=False)
class Text:
    """Text scores alone, pooled as a local layer says."""

    platform: Platform
    local: LocalLayer

    def scores(self, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
        """Return (B, I)."""
        with torch.no_grad():
            return ScoreParts(self.platform, which, users).own(self.local).float()


@dataclass(frozen=True, eq=False)
class Near:
    """log(1 + 10·t) of a memory."""

    platform: Platform
    memory: Memory

    def scores(self, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
        """Return (B, I)."""
        items, ages = (part[users] for part in self.platform.recent(which))
        return torch.from_numpy(transition_scores(self.memory.matrix, items, ages)).mul_(10).log1p_()


@dataclass(frozen=True, eq=False)
class Served:
    """text + β·log(1 + popularity) + κ·log(1 + 10·t)."""

    text: Scorer
    near: Scorer
    popularity: NDArray[np.float64]
    beta: float
    kappa: float

    def scores(self, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
        """Return (B, I)."""
        score = self.text.scores(which, users)
        if self.kappa:
            score = torch.add(score, self.near.scores(which, users), alpha=self.kappa)
        return score + self.beta * torch.from_numpy(np.log1p(self.popularity)).float()


def ranks(platform: Platform, scorer: Scorer, which: Part, users: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (U,) the rank of each shopper's held-out item in the whole catalogue."""
    return evaluate(platform, scorer, which, users, k=1).ranks


def clearly_best(values: Sequence[NDArray[np.float64]]) -> int:
    """Return which of the (U,) NDCG@10 is best, 0 unless it is better than the first by more than one standard error."""
    best, most = 0, 0.0
    for number, value in enumerate(values[1:], start=1):
        gains = value - values[0]
        if len(gains) > 1 and gains.mean() > max(most, gains.std(ddof=1) / len(gains) ** 0.5):
            best, most = number, float(gains.mean())
    return best


def validation(platform: Platform, scorer: Scorer, most: int = 2000) -> NDArray[np.float64]:
    """Return (U,) NDCG@10 of at most so many of a platform's validation shoppers, drawn once."""
    users = np.sort(np.random.default_rng(0).permutation(platform.valid_users)[:most])
    return ndcg_at(ranks(platform, scorer, "valid", users), 10)
