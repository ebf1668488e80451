"""A platform's recommender: its own text scores, the shared model's and the local layer in one score.

    score = (1 − a) · own + a · shared + β · log(1 + popularity) + κ · log(1 + 10 · transitions)

a is the blend, β the weight of popularity and κ that of `clients.transitions`; `own` is the untrained model with a decay,
a sharpness and a weight of isolation of the platform's own. All are chosen by the platform on its own validation
shoppers. With a = β = κ = 0 and the default decay, sharpness and isolation this is the prior.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.split import Part
from clients.platform import Platform
from clients.transitions import transition_scores
from shared_model.device import to_device
from shared_model.exchange import SharedTensors, fingerprint
from shared_model.model import (
    PRIOR_DECAY,
    PRIOR_ISOLATION,
    PRIOR_SHARPNESS,
    SCALE,
    ModelSpec,
    event_vectors,
    initial_shared,
    pooled,
    recency,
    scores,
    standing_apart,
)


@dataclass(frozen=True)
class LocalLayer:
    """What a platform adds on its own and never sends.

    blend : a in [0, 1], how much the shared model counts against the platform's own text scores. popularity : β ≥ 0.
    transitions : κ ≥ 0. decay, sharpness : λ > 0 and τ > 0, of all text scores. isolation : γ ≥ 0 of the platform's own.
    """

    blend: float
    popularity: float
    transitions: float = 0.0
    decay: float = PRIOR_DECAY
    sharpness: float = PRIOR_SHARPNESS
    isolation: float = PRIOR_ISOLATION

    def own(self, spec: ModelSpec) -> SharedTensors:
        """Return the tensors of the platform's own text scores: the untrained model's, with what is its own."""
        log_isolation = math.log(self.isolation / PRIOR_ISOLATION) if self.isolation else -math.inf
        return self.serving(initial_shared(spec) | {"log_isolation": torch.tensor([log_isolation])})

    def serving(self, shared: SharedTensors) -> SharedTensors:
        """Return a model as the platform serves it: with its own decay and sharpness, which no model shares."""
        own = {"log_decay": self.decay / PRIOR_DECAY, "log_sharpness": self.sharpness / PRIOR_SHARPNESS}
        return shared | {name: torch.tensor([math.log(factor)]) for name, factor in own.items()}


ZERO_SHOT = LocalLayer(blend=1.0, popularity=0.3)
"""A newcomer's first day: the shared model as it is, and a little of its own popularity. Nothing is tuned."""
ZERO_SHOT_PRIOR = LocalLayer(blend=0.0, popularity=ZERO_SHOT.popularity)
"""The same without any trained part: what a newcomer's first day is compared with."""


@dataclass(frozen=True, eq=False)
class History:
    """What B shoppers had, as events over H distinct items, so that no item is compared twice.

    rows : (H,) catalogue rows. at : (B, L) each event's place in `rows`. ages : (B, L), inf where padded.
    """

    rows: torch.Tensor
    at: torch.Tensor
    ages: torch.Tensor

    @classmethod
    def of(cls, platform: Platform, which: Part, users: NDArray[np.int64]) -> "History":
        """Return what shoppers at positions `users` had before `which`."""
        items, ages = (part[users] for part in platform.recent(which))
        rows, at = np.unique(np.maximum(items, 0), return_inverse=True)
        age = np.where(items >= 0, ages, np.inf).astype(np.float32)
        parts = (torch.from_numpy(x) for x in (rows, at.reshape(items.shape), age))
        return cls(*(to_device(x, platform.device) for x in parts))

    def shares(self, shared: SharedTensors) -> torch.Tensor:
        """Return (B, H): how much each item counts for each shopper, `recency` summed over its events."""
        shares = recency(shared, self.ages.unsqueeze(1)).squeeze(1)  # (B, L)
        return shares.new_zeros(len(self.at), len(self.rows)).scatter_add_(1, self.at, shares)


