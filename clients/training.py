"""Local training of the shared tensors on one platform: with user-level DP, or plainly for comparison.

Private steps (Abadi et al. 2016, one shopper = one example): Poisson-sample shoppers → one gradient per
shopper → clip to C → sum → add N(0, (σC)²) → divide by the public q·N → optimizer step. A model of scalars
alone gets differences of ranks as gradients (`clients.differences`); with a residual they come from
`vmap(grad(loss))`, which is right by construction where item features pass through a trained layer
(hook-based per-sample gradients are silently wrong there). Clipping, noise and scaling are Opacus'.

| case                                   | what happens                                            |
|----------------------------------------|---------------------------------------------------------|
| a shopper's loss or gradient not finite | contributes exactly zero; nobody else is affected       |
| no shopper sampled, or none there at all | the zero sum is noised, counted and applied            |
| last chunk not full                    | padded with rows of weight zero                         |
| shopper without targets                | gradient zero                                           |
| normaliser wrong                       | the update is scaled; the guarantee is untouched        |
| the time is over after a step          | TimeoutError                                            |
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from clients.differences import rank_differences
from clients.examples import TrainingData
from clients.gradients import CHUNK, compiles, per_shopper_gradients
from clients.site import Compile
from privacy.noise import NoiseSource
from privacy.optimizer import SourcedDPOptimizer
from privacy.plan import PrivacyPlan
from shared_model.device import to_device
from shared_model.exchange import SharedTensors
from shared_model.loss import Negatives, ShopperExample, shopper_loss
from shared_model.model import ModelSpec
from shared_model.reach import BETAS, learning_rate_of


@dataclass(frozen=True)
class LocalRecipe:
    """How one platform trains between two exchanges. Public.

    Attributes
    ----------
    steps : local steps, ≥ 1.
    sample_rate : q in (0, 1], the chance of each shopper to be in a step's batch.
    learning_rate : of Adam, for the residual.
    scalar_learning_rate : of Adam, for the few scalars (decay, scale, encoder weights).
    negatives : N. With a residual, shared negatives a step, drawn uniformly from the public catalogue; without, the
        items near to each shopper's own that their targets are ranked among.
    proximal : µ of FedProx (Li et al. 2020): pulls towards the round's start; touches no data.
    """

    steps: int
    sample_rate: float
    learning_rate: float
    scalar_learning_rate: float
    negatives: int
    proximal: float = 0.0


class Population(Protocol):
    """Users, numbered from 0, each with a gradient of their own.

    It decides nothing that makes training private: sampling, clipping, noise and scaling happen outside of it.
    """

    def __len__(self) -> int:
        """Return how many there are."""

    def gradients(self, public_rng: np.random.Generator) -> "StepGradients":
        """Return what gives gradients during one step; `public_rng` makes the step's public draws."""


StepGradients = Callable[[SharedTensors, NDArray[np.int64], torch.Tensor], SharedTensors]
"""(shared, (B,) users, (B,) weights) → name → (B, *shape). A row depends on its own user and on public things
only: the guarantee rests on it. A row of weight 0 is zero."""


@dataclass(frozen=True)
class RankedShoppers:
    """A platform's shoppers, with the differences of their own targets' ranks: for a model of scalars alone.

    candidates : N, how many items near to a shopper's own their targets are ranked among.
    """

    spec: ModelSpec
    data: TrainingData
    candidates: int

    def __len__(self) -> int:
        return len(self.data)

    def gradients(self, public_rng: np.random.Generator) -> StepGradients:
        """Return the differences; nothing is drawn."""

        def of(shared: SharedTensors, users: NDArray[np.int64], weights: torch.Tensor) -> SharedTensors:
            weights, rows = (
                to_device(weights, self.data.features.device),
                self.data.nearest(users, self.candidates),
            )
            return rank_differences(
                shared, self.spec, self.data.chunk(users, rows), self.data.negatives(rows), weights
            )

        return of


