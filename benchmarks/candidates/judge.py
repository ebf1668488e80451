"""What a network is worth: alone, beside the prior, and beside a platform's own layer. Validation shoppers only."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.candidates.networks import TextTransformer
from benchmarks.candidates.training import from_the_front
from benchmarks.same_trade.judge import Remembered, Sum
from clients.data.split import Part
from clients.evaluation import Scorer, choose_local, evaluate
from clients.platform import Platform
from clients.recommender import ZERO_SHOT_PRIOR, LocalLayer, Recommender
from shared_model.metrics import ndcg_at
from shared_model.model import initial_shared

WEIGHTS = (0.03, 0.1, 0.3, 1.0)
"""How much of the network's scores is added to what is there."""
_ITEMS = 4096


@dataclass(frozen=True, eq=False)
class OfNetwork:
    """A network as a scorer of one platform."""

    network: TextTransformer
    platform: Platform

    @cached_property
    def _items(self) -> torch.Tensor:
        parts = self.platform.features.split(_ITEMS)
        return torch.cat([self.network.items(part, self.platform.name) for part in parts])

    def scores(self, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
        """Return (B, I)."""
        self.network.eval()
        rows = from_the_front(self.platform.recent(which)[0][users])
        last = (rows >= 0).sum(1).clamp(min=1) - 1
        states = self.network.states(self._items[rows.clamp(min=0)])
        return states[torch.arange(len(rows)), last] @ self._items.T


@dataclass(frozen=True, eq=False)
class Bench:
    """A platform, whom it is judged on, and what a network is added to; base scores are computed once."""

    platform: Platform
    users: NDArray[np.int64]
    bases: Mapping[str, Scorer]

    @classmethod
    def of_member(cls, platform: Platform, judged: int) -> "Bench":
        """Judge `judged` validation shoppers, beside the prior and beside the local layer that the platform chooses."""
        layers = {"prior": ZERO_SHOT_PRIOR, "own layer": choose_local(platform)}
        return cls(
            platform, drawn(platform, judged), {n: _scorer(platform, layer) for n, layer in layers.items()}
        )

    @classmethod
    def of_newcomer(cls, platform: Platform, judged: int, known: NDArray[np.int64]) -> "Bench":
        """Judge shoppers other than the `known`, beside the prior."""
        users = drawn(platform, judged, without=known)
        return cls(platform, users, {"prior": _scorer(platform, ZERO_SHOT_PRIOR)})

    def judge(self, network: TextTransformer) -> dict[str, Any]:
        """Return NDCG@10 of the network alone and of each base, and for each weight the gain and its paired z."""
        with torch.no_grad():
            scorer = Remembered(OfNetwork(network, self.platform))
            found: dict[str, Any] = {"shoppers": len(self.users), "alone": float(self._values(scorer).mean())}
            for name, base in self.bases.items():
                before = self._values(base)
                gains = {}
                for weight in WEIGHTS:
                    difference = self._values(Sum(base, scorer, weight)) - before
                    gains[f"{weight:g}"] = [
                        float(difference.mean() / max(before.mean(), 1e-9)),
                        z_of(difference),
                    ]
                found[name] = {"before": float(before.mean()), "gains": gains}
        return found

    def _values(self, scorer: Scorer) -> NDArray[np.float64]:
        return ndcg_at(evaluate(self.platform, scorer, "valid", self.users).ranks, 10)


def _scorer(platform: Platform, layer: LocalLayer) -> Scorer:
    return Remembered(Recommender(platform, initial_shared(platform.spec), layer))


def drawn(platform: Platform, judged: int, without: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Return up to `judged` validation shoppers, drawn once, none of `without`."""
    users = platform.valid_users if without is None else np.setdiff1d(platform.valid_users, without)
    return np.sort(np.random.default_rng(0).permutation(users)[:judged])


def z_of(difference: NDArray[np.float64]) -> float:
    """Return the mean over its standard error, 0 where nothing differs."""
    error = difference.std() / math.sqrt(max(len(difference), 1))
    return float(difference.mean() / error) if error > 0 else 0.0
