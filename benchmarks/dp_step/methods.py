"""The methods: each takes one whole step over all shoppers, from gathering their examples to new parameters.

All go through the shoppers in chunks of 64. `plain` and `ours` are the functions that fedcart trains with.
"""

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer
from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping

from benchmarks.dp_step.opacus_model import LayeredLoss, shared_names
from benchmarks.dp_step.problem import Problem
from clients.gradients import CHUNK, compiles, per_shopper_gradients
from clients.site import Compile
from clients.training import train_plain, train_private
from privacy.noise import SecureNoise
from shared_model.exchange import SharedTensors
from shared_model.loss import Negatives, ShopperExample, shopper_loss

Step = Callable[[], None]
ClippedSum = Callable[[], SharedTensors]
"""Gives the clipped sum over the first chunk, without noise."""


class Plain:
    """`train_plain`: one batched gradient a chunk, no clipping, no noise."""

    note = "clients.training.train_plain, as it is"

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def step(self) -> None:
        """Take one step."""
        p = self.problem
        train_plain(p.shared, p.spec, [p.data], p.recipe, p.public_rng())


class PlainCompiled:
    """The same step with its loss and gradient compiled: what a compiler alone would win."""

    note = "the same step with a compiled loss; fedcart does not use it"

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        parameters: SharedTensors = {
            name: torch.nn.Parameter(t.clone()) for name, t in problem.shared.items()
        }
        adam = torch.optim.Adam(parameters.values(), lr=1e-3)
        count = len(problem.data)

        @torch.compile(dynamic=False)
        def loss(example: ShopperExample, negatives: Negatives) -> torch.Tensor:
            return shopper_loss(parameters, problem.spec, example, negatives).sum() / count

        def step() -> None:
            adam.zero_grad()
            for example, negatives in _chunks(problem):
                loss(example, negatives).backward()
            adam.step()

        self.step = step


class Ours:
    """`train_private`: sampling, per-shopper gradients, clipping, secure noise, Adam."""

    def __init__(self, problem: Problem, compile: Compile) -> None:
        self.problem, self.compile = problem, compile
        p = problem
        self.compiled = compiles(compile, p.plan, p.spec, p.data.targets, p.data.features.device)
        self.note = f'clients.training.train_private, as it is, compile = "{compile}"'

    def step(self) -> None:
        """Take one step."""
        p = self.problem
        train_private(p.shared, p.spec, p.data, p.recipe, p.plan, SecureNoise(), p.public_rng(), self.compile)

    def clipped_sum(self) -> SharedTensors:
        """Return the first chunk's clipped sum."""
        return clipped_sum(self.problem, compiled=self.compiled)


class Scalars:
    """The default model, without a residual: the same step, private or plain. It has no gradients to give Opacus."""

    def __init__(self, problem: Problem, private: bool) -> None:
        default = problem.without_residual()
        method = Ours(default, "auto") if private else Plain(default)
        self.note, self.step = f"{method.note}, on the default model, which has no residual", method.step


class OpacusHooks:
    """Opacus' GradSampleModule and DPOptimizer."""

    note = "opacus.GradSampleModule on the nearest formulation that hooks compute correctly"

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.model = GradSampleModule(LayeredLoss(problem.shared, problem.spec), loss_reduction="sum")
        self.optimizer = DPOptimizer(
            torch.optim.Adam(self.model.parameters(), lr=1e-3),
            noise_multiplier=problem.plan.noise_multiplier,
            max_grad_norm=problem.plan.clip_norm,
            expected_batch_size=len(problem.data),
            loss_reduction="mean",
        )

    def _gradients(self, example: ShopperExample, negatives: Negatives) -> None:
        self.model(example, negatives).sum().backward()

    def step(self) -> None:
        """Take one step."""
        warnings.filterwarnings("ignore", "Full backward hook is firing")  # compiling resets the filters
        chunks = list(_starts(self.problem))
        for number, (example, negatives) in enumerate(_chunks(self.problem), start=1):
            self._gradients(example, negatives)
            self.optimizer.signal_skip_step(number < len(chunks))
            self.optimizer.step()
            self.optimizer.zero_grad()

    def clipped_sum(self) -> SharedTensors:
        """Return the first chunk's clipped sum."""
        self._gradients(*next(_chunks(self.problem)))
        self.optimizer.signal_skip_step(True)
        self.optimizer.step()
        names = shared_names(self.model)
        sums = {names[name]: p.summed_grad.clone() for name, p in self.model.named_parameters()}
        for p in self.model.parameters():
            p.summed_grad = None
        self.optimizer.zero_grad()
        return {name: t.T if name == "residual_in" else t for name, t in sums.items()}


class OpacusGhost(OpacusHooks):
    """Opacus' ghost clipping: norms without gradients of single shoppers, then a second, weighted backward."""

    note = "opacus ghost clipping (two backward passes) on the same formulation"

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        clip = problem.plan.clip_norm
        self.model = GradSampleModuleFastGradientClipping(
            LayeredLoss(problem.shared, problem.spec),
            max_grad_norm=clip,
            use_ghost_clipping=True,
            loss_reduction="sum",
        )
        self.optimizer = DPOptimizerFastGradientClipping(
            torch.optim.Adam(self.model.parameters(), lr=1e-3),
            noise_multiplier=problem.plan.noise_multiplier,
            max_grad_norm=clip,
            expected_batch_size=None,
            loss_reduction="sum",
        )

    def _gradients(self, example: ShopperExample, negatives: Negatives) -> None:
        losses = self.model(example, negatives)
        DPTensorFastGradientClipping(self.model, self.optimizer, losses, "sum").backward()


def clipped_sum(problem: Problem, *, compiled: bool, dtype: torch.dtype = torch.float32) -> SharedTensors:
    """Return the first chunk's Σ_u g_u · min(1, C/‖g_u‖), by `per_shopper_gradients`."""
    example, negatives = next(_chunks(problem))
    example = ShopperExample(*(_cast(t, dtype) for t in vars(example).values()))
    negatives = Negatives(*(_cast(t, dtype) for t in vars(negatives).values()))
    shared = {name: t.to(dtype) for name, t in problem.shared.items()}
    weights = torch.ones(len(example.history))
    rows = per_shopper_gradients(shared, problem.spec, example, negatives, weights, compiled=compiled)
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in rows.values()]).norm(dim=0)
    factors = (problem.plan.clip_norm / (norms + 1e-6)).clamp(max=1.0)
    return {name: torch.einsum("b,b...->...", factors, g) for name, g in rows.items()}


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _starts(problem: Problem) -> range:
    return range(0, len(problem.data), CHUNK)


def _chunks(problem: Problem) -> Iterator[tuple[ShopperExample, Negatives]]:
    """Gather the step's examples chunk by chunk, and its negatives."""
    data = problem.data
    rows = data.negative_rows(problem.recipe.negatives, problem.public_rng())
    for start in _starts(problem):
        users = np.arange(start, min(start + CHUNK, len(data)))
        yield data.chunk(users, rows), data.negatives(rows)