@dataclass(frozen=True)
class Shoppers:
    """A platform's shoppers, with the gradients of their own losses: for a model with a residual."""

    spec: ModelSpec
    data: TrainingData
    negatives: int
    compiled: bool = False

    def __len__(self) -> int:
        return len(self.data)

    def gradients(self, public_rng: np.random.Generator) -> StepGradients:
        """Draw the step's negatives and return its gradients."""
        rows = self.data.negative_rows(self.negatives, public_rng)
        negatives = self.data.negatives(rows)

        def of(shared: SharedTensors, users: NDArray[np.int64], weights: torch.Tensor) -> SharedTensors:
            example = self.data.chunk(users, rows)
            weights = to_device(weights, self.data.features.device)
            return per_shopper_gradients(
                shared, self.spec, example, negatives, weights, compiled=self.compiled
            )

        return of


def train_private(
    shared: SharedTensors,
    spec: ModelSpec,
    data: TrainingData,
    recipe: LocalRecipe,
    plan: PrivacyPlan,
    noise: NoiseSource,
    public_rng: np.random.Generator,
    compile: Compile = "auto",
    seconds: float = math.inf,
) -> SharedTensors:
    """Return the shared tensors after `recipe.steps` steps, each as private as one step of the plan.

    Guarantee: the result is one release of `plan.event_of(recipe.steps)` over the platform's shoppers, who
    enter through their own rows of `data` only. The caller charges that event *before* the call.
    `public_rng` draws negatives and may be known to anyone; sampling and noise come from `noise`. `compile` says
    how gradients are computed, and changes no more than their last bits. Raises TimeoutError after `seconds`.
    """
    end = time.monotonic() + seconds

    def in_time(_: SharedTensors) -> None:
        if time.monotonic() > end:
            raise TimeoutError(f"training took longer than {seconds:g} s")

    device = data.features.device
    shoppers: Population = RankedShoppers(spec, data, recipe.negatives)
    if spec.width:
        compiled = compiles(compile, plan, spec, data.targets, device)
        shoppers = Shoppers(spec, data, recipe.negatives, compiled)
    begin = _on(device, shared)
    trained = train_population(begin, shoppers, recipe, plan, noise, public_rng, in_time)
    return _back(trained, shared)


def train_population(
    shared: SharedTensors,
    population: Population,
    recipe: LocalRecipe,
    plan: PrivacyPlan,
    noise: NoiseSource,
    public_rng: np.random.Generator,
    watch: Callable[[SharedTensors], None],
) -> SharedTensors:
    """Do what `train_private` promises, for any population: audits add users who are easy to recognise.

    `watch` is shown each step's noised mean gradient, which is what the guarantee already gives to everyone; it
    may look only.
    """
    parameters = _parameters(shared)
    optimizer = SourcedDPOptimizer(_adam(parameters, recipe), plan=plan, noise=noise)

    def finish(_: object) -> None:
        watch({name: p.grad for name, p in parameters.items() if p.grad is not None})
        _pull(parameters, shared, recipe.proximal)

    optimizer.attach_step_hook(finish)
    for _ in range(recipe.steps):
        users = np.flatnonzero(noise.poisson_mask(len(population), plan.sample_rate))
        gradients = population.gradients(public_rng)
        chunks = _padded_chunks(users)
        for number, (chunk, weights) in enumerate(chunks, start=1):
            now = {name: p.detach() for name, p in parameters.items()}
            rows = gradients(now, chunk, weights) if len(population) else _no_rows(now)
            for name, parameter in parameters.items():
                parameter.grad_sample = rows[name]  # type: ignore[attr-defined]
            optimizer.signal_skip_step(number < len(chunks))
            optimizer.step()
            optimizer.zero_grad()
    return {name: p.detach().clone() for name, p in parameters.items()}


