"""How far honest training can move the shared tensors in one round, whatever the data, the clipping and the noise.

Local training is Adam (Kingma & Ba 2015) for T steps from the round's start. With first and second moments m, v and
S_t = Σ_{s≤t} (β₁²/β₂)^{t−s}, the Cauchy–Schwarz inequality gives, for any gradients g_1 … g_t of one scalar,

    |m_t| ≤ (1−β₁) Σ β₁^{t−s} |g_s| ≤ (1−β₁) √S_t √(v_t / (1−β₂))

so that one step moves that scalar by at most η·a_t, and T steps by at most the *reach* η·Σ_t a_t, with

    a_t = (1−β₁)/(1−β₁ᵗ) · √S_t · √((1−β₂ᵗ)/(1−β₂))

a_1 = 1, a_8 = 1.03, a_64 = 1.81. The bound holds with certainty: also for noised gradients, for µ of FedProx, and for a
hostile data set. Clip norm and noise multiplier play no part in it, for Adam divides the gradients' size out.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shared_model.errors import ReachError
from shared_model.exchange import TensorSpec
from shared_model.instructions import TrainInstructions

BETAS = (0.9, 0.999)
"""Adam's β₁ and β₂ in all local training."""
_ROUNDING = 1e-4
"""Relative room for float32: a step's own rounding is below 1e-6."""


def steps_reach(steps: int) -> float:
    """Return Σ_t a_t: how far `steps` ≥ 1 steps at learning rate 1 can move one scalar.

    >>> [round(steps_reach(t), 3) for t in (1, 2, 8)]
    [1.0, 2.001, 8.087]
    """
    one, two = BETAS
    total = powers = 0.0
    for t in range(1, steps + 1):
        powers = powers * one**2 / two + 1.0
        total += (1 - one) / (1 - one**t) * math.sqrt(powers * (1 - two**t) / (1 - two))
    return total


def learning_rate_of(dimensions: int, residual: float, scalar: float) -> float:
    """Return the learning rate of a tensor: vectors hold the few scalars, which have a rate of their own."""
    return scalar if dimensions == 1 else residual


def reach_of(tensor: TensorSpec, ask: TrainInstructions) -> float:
    """Return how far each scalar of `tensor` can honestly be from the start of a round."""
    rate = learning_rate_of(len(tensor.shape), ask.learning_rate, ask.scalar_learning_rate)
    return rate * steps_reach(ask.local_steps)


def require_reach(
    start: Mapping[str, NDArray], update: Mapping[str, NDArray], ask: TrainInstructions, where: str
) -> None:
    """Raise ReachError, which names the tensor, if `update` is further from `start` than training can have moved it.

    Both have passed the exchange spec. The L2 norm of what passes is below √Σ_tensors size·reach².
    """
    for tensor in ask.spec.exchange.tensors:
        before = start[tensor.name].astype(np.float64)
        moved = np.abs(update[tensor.name].astype(np.float64) - before)
        reach = reach_of(tensor, ask)
        room = reach * (1 + _ROUNDING) + ask.local_steps * 2.0**-23 * (np.abs(before) + reach)
        if (moved > room).any():
            raise ReachError(
                f"{where}: tensor {tensor.name!r} moved by {moved.max():.4g}, and {ask.local_steps} steps of training "
                f"move it by {reach:.4g} at most"
            )
