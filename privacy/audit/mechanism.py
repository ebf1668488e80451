"""Mechanisms under audit: training's own step, with the canaries' gradients put in its place.

``TrainingMechanism`` goes the way that training goes: a Poisson mask from a NoiseSource, per-user gradients in
``grad_sample``, chunks through ``signal_skip_step``, and ``SourcedDPOptimizer`` for clipping, noise and scaling.
Its methods are the places where a defect can be planted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from privacy.audit.canaries import Canaries
from privacy.noise import NoiseSource
from privacy.optimizer import SourcedDPOptimizer
from privacy.plan import PrivacyPlan

CHUNK = 256


@dataclass(frozen=True)
class Release:
    """What one step lets the attacker see.

    Args:
        noised: (m,) the noised sum, before the division by the public normaliser.
        pad: (m,) the parameter after the step.
        metric: (S,) metrics published beside it, if any.
    """

    noised: NDArray[np.float64]
    pad: NDArray[np.float64]
    metric: NDArray[np.float64] | None = None


class Mechanism(Protocol):
    """Anything that turns the included canaries into one release per step."""

    def step(self, canaries: Canaries) -> Release:
        """Make one step over the included canaries."""


class TrainingMechanism:
    """The honest mechanism: each step is one step of ``plan``, made as training makes it.

    Args:
        plan: the plan under audit.
        noise: sampling and noise, as in training.
        m: number of canaries.
        learning_rate: of plain SGD on ``pad``.
    """

    def __init__(self, plan: PrivacyPlan, noise: NoiseSource, m: int, learning_rate: float = 1.0) -> None:
        self.plan, self.noise = plan, noise
        self.pad = torch.nn.Parameter(torch.zeros(m))
        sgd = torch.optim.SGD([self.pad], lr=learning_rate)
        self.optimizer = SourcedDPOptimizer(sgd, plan=plan, noise=self.noise_source())

    def noise_source(self) -> NoiseSource:
        """Where the optimizer's noise comes from."""
        return self.noise

    def batch(self, members: NDArray[np.int64]) -> NDArray[np.int64]:
        """The members of this step's batch."""
        return members[self.noise.poisson_mask(len(members), self.plan.sample_rate)]

    def per_user(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, m) gradients as the loss gives them: each user's own."""
        return rows

    def metric(self, canaries: Canaries) -> NDArray[np.float64] | None:
        """Metrics published beside the update: none."""

    def step(self, canaries: Canaries) -> Release:
        """Sample, clip, sum, noise and apply; an empty batch is noised too."""
        rows = self.per_user(canaries.gradients(self.batch(canaries.members)))
        chunks = rows.split(CHUNK) if len(rows) else (rows,)
        for number, chunk in enumerate(chunks, start=1):
            self.pad.grad_sample = chunk  # type: ignore[attr-defined]
            self.optimizer.signal_skip_step(number < len(chunks))
            self.optimizer.step()
            noised = self.pad.grad
            if number < len(chunks):
                self.optimizer.zero_grad()
        if noised is None:
            raise RuntimeError("the optimizer made no update")
        sums = noised.double().numpy() * self.plan.normaliser
        self.optimizer.zero_grad()
        return Release(sums, self.pad.detach().double().numpy().copy(), self.metric(canaries))


@dataclass(frozen=True)
class Transcript:
    """Everything the attacker saw: (T, m) noised sums and parameters, (T, S) metrics if there were any."""

    noised: NDArray[np.float64]
    pad: NDArray[np.float64]
    metrics: NDArray[np.float64] | None


def run(mechanism: Mechanism, canaries: Canaries, steps: int) -> Transcript:
    """Run ``steps`` steps and keep what they release."""
    releases = [mechanism.step(canaries) for _ in range(steps)]
    metrics = [release.metric for release in releases if release.metric is not None]
    return Transcript(
        np.stack([release.noised for release in releases]),
        np.stack([release.pad for release in releases]),
        np.stack(metrics) if metrics else None,
    )
