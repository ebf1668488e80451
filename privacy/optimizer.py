"""Opacus' DPOptimizer with its noise from a ``NoiseSource`` and its numbers from a ``PrivacyPlan``.

Opacus clips, accumulates, scales and steps; this class replaces the noise and refuses what must not leave:

====================================  ==========================================
case                                  what happens
====================================  ==========================================
empty batch (zero per-user rows)      noise is added to the zero sum, and the step is taken
padded chunk (rows of zeros)          the same
NaN or inf in a clipped sum           MechanismError before any noise; no step
gradients accumulated as a list       MechanismError: Opacus would divide by the number of chunks
step without zero_grad                Opacus' ValueError
====================================  ==========================================
"""

from __future__ import annotations

import torch
from opacus.optimizers import DPOptimizer
from opacus.optimizers.optimizer import _check_processed_flag, _mark_as_processed
from torch.optim import Optimizer

from privacy.errors import MechanismError
from privacy.noise import NoiseSource, normal_like
from privacy.plan import PrivacyPlan


class SourcedDPOptimizer(DPOptimizer):
    """DP-SGD for per-user gradients that the caller puts in ``p.grad_sample``, (B, *p.shape).

    Large batches go in chunks: ``signal_skip_step(True)`` before ``step()`` for each chunk but the last,
    ``zero_grad()`` after each. Every update is divided by the public ``plan.normaliser``, never by B.

    Args:
        optimizer: the plain optimizer that applies the noised mean gradient.
        plan: clip norm, noise multiplier and normaliser.
        noise: where the noise comes from.
    """

    def __init__(self, optimizer: Optimizer, *, plan: PrivacyPlan, noise: NoiseSource) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=plan.noise_multiplier,
            max_grad_norm=plan.clip_norm,
            expected_batch_size=plan.normaliser,
            loss_reduction="mean",
        )
        self.noise = noise

    def add_noise(self) -> None:
        """Put ``p.summed_grad`` + N(0, (σC)²) into ``p.grad``, summed on the CPU in float64 and rounded once.

        So noise is the same on every device: none of their generators is used, and MPS has no float64.

        Raises:
            MechanismError: a sum is not finite, or gradients were accumulated as lists.
        """
        if self.accumulated_iterations != 1:
            raise MechanismError(
                f"grad_sample holds {self.accumulated_iterations} accumulated batches: put one tensor there, "
                "and use signal_skip_step to add up chunks"
            )
        for index, p in enumerate(self.params):
            _check_processed_flag(p.summed_grad)
            if not bool(torch.isfinite(p.summed_grad).all()):
                raise MechanismError(
                    f"the clipped sum of parameter {index} (shape {tuple(p.shape)}) is not finite: give "
                    "users with a non-finite gradient weight 0 before clipping"
                )
        std = self.noise_multiplier * self.max_grad_norm
        for p in self.params:
            summed = p.summed_grad.cpu().double()
            noised = summed + std * normal_like(self.noise, summed)
            p.grad = noised.to(p.dtype).to(p.device).view_as(p)
            _mark_as_processed(p.summed_grad)
