"""A platform's recommender: its own text scores, the shared model's and the local layer in one score.

    score = (1 − a) · own + a · shared + β · log(1 + popularity) + κ · log(1 + 10 · transitions)

a is the blend, β the weight of popularity and κ that of `clients.transitions`; `own` is the untrained model with a decay
and a sharpness of the platform's own. All are chosen by the platform on its own validation shoppers. With
a = β = κ = 0 and the default decay and sharpness this is the prior.
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
    PRIOR_SHARPNESS,
    Items,
    ModelSpec,
    event_vectors,
    initial_shared,
    pooled,
    queries,
    recency,
    scores,
)


@dataclass(frozen=True)
class LocalLayer:
    """What a platform adds on its own and never sends.

    blend : a in [0, 1], how much the shared model counts against the platform's own text scores. popularity : β ≥ 0.
    transitions : κ ≥ 0. decay, sharpness : λ and τ of the platform's own text scores.
    """

    blend: float
    popularity: float
    transitions: float = 0.0
    decay: float = PRIOR_DECAY
    sharpness: float = PRIOR_SHARPNESS

    def own(self, spec: ModelSpec) -> SharedTensors:
        """Return the tensors of the platform's own text scores: the untrained model's, with decay and sharpness."""
        untrained = initial_shared(spec)
        moved = {
            "log_decay": math.log(self.decay / PRIOR_DECAY),
            "log_sharpness": math.log(self.sharpness / PRIOR_SHARPNESS),
        }
        return untrained | {name: torch.full_like(untrained[name], value) for name, value in moved.items()}


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
    _own: dict[tuple[float, float], torch.Tensor] = field(default_factory=dict)
    _models: dict[str, torch.Tensor] = field(default_factory=dict)

    @cached_property
    def history(self) -> History:
        """What the shoppers had."""
        return History.of(self.platform, self.which, self.users)

    def own(self, local: LocalLayer) -> torch.Tensor:
        """Return (B, I): the text scores with the platform's own decay and sharpness."""
        key = (local.decay, local.sharpness)
        if key not in self._own:
            tensors = self._placed(local.own(self.platform.spec))
            self._own[key] = pooled(tensors, self._untrained, self.history.shares(tensors))
        return self._own[key]

    def model(self, shared: SharedTensors) -> torch.Tensor:
        """Return (B, I): the shared model's scores."""
        key = fingerprint({name: tensor.numpy(force=True) for name, tensor in shared.items()})
        if key not in self._models:
            self._models[key] = self._of_model(shared)
        return self._models[key]

    def _of_model(self, shared: SharedTensors) -> torch.Tensor:
        spec = self.platform.spec
        if all(torch.equal(shared[name], tensor) for name, tensor in initial_shared(spec).items()):
            return self.own(ZERO_SHOT_PRIOR)
        placed = self._placed(shared)
        # One encoder's weight cancels out, so without a residual the similarities are the untrained ones.
        same = spec.width == 0 and len(spec.encoder_dimensions) == 1
        return pooled(placed, self._untrained if same else self._similar(placed), self.history.shares(placed))

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
            score = (self.model(shared) if local.blend else self.own(local)).clone()
        else:
            score = torch.lerp(self.own(local), self.model(shared), local.blend)
        if local.popularity > 0:
            score.add_(self.log_popularity, alpha=local.popularity)
        if local.transitions > 0:
            score.add_(self.log_transitions, alpha=local.transitions)
        return score

    @cached_property
    def _untrained(self) -> torch.Tensor:
        return self._similar(self._placed(initial_shared(self.platform.spec)))

    def _similar(self, shared: SharedTensors) -> torch.Tensor:
        """Return (H, I): how similar each item of a history is to every item."""
        platform, rows = self.platform, self.history.rows
        events = event_vectors(shared, platform.spec, platform.features[rows], platform.norms[rows])
        return scores(shared, platform.spec, events, platform.table, platform.norms)

    def _placed(self, shared: SharedTensors) -> SharedTensors:
        """Return tensors where the features are, and as precise as they are."""
        features = self.platform.features
        return {name: to_device(t, features.device).to(features.dtype) for name, t in shared.items()}


@dataclass(frozen=True, eq=False)
class Recommender:
    """Scores all items for shoppers of one platform."""

    platform: Platform
    shared: SharedTensors
    local: LocalLayer

    def scores(self, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
        """Return (B, I) scores for shoppers at positions `users`, given what they had before `which`."""
        return ScoreParts(self.platform, which, users).blended(self.shared, self.local)


@torch.no_grad()
def retrieve(
    spec: ModelSpec,
    shared: SharedTensors,
    local: LocalLayer,
    history: Items,
    ages: torch.Tensor,
    catalogue: Items,
    added: torch.Tensor,
    best: int = 1000,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the catalogue rows that score best for one shopper or session, best first, and their scores.

    One vector for the whole history finds the `best` candidates, and only they are compared with every event: the
    scores are those of `Recommender`, and so is the order among the candidates.

    Parameters
    ----------
    history : (L, F) features of the shopper's last events and (L, E) their `block_norms`; L may be 0.
    ages : (L,) how long ago each event was, in baskets, ≥ 1.
    catalogue : (I, F) features, in the precision to multiply in, and (I, E) their `block_norms`.
    added : (I,) what is added to the text score: the local layer's popularity and transitions, already weighed;
        −inf for an item that must not be recommended.

    Returns at most `best` rows, none of them with a score of −inf.
    """
    weighted = [(local.own(spec), 1 - local.blend), (shared, local.blend)]
    models = [(model, weight) for model, weight in weighted if weight > 0]
    moment = ages.to(torch.float32).unsqueeze(0)  # (1, L)

    def coarse(model: SharedTensors) -> torch.Tensor:
        query = queries(model, spec, history.features, history.norms, moment)
        return scores(model, spec, query, catalogue.features, catalogue.norms).squeeze(0)

    def precise(model: SharedTensors, among: Items) -> torch.Tensor:
        events = event_vectors(model, spec, history.features, history.norms)
        similar = scores(model, spec, events, among.features, among.norms)
        return pooled(model, similar, recency(model, moment)).squeeze(0)

    rough = added.clone()
    for model, weight in models:
        rough += weight * coarse(model)
    rows = rough.topk(min(best, len(rough))).indices
    rows = rows[rough[rows] > -torch.inf].sort().values
    score, among = added[rows], Items(catalogue.features[rows], catalogue.norms[rows])
    for model, weight in models:
        score = score + weight * precise(model, among)
    order = score.argsort(descending=True, stable=True)
    return rows[order], score[order]


@dataclass(frozen=True, eq=False)
class Popularity:
    """The same list for everyone: what most shoppers have."""

    platform: Platform

    def scores(self, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
        """Return (B, I): the number of shoppers who have each item."""
        return self.platform.popularity(which).expand(len(users), -1)
