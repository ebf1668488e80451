"""One arm's score of items for a history: text, popularity and transitions, as `clients.recommender` has them.

    score(i) = pool(i)  +  β · log(1 + popularity_i)  +  κ · log(1 + 10 · t_i)

pool compares an item with every event (`shared_model.model.pooled`). Everything here is a pure function of what it is
given. Shapes: B histories, I items, F feature width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from clients.memory import DECAY
from clients.recommender import LocalLayer, Memories
from clients.serving.history import History
from shared_model.model import (
    ModelSpec,
    block_norms,
    event_vectors,
    item_scales,
    pooled,
    queries,
    recency,
)

Floats = NDArray[np.float32]
_BLOCK = 65_536
"""Items taken at a time where all are gone through."""


@dataclass(frozen=True, eq=False)
class Near:
    """The transitions' part of a score: `values` (n,) > 0 at item `rows` (n,), zero elsewhere."""

    rows: NDArray[np.int64]
    values: Floats


@dataclass(frozen=True, eq=False)
class Asked:
    """A history as text sees it: (L, F) `event_vectors`, (1, L) `recency`; and its transitions' part."""

    vectors: torch.Tensor
    shares: torch.Tensor
    near: Near


@dataclass(frozen=True, eq=False)
class Scoring:
    """features : (I, F) as scored. scales : (I,) what products with an item are multiplied by. apart : (I,) what its
    isolation adds. bias : (I,), β·log(1 + popularity). transitions : (I, I) or None where κ is 0.

    memories : whose counts these are, for explanations. half : the features in bfloat16, for a quick pass over all of
    them; None where there is none. reach : the largest length of an item, scaled. off : the largest of what `half` takes
    from or adds to it.
    """

    spec: ModelSpec
    features: torch.Tensor
    scales: torch.Tensor
    apart: torch.Tensor
    bias: torch.Tensor
    transitions: sparse.csr_matrix | None
    local: LocalLayer
    memories: Memories
    half: torch.Tensor | None
    reach: float
    off: float

    @classmethod
    def of(
        cls,
        spec: ModelSpec,
        table: torch.Tensor,
        norms: torch.Tensor,
        isolation: torch.Tensor,
        local: LocalLayer,
        memories: Memories,
        half: torch.Tensor | None = None,
    ) -> "Scoring":
        """Build from a platform's features (I, F), norms (I, E) and isolation (I,), a local layer, and its memories.

        half : see there.
        """
        scales, memory = item_scales(spec, norms), memories.of(local)
        off = torch.zeros(len(table)) if half is None else _distances(table, half)
        return cls(
            spec,
            table,
            scales,
            local.isolation * isolation,
            torch.from_numpy(memory.popularity.astype(np.float32)).log1p() * local.popularity,
            memory.matrix if local.transitions > 0 else None,
            local,
            memories,
            half,
            _largest(scales * norms.norm(dim=-1)),
            _largest(scales * off),
        )

    @cached_property
    def most_bias(self) -> float:
        """The largest bias; none is negative."""
        return _largest(self.bias)

    @cached_property
    def lengths(self) -> torch.Tensor:
        """(I,): the length of each item's features; computed when first asked for, in blocks."""
        return torch.cat([part.float().norm(dim=-1) for part in self.features.split(_BLOCK)])

    def cosines(self, row: int) -> Floats:
        """Return (I,): the cosine of each item with one; zero for an item without a known word."""
        item = torch.nn.functional.normalize(self.features[row].float(), dim=0)
        products = torch.cat([part.float() @ item for part in self.features.split(_BLOCK)])
        values: Floats = (products / self.lengths.clamp_min(1e-12)).numpy()
        return values

    def asked(self, history: History) -> Asked:
        """Return what items are compared with: made once for each question."""
        norms = block_norms(self.spec, history.vectors)
        ages = torch.from_numpy(history.ages).unsqueeze(0)
        rows, _, total = self._transitions(history)
        near = Near(rows, (self.local.transitions * np.log1p(10 * total)).astype(np.float32))
        return Asked(event_vectors(self.spec, history.vectors, norms), recency(self.local.text, ages), near)

    def direction(self, asked: Asked) -> torch.Tensor:
        """Return (F,): where items gain most without sharpness."""
        return queries(asked.shares, asked.vectors)[0]

    def block(self, asked: Sequence[Asked], at: slice | torch.Tensor) -> torch.Tensor:
        """Return (B, n) scores of B histories for the items `at`, without transitions: one pass over them."""
        features = _taken(self.features, at)
        total = _taken(self.bias, at).repeat(len(asked), 1)
        events = torch.cat([one.vectors for one in asked])  # (Σ L, F)
        similar = (events.to(features.dtype) @ features.T).float()
        similar = similar * _taken(self.scales, at) + _taken(self.apart, at)
        parts = zip(asked, similar.split([len(one.vectors) for one in asked]), strict=True)
        for row, (one, own) in enumerate(parts):
            total[row] += pooled(self.local.text, own, one.shares)[0]
        return total

    def scores(self, asked: Asked, rows: NDArray[np.int64]) -> Floats:
        """Return (n,) scores of some items."""
        values: Floats = self.block([asked], torch.from_numpy(rows))[0].numpy()
        near = asked.near
        if len(near.rows) and len(rows):
            order = np.argsort(near.rows)
            places = order[np.searchsorted(near.rows, rows, sorter=order).clip(max=len(order) - 1)]
            values = values + np.where(near.rows[places] == rows, near.values[places], np.float32(0))
        return values

    def of_item(self, row: int, rows: NDArray[np.int64], ages: NDArray[np.int64]) -> Floats:
        """Return (B,) scores of one item for histories as `Split.padded` gives them: (B, L) rows (−1: none) and ages."""
        real = torch.from_numpy(rows >= 0)
        vectors = self.features[torch.from_numpy(np.maximum(rows, 0))].float() * real.unsqueeze(-1)
        norms = block_norms(self.spec, vectors)
        since = torch.from_numpy(ages).float().where(real, torch.inf).unsqueeze(1)
        target, score = self.features[row].float(), torch.zeros(len(rows)) + self.bias[row]
        events = event_vectors(self.spec, vectors, norms)
        similar = (events @ target * self.scales[row] + self.apart[row]).unsqueeze(-1)  # (B, L, 1)
        score += pooled(self.local.text, similar, recency(self.local.text, since))[:, 0, 0]
        total: Floats = score.numpy()
        if self.transitions is not None:
            column = np.asarray(self.transitions[:, [row]].todense())[:, 0]
            weights = np.where(rows >= 0, np.exp(-DECAY * ages), 0.0)
            taken = (weights * column[np.maximum(rows, 0)]).sum(1)
            total = total + (self.local.transitions * np.log1p(10 * taken)).astype(np.float32)
        return total

    def contributions(self, history: History, row: int) -> tuple[NDArray, NDArray, NDArray]:
        """Return what adds up to an item's score, in float64: (L,) of events by what they are, (L, 2) by transitions,
        and (2,) popularity's, each by the platform's own counts and by those of the federation's other members.

        All are shared out: the text's score in proportion to each event's part of the pool v_l·exp(τ·c_l), which is
        the gradient of the score in its similarity; log(1 + 10 t) in proportion to each event's part of t, and this and
        log(1 + popularity) in proportion to own and others' counts.
        """
        alike = np.zeros(len(history))
        if len(history):
            vectors, item = history.vectors.double(), self.features[row].double()
            norms = block_norms(self.spec, vectors)
            ages = torch.from_numpy(history.ages).double().unsqueeze(0)
            products = event_vectors(self.spec, vectors, norms) @ item
            products = products * float(self.scales[row]) + float(self.apart[row])
            similar = products.unsqueeze(-1).requires_grad_()  # (L, 1)
            score = pooled(self.local.text, similar, recency(self.local.text, ages)).sum()
            (pull,) = torch.autograd.grad(score, similar)
            alike = (score.detach() * (pull / pull.sum()))[:, 0].numpy()
        _, parts, _ = self._transitions(history, row)
        total = float(parts.sum())
        logged = self.local.transitions * np.log1p(10 * total)
        after = parts / total * logged if total > 0 else parts
        popularity, pairs = self._others_shares(history, row)
        split = np.stack([1 - pairs, pairs], axis=1) * after[:, None]
        return alike, split, np.array([1 - popularity, popularity]) * float(self.bias[row])

    def _others_shares(self, history: History, row: int) -> tuple[float, NDArray[np.float64]]:
        """Return which part of an item's popularity, and of its pairs with each event (L,), is the others' counts."""
        shares = np.zeros(len(history))
        others = self.memories.others
        if others is None or not self.local.others:
            return 0.0, shares
        if not self.local.own:
            return 1.0, np.ones(len(history))
        total = self.memories.of(self.local)
        real = np.flatnonzero(history.rows >= 0)
        part, whole = (
            np.asarray(memory.pairs[history.rows[real]][:, [row]].todense(), dtype=np.float64)[:, 0]
            for memory in (others, total)
        )
        shares[real] = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
        popularity = float(total.popularity[row])
        return (float(others.popularity[row]) / popularity if popularity > 0 else 0.0), shares

    def _transitions(self, history: History, row: int | None = None) -> tuple[NDArray, NDArray, NDArray]:
        """Return item rows with t > 0, each event's part of t at `row` (L,), and t at those rows."""
        nothing = np.empty(0, np.int64), np.zeros(len(history)), np.empty(0)
        real = np.flatnonzero(history.rows >= 0)
        if self.transitions is None or not len(real):
            return nothing
        weights = np.exp(-DECAY * history.ages[real].astype(np.float64))
        taken = self.transitions[history.rows[real]]
        if row is not None:
            nothing[1][real] = weights * np.asarray(taken[:, [row]].todense(), dtype=np.float64)[:, 0]
            return nothing
        found = sparse.csr_matrix(weights[None, :]) @ taken
        return found.indices.astype(np.int64), nothing[1], found.data


def _taken(values: torch.Tensor, at: slice | torch.Tensor) -> torch.Tensor:
    """Return the items `at`; rows of a table by `index_select`, which takes half the time of an index."""
    return values[at] if isinstance(at, slice) else values.index_select(0, at)


def _largest(values: torch.Tensor) -> float:
    return float(values.max()) if len(values) else 0.0


def _distances(table: torch.Tensor, copy: torch.Tensor) -> torch.Tensor:
    """Return (I,): how far each item is from its copy; in blocks, so that no third copy is made."""
    pairs = zip(table.split(_BLOCK), copy.split(_BLOCK), strict=True)
    return torch.cat([(one - other.float()).norm(dim=-1) for one, other in pairs])
