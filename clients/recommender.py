"""A platform's recommender: prior, shared residual and local layer in one score.

    score = (1 − a) · prior + a · shared + β · log(1 + popularity)

a is the blend and β the weight of popularity, both chosen by the platform on its own validation shoppers. With
a = 0 this is the prior; with an untrained shared part it is the prior for every a.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.split import Part
from clients.platform import Platform
from shared_model.exchange import SharedTensors
from shared_model.model import initial_shared, queries, scores


@dataclass(frozen=True)
class LocalLayer:
    """What a platform adds on its own and never sends.

    blend : a in [0, 1], how much of the shared residual counts. popularity : β ≥ 0.
    """

    blend: float
    popularity: float


ZERO_SHOT = LocalLayer(blend=1.0, popularity=0.1)
"""A newcomer's first day: the shared model as it is, and a little of its own popularity. Nothing is tuned."""


def _model_scores(
    platform: Platform, shared: SharedTensors, which: Part, users: NDArray[np.int64]
) -> torch.Tensor:
    """Return (B, I) scores of the shared model alone, before what `which` holds out."""
    items, ages = platform.split.padded(which, platform.spec.history_length)
    rows = torch.from_numpy(items[users])  # (B, L)
    real = rows >= 0
    age = torch.where(real, torch.from_numpy(ages[users]).to(torch.float32), torch.inf)
    at = rows.clamp(min=0)
    history = platform.features[at] * real.unsqueeze(-1)  # (B, L, F)
    query = queries(shared, platform.spec, history, platform.norms[at], age.unsqueeze(1)).squeeze(1)
    return scores(shared, platform.spec, query, platform.features, platform.norms)


@dataclass(frozen=True, eq=False)
class Recommender:
    """Scores all items for shoppers of one platform."""

    platform: Platform
    shared: SharedTensors
    local: LocalLayer

    @torch.no_grad()
    def scores(self, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
        """Return (B, I) scores for shoppers at positions `users`, given what they had before `which`."""
        result = torch.zeros(len(users), len(self.platform.catalogue))
        if self.local.blend < 1:
            prior = initial_shared(self.platform.spec)
            result += (1 - self.local.blend) * _model_scores(self.platform, prior, which, users)
        if self.local.blend > 0:
            result += self.local.blend * _model_scores(self.platform, self.shared, which, users)
        if self.local.popularity > 0:
            result += self.local.popularity * self.platform.popularity(which).log1p()
        return result


@dataclass(frozen=True, eq=False)
class Popularity:
    """The same list for everyone: what most shoppers have."""

    platform: Platform

    def scores(self, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
        """Return (B, I): the number of shoppers who have each item."""
        return self.platform.popularity(which).expand(len(users), -1)
