"""One arm's score of items for a history: the model, popularity and transitions, as `clients.recommender` has them.

    score(i) = Σ_m a_m · ⟨q_m, x_i⟩ · c_m,i  +  β · log(1 + popularity_i)  +  κ · log(1 + 10 · t_i)

m runs over the prior (a = 1 − blend) and the trained model (a = blend); c are `item_scales`. Everything here is a
pure function of what it is given. Shapes: B histories, M models, I items, F feature width.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from clients.recommender import LocalLayer
from clients.serving.history import History
from shared_model.exchange import SharedTensors
from shared_model.model import (
    PRIOR_DECAY,
    ModelSpec,
    block_norms,
    initial_shared,
    item_scales,
    queries,
)

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Part:
    """One model's part: its weight a, its tensors, and the scale of each item (I,)."""

    weight: float
    shared: SharedTensors
    scales: torch.Tensor


@dataclass(frozen=True, eq=False)
class Near:
    """The transitions' part of a score: `values` (n,) > 0 at item `rows` (n,), zero elsewhere."""

    rows: NDArray[np.int64]
    values: Floats


@dataclass(frozen=True, eq=False)
class Scoring:
    """features : (I, F) as scored. bias : (I,), β·log(1 + popularity). transitions : (I, I) or None where κ is 0."""

    spec: ModelSpec
    features: torch.Tensor
    parts: tuple[Part, ...]
    bias: torch.Tensor
    transitions: sparse.csr_matrix | None
    local: LocalLayer

    @classmethod
    def of(
        cls,
        spec: ModelSpec,
        table: torch.Tensor,
        norms: torch.Tensor,
        shared: SharedTensors,
        local: LocalLayer,
        popularity: torch.Tensor,
        transitions: sparse.csr_matrix | None,
    ) -> "Scoring":
        """Build from a platform's features (I, F) and norms (I, E), a model, and the platform's local layer."""
        models = [(1.0 - local.blend, initial_shared(spec)), (local.blend, shared)]
        parts = [Part(a, tensors, item_scales(tensors, spec, norms)) for a, tensors in models if a > 0]
        bias = popularity.log1p() * local.popularity
        return cls(spec, table, tuple(parts), bias, transitions if local.transitions > 0 else None, local)

    def queries(self, history: History) -> torch.Tensor:
        """Return (M, F) queries; zero for a history without events."""
        if not len(history):
            return torch.zeros(len(self.parts), self.spec.feature_width)
        norms = block_norms(self.spec, history.vectors)
        ages = torch.from_numpy(history.ages).unsqueeze(0)
        each = [queries(p.shared, self.spec, history.vectors, norms, ages) for p in self.parts]
        return torch.cat(each)

    def direction(self, history: History) -> torch.Tensor:
        """Return (F,): where items gain most, the query of the weighted sum of the models."""
        weights = torch.tensor([part.weight for part in self.parts])
        return weights @ self.queries(history)

    def block(self, asked: torch.Tensor, at: slice | torch.Tensor) -> torch.Tensor:
        """Return (B, n) scores of (B, M, F) queries for the items `at`, without transitions: one pass over them."""
        features = self.features[at]
        flat = asked.flatten(0, 1).to(features.dtype)
        products = (flat @ features.T).float().unflatten(0, asked.shape[:2])  # (B, M, n)
        total = torch.zeros(len(asked), len(features)) + self.bias[at]
        for number, part in enumerate(self.parts):
            total += products[:, number] * (part.scales[at] * part.weight)
        return total

    def near(self, history: History) -> Near:
        """Return the transitions' part for a history."""
        rows, _, total = self._transitions(history)
        return Near(rows, (self.local.transitions * np.log1p(10 * total)).astype(np.float32))

    def scores(self, history: History, rows: NDArray[np.int64]) -> Floats:
        """Return (n,) scores of some items."""
        values = self.block(self.queries(history).unsqueeze(0), torch.from_numpy(rows))[0].numpy()
        near = self.near(history)
        extra = np.zeros(len(self.features), dtype=np.float32) if len(near.rows) else None
        if extra is not None:
            extra[near.rows] = near.values
            values = values + extra[rows]
        return values

    def of_item(self, row: int, rows: NDArray[np.int64], ages: NDArray[np.int64]) -> Floats:
        """Return (B,) scores of one item for histories as `Split.padded` gives them: (B, L) rows (−1: none) and ages."""
        real = torch.from_numpy(rows >= 0)
        vectors = self.features[torch.from_numpy(np.maximum(rows, 0))].float() * real.unsqueeze(-1)
        norms = block_norms(self.spec, vectors)
        since = torch.from_numpy(ages).float().where(real, torch.inf).unsqueeze(1)
        each = [queries(p.shared, self.spec, vectors, norms, since) for p in self.parts]
        total = self.block(torch.cat(each, dim=1), torch.tensor([row]))[:, 0].numpy()
        if self.transitions is not None:
            column = np.asarray(self.transitions[:, [row]].todense())[:, 0]
            weights = np.where(rows >= 0, np.exp(-PRIOR_DECAY * ages), 0.0)
            taken = (weights * column[np.maximum(rows, 0)]).sum(1)
            total = total + (self.local.transitions * np.log1p(10 * taken)).astype(np.float32)
        return total

    def contributions(self, history: History, row: int) -> tuple[NDArray, NDArray, float]:
        """Return what adds up to an item's score, in float64: (L,) of events by what they are, (L,) by transitions,
        and popularity's.

        The query is linear in the events before its length is scaled, so an event's part of it is exact; log(1 + 10 t)
        is shared out in proportion to each event's part of t.
        """
        item = self.features[row].double()
        alike = np.zeros(len(history))
        if len(history):
            vectors = history.vectors.double()
            norms = block_norms(self.spec, vectors)
            for part in self.parts:
                shared = {name: tensor.double() for name, tensor in part.shared.items()}
                ages = torch.from_numpy(history.ages).double()
                each = torch.full((len(history), len(history)), torch.inf, dtype=torch.float64)
                each.fill_diagonal_(0.0).add_(torch.diag(ages))
                alone = queries(shared, self.spec, vectors, norms, each)  # one event a moment: directions
                whole = queries(shared, self.spec, vectors, norms, ages.unsqueeze(0))[0]
                coefficients = _coefficients(alone, whole)
                alike += (alone @ item * coefficients).numpy() * float(part.scales[row]) * part.weight
        _, parts, _ = self._transitions(history, row)
        total = float(parts.sum())
        logged = self.local.transitions * np.log1p(10 * total)
        after = parts / total * logged if total > 0 else parts
        return alike, after, float(self.bias[row])

    def _transitions(self, history: History, row: int | None = None) -> tuple[NDArray, NDArray, NDArray]:
        """Return item rows with t > 0, each event's part of t at `row` (L,), and t at those rows."""
        nothing = np.empty(0, np.int64), np.zeros(len(history)), np.empty(0)
        real = np.flatnonzero(history.rows >= 0)
        if self.transitions is None or not len(real):
            return nothing
        weights = np.exp(-PRIOR_DECAY * history.ages[real].astype(np.float64))
        taken = self.transitions[history.rows[real]]
        if row is not None:
            nothing[1][real] = weights * np.asarray(taken[:, [row]].todense(), dtype=np.float64)[:, 0]
            return nothing
        found = sparse.csr_matrix(weights[None, :]) @ taken
        return found.indices.astype(np.int64), nothing[1], found.data


def _coefficients(alone: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """Return (L,) numbers c with Σ c_l · alone_l = whole: least squares, which is exact, for `whole` is in the span."""
    return torch.linalg.lstsq(alone.T, whole.unsqueeze(1), driver="gelsd").solution[:, 0]
