"""A platform's recommender: prior, shared residual and local layer in one score.

    score = (1 − a) · prior + a · shared + β · log(1 + popularity) + κ · log(1 + 10 · transitions)

a is the blend, β the weight of popularity and κ that of `clients.transitions`, all chosen by the platform on its own
validation shoppers. With a = β = κ = 0 this is the prior; with an untrained shared part a does not matter.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.split import Part
from clients.platform import Platform
from clients.transitions import transition_scores
from shared_model.device import to_device
from shared_model.exchange import SharedTensors
from shared_model.model import PRIOR_DECAY, initial_shared, queries, scores


@dataclass(frozen=True)
class LocalLayer:
    """What a platform adds on its own and never sends.

    blend : a in [0, 1], how much of the shared residual counts. popularity : β ≥ 0. transitions : κ ≥ 0.
    """

    blend: float
    popularity: float
    transitions: float = 0.0


ZERO_SHOT = LocalLayer(blend=1.0, popularity=0.1)
"""A newcomer's first day: the shared model as it is, and a little of its own popularity. Nothing is tuned."""
ZERO_SHOT_PRIOR = LocalLayer(blend=0.0, popularity=ZERO_SHOT.popularity)
"""The same without any trained part: what a newcomer's first day is compared with."""


def _model_scores(
    platform: Platform, shared: SharedTensors, which: Part, users: NDArray[np.int64]
) -> torch.Tensor:
    """Return (B, I) scores of the shared model alone, before what `which` holds out."""
    items, ages = platform.recent(which)
    shared = {name: to_device(tensor, platform.device) for name, tensor in shared.items()}
    rows = to_device(torch.from_numpy(items[users]), platform.device)  # (B, L)
    real = rows >= 0
    age = torch.from_numpy(ages[users]).to(torch.float32)
    age = to_device(age, platform.device).where(real, torch.inf)
    at = rows.clamp(min=0)
    history = platform.features[at] * real.unsqueeze(-1)  # (B, L, F)
    query = queries(shared, platform.spec, history, platform.norms[at], age.unsqueeze(1)).squeeze(1)
    return scores(shared, platform.spec, query, platform.table, platform.norms)


@dataclass(frozen=True, eq=False)
class ScoreParts:
    """What a score is made of, for B shoppers.

    prior, model : (B, I) without and with the shared part. log_popularity : (I,). log_transitions : (B, I), or None
    where no local layer asks for them.
    """

    prior: torch.Tensor
    model: torch.Tensor
    log_popularity: torch.Tensor
    log_transitions: torch.Tensor | None = None

    def blended(self, local: LocalLayer) -> torch.Tensor:
        """Return the (B, I) scores under a local layer; a part with weight 0 plays no part at all."""
        if local.blend in {0.0, 1.0}:
            score = (self.model if local.blend else self.prior).clone()
        else:
            score = torch.lerp(self.prior, self.model, local.blend)
        if local.popularity > 0:
            score.add_(self.log_popularity, alpha=local.popularity)
        if local.transitions > 0:
            if self.log_transitions is None:
                raise ValueError(
                    f"transitions weigh {local.transitions}, but their scores were not asked for."
                )
            score.add_(self.log_transitions, alpha=local.transitions)
        return score


@torch.no_grad()
def score_parts(
    platform: Platform,
    shared: SharedTensors,
    which: Part,
    users: NDArray[np.int64],
    untrained: SharedTensors | None = None,
    *,
    with_transitions: bool = True,
) -> ScoreParts:
    """Return the parts for shoppers at positions `users`, given what they had before `which`.

    `untrained` stands for the prior's tensors; where they equal `shared`, the catalogue is passed once.
    """
    untrained = untrained if untrained is not None else initial_shared(platform.spec)
    prior = _model_scores(platform, untrained, which, users)
    same = all(torch.equal(shared[name], tensor) for name, tensor in untrained.items())
    model = prior if same else _model_scores(platform, shared, which, users)
    near = _log_transitions(platform, which, users) if with_transitions else None
    return ScoreParts(prior, model, platform.popularity(which).log1p(), near)


def _log_transitions(platform: Platform, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
    """Return (B, I) log(1 + 10 t)."""
    items, ages = platform.recent(which)
    near = transition_scores(platform.transitions(which), items[users], ages[users], PRIOR_DECAY)
    return to_device(torch.from_numpy(near), platform.device).mul_(10).log1p_()


@dataclass(frozen=True, eq=False)
class Recommender:
    """Scores all items for shoppers of one platform."""

    platform: Platform
    shared: SharedTensors
    local: LocalLayer

    def scores(self, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
        """Return (B, I) scores for shoppers at positions `users`, given what they had before `which`."""
        # Without a blend of two models, one pass over the catalogue is enough.
        untrained = initial_shared(self.platform.spec)
        shared = untrained if self.local.blend == 0.0 else self.shared
        if self.local.blend == 1.0:
            untrained = self.shared
        parts = score_parts(
            self.platform, shared, which, users, untrained, with_transitions=self.local.transitions > 0
        )
        return parts.blended(self.local)


@dataclass(frozen=True, eq=False)
class Popularity:
    """The same list for everyone: what most shoppers have."""

    platform: Platform

    def scores(self, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
        """Return (B, I): the number of shoppers who have each item."""
        return self.platform.popularity(which).expand(len(users), -1)