def train_plain(
    shared: SharedTensors,
    spec: ModelSpec,
    pools: Sequence[TrainingData],
    recipe: LocalRecipe,
    rng: np.random.Generator,
) -> SharedTensors:
    """Return the shared tensors after the same recipe without clipping or noise. **Not private.**

    One pool is a platform that trains alone; several pools are centralised training, for research only: each
    step averages the loss of the shoppers sampled from all pools, each against its own catalogue.
    """
    begin = _on(pools[0].features.device, shared)
    parameters = _parameters(begin)
    optimizer = _adam(parameters, recipe)
    for _ in range(recipe.steps):
        sampled = [np.flatnonzero(rng.random(len(data)) < recipe.sample_rate) for data in pools]
        total = sum(map(len, sampled))
        optimizer.zero_grad()
        for data, users in zip(pools, sampled, strict=True):
            drawn = data.negative_rows(recipe.negatives, rng) if spec.width else None
            for start in range(0, len(users), CHUNK):
                part = users[start : start + CHUNK]
                rows = data.nearest(part, recipe.negatives) if drawn is None else drawn
                _add_gradients(parameters, spec, data.chunk(part, rows), data.negatives(rows), total)
        if total:
            _pull(parameters, begin, recipe.proximal)
            optimizer.step()
    return _back({name: p.detach().clone() for name, p in parameters.items()}, shared)


def _add_gradients(
    parameters: dict[str, torch.Tensor],
    spec: ModelSpec,
    example: ShopperExample,
    negatives: Negatives,
    total: int,
) -> None:
    """Add the shoppers' gradients, or their differences, divided by `total`, to what the parameters hold."""
    if spec.width:
        (shopper_loss(parameters, spec, example, negatives).sum() / total).backward()
        return
    weights = torch.ones(len(example.ages), device=example.ages.device)
    rows = rank_differences(parameters, spec, example, negatives, weights)
    for name, parameter in parameters.items():
        mean = rows[name].sum(0) / total
        parameter.grad = mean if parameter.grad is None else parameter.grad + mean


def _on(device: torch.device, shared: SharedTensors) -> SharedTensors:
    return {name: to_device(tensor, device) for name, tensor in shared.items()}


def _back(trained: SharedTensors, shared: SharedTensors) -> SharedTensors:
    """Return trained tensors where the tensors were that training began with."""
    return {name: tensor.to(shared[name].device) for name, tensor in trained.items()}


def _parameters(shared: SharedTensors) -> dict[str, torch.Tensor]:
    return {name: torch.nn.Parameter(tensor.detach().clone()) for name, tensor in shared.items()}


def _adam(parameters: dict[str, torch.Tensor], recipe: LocalRecipe) -> torch.optim.Adam:
    return torch.optim.Adam(
        [
            {
                "params": [p],
                "lr": learning_rate_of(p.dim(), recipe.learning_rate, recipe.scalar_learning_rate),
            }
            for p in parameters.values()
        ],
        betas=BETAS,
    )


def _padded_chunks(users: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], torch.Tensor]]:
    """Cut (B,) shoppers into chunks of exactly CHUNK rows with weights; at least one, even when empty."""
    chunks = []
    for start in range(0, max(len(users), 1), CHUNK):
        part = users[start : start + CHUNK]
        weights = torch.zeros(CHUNK)
        weights[: len(part)] = 1.0
        chunks.append((np.concatenate([part, np.zeros(CHUNK - len(part), dtype=np.int64)]), weights))
    return chunks


def _no_rows(shared: SharedTensors) -> SharedTensors:
    """Return the gradients of nobody: (1, *shape) of zeros."""
    return {name: torch.zeros_like(tensor).unsqueeze(0) for name, tensor in shared.items()}


def _pull(parameters: dict[str, torch.Tensor], start: SharedTensors, mu: float) -> None:
    """Add µ·(w − w₀) to the gradients, which are noised already where training is private."""
    if mu:
        for name, parameter in parameters.items():
            if parameter.grad is not None:
                parameter.grad += mu * (parameter.detach() - start[name])
