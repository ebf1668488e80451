"""A platform's recommender: text, popularity and what is taken together, in one score.

    score = text + β · log(1 + popularity) + κ · log(1 + 10 · t)

`text` is the prior of `shared_model.model`; popularity and t come from the platform's own memory, from the federation's
table, or from the sum of both (`clients.memory`). A platform chooses β, κ, how it pools text, and whether the others'
counts are added to its own, on its own validation shoppers. β = κ = 0 with the default text weights is the prior.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.split import Part
from clients.memory import Memory, transition_scores
from clients.platform import Platform
from shared_model.device import to_device
from shared_model.model import (
    PRIOR_DECAY,
    PRIOR_ISOLATION,
    PRIOR_SHARPNESS,
    SCALE,
    TextWeights,
    event_vectors,
    pooled,
    recency,
    scores,
)
from shared_model.table import LEAST_SHARE, release_share


@dataclass(frozen=True)
class LocalLayer:
    """How a platform weighs what it knows. It is chosen on the platform, and never leaves.

    popularity : β ≥ 0. transitions : κ ≥ 0. own, others : whose counts both stand on; with neither, neither counts.
    decay, sharpness, isolation : λ, τ and γ of the text scores.
    """

    popularity: float = 0.0
    transitions: float = 0.0
    own: bool = True
    others: bool = False
    decay: float = PRIOR_DECAY
    sharpness: float = PRIOR_SHARPNESS
    isolation: float = PRIOR_ISOLATION

    @property
    def text(self) -> TextWeights:
        """How text is pooled."""
        return TextWeights(self.decay, self.sharpness, self.isolation)

    def memory(self, own: Memory, others: Memory | None) -> Memory:
        """Return what popularity and transitions stand on, given both."""
        if others is None or not self.others:
            return own if self.own else Memory.empty(len(own.popularity))
        return own.plus(others) if self.own else others


PRIOR = LocalLayer()
"""Text alone."""


def federation_default(declared_total: int) -> LocalLayer:
    """Return a newcomer's first day: what the others know, by public weights, and nothing of its own.

    κ = 3, and β = 0.1 · (s / 0.1)^1.5, where s is the share of the budget that popularity gets
    (`shared_model.table.release_share`): 0.1 of many shoppers, whose pairs stand out of the noise, and about 1 of few,
    whose popularity is all there is. A function of what the members declare in public, together.

    >>> [round(federation_default(n).popularity, 2) for n in (2000, 5000, 20000)]
    [1.12, 0.28, 0.1]
    """
    popularity = LEAST_SHARE * (release_share(declared_total) / LEAST_SHARE) ** 1.5
    return LocalLayer(popularity=popularity, transitions=3.0, own=False, others=True)


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

    def shares(self, text: TextWeights) -> torch.Tensor:
        """Return (B, H): how much each item counts for each shopper, `recency` summed over its events."""
        shares = recency(text, self.ages.unsqueeze(1)).squeeze(1)  # (B, L)
        return shares.new_zeros(len(self.at), len(self.rows)).scatter_add_(1, self.at, shares)


@dataclass(frozen=True, eq=False)
class Memories:
    """The memories that a platform's local layers stand on, each made once: its own, the others', and their sum."""

    own: Memory
    others: Memory | None
    _kept: dict[tuple[bool, bool], Memory] = field(default_factory=dict)

    def of(self, local: LocalLayer) -> Memory:
        """Return what a local layer stands on."""
        key = (local.own, local.others)
        if key not in self._kept:
            self._kept[key] = local.memory(self.own, self.others)
        return self._kept[key]


@dataclass(frozen=True, eq=False)
class ScoreParts:
    """What the scores of B shoppers at positions `users` are made of, given what they had before `which`.

    Each part is computed when it is first asked for, and once: all local layers share the passes over the catalogue.
    """

    platform: Platform
    which: Part
    users: NDArray[np.int64]
    memories: Memories
    _pools: dict[tuple[float, float], torch.Tensor] = field(default_factory=dict)
    _near: dict[tuple[bool, bool], torch.Tensor] = field(default_factory=dict)

    @cached_property
    def history(self) -> History:
        """What the shoppers had."""
        return History.of(self.platform, self.which, self.users)

    @cached_property
    def _similar(self) -> torch.Tensor:
        """(H, I): how similar each item of a history is to every item."""
        platform, rows = self.platform, self.history.rows
        events = event_vectors(platform.spec, platform.features[rows], platform.norms[rows])
        return scores(platform.spec, events, platform.table, platform.norms)

    def text(self, weights: TextWeights) -> torch.Tensor:
        """Return (B, I). A pool passes isolation on whole, so one pass serves every weight of it."""
        key = (weights.decay, weights.pool_sharpness)
        if key not in self._pools:
            self._pools[key] = pooled(weights, self._similar, self.history.shares(weights))
        gain = SCALE * weights.isolation * self.platform.isolation.to(self._pools[key].dtype)
        return self._pools[key] + torch.isfinite(self.history.ages).any(1, keepdim=True) * gain

    def log_popularity(self, local: LocalLayer) -> torch.Tensor:
        """Return (I,): log(1 + popularity)."""
        popularity = torch.from_numpy(self.memories.of(local).popularity.astype(np.float32))
        return to_device(popularity, self.platform.device).log1p()

    def log_transitions(self, local: LocalLayer) -> torch.Tensor:
        """Return (B, I): log(1 + 10 t)."""
        key = (local.own, local.others)
        if key not in self._near:
            items, ages = self.platform.recent(self.which)
            near = transition_scores(self.memories.of(local).matrix, items[self.users], ages[self.users])
            self._near[key] = to_device(torch.from_numpy(near), self.platform.device).mul_(10).log1p_()
        return self._near[key]

    @torch.no_grad()
    def blended(self, local: LocalLayer) -> torch.Tensor:
        """Return the (B, I) scores under a local layer; a part with weight 0 plays no part at all."""
        score = self.text(local.text)
        if local.popularity > 0:
            score.add_(self.log_popularity(local), alpha=local.popularity)
        if local.transitions > 0:
            score.add_(self.log_transitions(local), alpha=local.transitions)
        return score


@dataclass(frozen=True, eq=False)
class Recommender:
    """Scores all items for shoppers of one platform; `others` is what the federation's other members know."""

    platform: Platform
    local: LocalLayer
    others: Memory | None = None

    def scores(self, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
        """Return (B, I) scores for shoppers at positions `users`, given what they had before `which`."""
        memories = Memories(self.platform.memory(which), self.others)
        return ScoreParts(self.platform, which, users, memories).blended(self.local)


@dataclass(frozen=True, eq=False)
class Popularity:
    """The same list for everyone: what most shoppers have."""

    platform: Platform

    def scores(self, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
        """Return (B, I): the number of shoppers who have each item."""
        return self.platform.popularity(which).expand(len(users), -1)