@dataclass(frozen=True, eq=False)
class ScoreParts:
    """What the scores of B shoppers at positions `users` are made of, given what they had before `which`.

    Each part is computed when it is first asked for, and once: all models and local layers share the passes over the
    catalogue.
    """

    platform: Platform
    which: Part
    users: NDArray[np.int64]
    _similarities: dict[str, torch.Tensor] = field(default_factory=dict)
    _pools: dict[tuple[str, float, float], torch.Tensor] = field(default_factory=dict)

    @cached_property
    def history(self) -> History:
        """What the shoppers had."""
        return History.of(self.platform, self.which, self.users)

    def own(self, local: LocalLayer) -> torch.Tensor:
        """Return (B, I): the platform's own text scores."""
        return self._scores(local.own(self.platform.spec), local)

    def model(self, shared: SharedTensors, local: LocalLayer) -> torch.Tensor:
        """Return (B, I): the shared model's scores, as the platform serves it."""
        return self._scores(local.serving(shared), local)

    def _scores(self, tensors: SharedTensors, local: LocalLayer) -> torch.Tensor:
        """Return (B, I). A pool passes isolation on whole, so one pass serves every weight of it."""
        placed = self._placed(tensors)
        like = _key({name: t for name, t in tensors.items() if name.startswith("residual")})
        key = (like, local.decay, local.sharpness)
        if key not in self._pools:
            if like not in self._similarities:
                self._similarities[like] = self._similar(placed)
            self._pools[key] = pooled(placed, self._similarities[like], self.history.shares(placed))
        gain = SCALE * standing_apart(placed, self.platform.isolation.to(self._pools[key].dtype))
        return self._pools[key] + torch.isfinite(self.history.ages).any(1, keepdim=True) * gain

    @cached_property
    def log_popularity(self) -> torch.Tensor:
        """(I,): log(1 + popularity)."""
        return self.platform.popularity(self.which).log1p()

    @cached_property
    def log_transitions(self) -> torch.Tensor:
        """(B, I): log(1 + 10 t)."""
        items, ages = self.platform.recent(self.which)
        near = transition_scores(self.platform.transitions(self.which), items[self.users], ages[self.users])
        return to_device(torch.from_numpy(near), self.platform.device).mul_(10).log1p_()

    @torch.no_grad()
    def blended(self, shared: SharedTensors, local: LocalLayer) -> torch.Tensor:
        """Return the (B, I) scores of a model under a local layer; a part with weight 0 plays no part at all."""
        if local.blend in {0.0, 1.0}:
            score = self.model(shared, local) if local.blend else self.own(local)
        else:
            score = torch.lerp(self.own(local), self.model(shared, local), local.blend)
        if local.popularity > 0:
            score.add_(self.log_popularity, alpha=local.popularity)
        if local.transitions > 0:
            score.add_(self.log_transitions, alpha=local.transitions)
        return score

    def _similar(self, shared: SharedTensors) -> torch.Tensor:
        """Return (H, I): how similar each item of a history is to every item."""
        platform, rows = self.platform, self.history.rows
        events = event_vectors(shared, platform.spec, platform.features[rows], platform.norms[rows])
        return scores(platform.spec, events, platform.table, platform.norms)

    def _placed(self, shared: SharedTensors) -> SharedTensors:
        """Return tensors where the features are, and as precise as they are."""
        features = self.platform.features
        return {name: to_device(t, features.device).to(features.dtype) for name, t in shared.items()}


def _key(tensors: SharedTensors) -> str:
    return fingerprint({name: tensor.numpy(force=True) for name, tensor in tensors.items()})


@dataclass(frozen=True, eq=False)
class Recommender:
    """Scores all items for shoppers of one platform."""

    platform: Platform
    shared: SharedTensors
    local: LocalLayer

    def scores(self, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
        """Return (B, I) scores for shoppers at positions `users`, given what they had before `which`."""
        return ScoreParts(self.platform, which, users).blended(self.shared, self.local)


@dataclass(frozen=True, eq=False)
class Popularity:
    """The same list for everyone: what most shoppers have."""

    platform: Platform

    def scores(self, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
        """Return (B, I): the number of shoppers who have each item."""
        return self.platform.popularity(which).expand(len(users), -1)
