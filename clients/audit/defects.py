"""Defects that the self-test plants in a training: each changes one thing that training is given, and no code.

| what is given                | defects                                                                   |
|------------------------------|---------------------------------------------------------------------------|
| the noise source             | no noise, the same noise in every step, everybody in every batch          |
| the numbers of the plan      | σ a third of the claim, not clipped, clipped at 3 C                       |
| the population's gradients   | clipped per batch, in-batch negatives                                     |
| what is published beside     | a metric without noise                                                    |
"""

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clients.training import Population, StepGradients
from privacy.audit import Canaries
from privacy.noise import NoiseSource
from privacy.plan import PrivacyPlan
from shared_model.exchange import SharedTensors

SEGMENT = 20
"""Canaries in one cohort whose exact loss is published."""


class Unchecked(PrivacyPlan):
    """A plan that may state any numbers, as a careless program would: `PrivacyPlan` refuses these."""

    def __post_init__(self) -> None:
        """Check nothing."""


def misstated(plan: PrivacyPlan, *, clip: float = 1.0, noise: float = 1.0) -> PrivacyPlan:
    """Return a plan that clips at `clip` · C and adds noise of `noise` · σC."""
    changed = {
        "clip_norm": clip * plan.clip_norm,
        "noise_multiplier": noise * plan.noise_multiplier / clip,
    }
    return Unchecked(**(asdict(plan) | changed))


@dataclass(frozen=True)
class Altered:
    """Passes on what a source gives."""

    source: NoiseSource
    private = False
    name = "planted"

    def normal(self, n: int) -> NDArray[np.float64]:
        """Return what the source returns, (n,)."""
        return self.source.normal(n)

    def poisson_mask(self, n: int, q: float) -> NDArray[np.bool_]:
        """Return what the source returns, (n,)."""
        return self.source.poisson_mask(n, q)


class NoNoise(Altered):
    """Zeros for noise."""

    def normal(self, n: int) -> NDArray[np.float64]:
        """Return (n,) zeros."""
        return np.zeros(n)


class RepeatedNoise(Altered):
    """The first step's noise in every step, as one seed for all of them gives."""

    def __init__(self, source: NoiseSource) -> None:
        super().__init__(source)
        object.__setattr__(self, "_first", {})

    def normal(self, n: int) -> NDArray[np.float64]:
        """Return the first (n,) that were drawn, again and again."""
        first: dict[int, NDArray[np.float64]] = self._first  # type: ignore[attr-defined]
        return first.setdefault(n, self.source.normal(n)).copy()


class EveryoneSampled(Altered):
    """Everybody in every batch, while the claim counts on sampling."""

    def poisson_mask(self, n: int, q: float) -> NDArray[np.bool_]:
        """Return (n,) True."""
        return np.ones(n, dtype=bool)


@dataclass(frozen=True)
class InBatchNegatives:
    """Each shopper's gradient pushes away the others of its chunk, as negatives from the same batch do.

    One shopper then moves every row, and only then is clipped: the sum moves by up to B·C where C is claimed.
    """

    inner: Population

    def __len__(self) -> int:
        return len(self.inner)

    def gradients(self, public_rng: np.random.Generator) -> StepGradients:
        """Return gradients that mix the shoppers of a chunk."""
        honest = self.inner.gradients(public_rng)

        def of(shared: SharedTensors, users: NDArray[np.int64], weights: torch.Tensor) -> SharedTensors:
            rows = honest(shared, users, weights)
            return {n: _weighted(2.0 * g - g.sum(0, keepdim=True), weights) for n, g in rows.items()}

        return of


@dataclass(frozen=True)
class ClippedPerBatch:
    """The mean gradient of each chunk is clipped to C instead of each shopper's own, and nothing else is.

    A shopper with a long gradient then moves the mean by up to C, and the sum by up to B·C.
    """

    inner: Population
    clip_norm: float

    def __len__(self) -> int:
        return len(self.inner)

    def gradients(self, public_rng: np.random.Generator) -> StepGradients:
        """Return gradients scaled so that the mean of a chunk is no longer than C."""
        honest = self.inner.gradients(public_rng)

        def of(shared: SharedTensors, users: NDArray[np.int64], weights: torch.Tensor) -> SharedTensors:
            rows = honest(shared, users, weights)
            mean = torch.cat([g.sum(0).flatten() for g in rows.values()]).norm() / weights.sum().clamp(min=1)
            factor = (self.clip_norm / (mean + 1e-12)).clamp(max=1.0)
            return {name: factor * g for name, g in rows.items()}

        return of


def _weighted(rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return rows * weights.view(-1, *[1] * (rows.dim() - 1))


def cohort_loss(canaries: Canaries, parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (S,) the exact summed loss of each cohort of about `SEGMENT` canaries: Σ over members of their parameter."""
    segments = max(1, len(parameters) // SEGMENT)
    losses = np.where(canaries.included, parameters, 0.0)
    sums = np.bincount(np.arange(len(losses)) % segments, weights=losses, minlength=segments)
    return sums.astype(np.float64)
