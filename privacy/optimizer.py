"""Opacus' DPOptimizer with sums in float64, noise from a ``NoiseSource`` and numbers from a ``PrivacyPlan``.

Opacus counts chunks, scales and steps; this class clips and adds up without rounding (``privacy.clipping``), replaces
the noise and refuses what must not leave.

Guarantee: adding or removing one user moves the sum by at most C (1 + 1e-9), and the noise that is added to it has
standard deviation σC in every coordinate. Sum and noise are float64; only their total is rounded to the parameter's
own precision, which is post-processing.

====================================  ==========================================
case                                  what happens
====================================  ==========================================
empty batch (zero per-user rows)      noise is added to the zero sum, and the step is taken
padded chunk (rows of zeros)          the same
NaN or inf in a user's row            the row contributes zero
a sum in place of rows                added as it is: its rows are within C, as its caller vouches
NaN or inf in such a sum              MechanismError before any noise; no step
such a sum not float64, or of         MechanismError
another shape than its parameter
gradients accumulated as a list       MechanismError: Opacus would divide by the number of chunks
step without zero_grad                Opacus' ValueError
====================================  ==========================================
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from opacus.optimizers import DPOptimizer
from opacus.optimizers.optimizer import _check_processed_flag, _mark_as_processed
from torch.optim import Optimizer

from privacy.clipping import clipped_sum
from privacy.errors import MechanismError
from privacy.noise import NoiseSource, normal_like
from privacy.plan import PrivacyPlan


class SourcedDPOptimizer(DPOptimizer):
    """DP-SGD for per-user gradients that the caller puts in ``p.grad_sample``, (B, *p.shape), or `add_bounded` sums.

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

    def add_bounded(self, sums: Sequence[torch.Tensor]) -> None:
        """Take a chunk of users as the sum of their rows, in place of rows to clip; ``step()`` is called after it.

        The caller vouches that each user's row, over all parameters, is finite and within C, and that it lies on
        ``privacy.clipping.on_grid``, without which a large sum is rounded as the chunks fall.

        Args:
            sums: one float64 tensor a parameter, of its shape.

        Raises:
            MechanismError: a sum is not float64, or not of its parameter's shape.
        """
        for index, (p, bounded) in enumerate(zip(self.params, sums, strict=True)):
            if bounded.dtype != torch.float64 or bounded.shape != p.shape:
                raise MechanismError(
                    f"the bounded sum of parameter {index} is {bounded.dtype} of shape {tuple(bounded.shape)}: "
                    f"give float64 of shape {tuple(p.shape)}"
                )
        self._accumulate(sums)
        for p in self.params:
            p.grad_sample = p.new_empty((0, *p.shape))

    def clip_and_accumulate(self) -> None:
        """Add the clipped rows in ``p.grad_sample`` to the float64 ``p.summed_grad``.

        Raises:
            MechanismError: gradients were accumulated as lists.
        """
        if self.accumulated_iterations != 1:
            raise MechanismError(
                f"grad_sample holds {self.accumulated_iterations} accumulated batches: put one tensor there, "
                "and use signal_skip_step to add up chunks"
            )
        for p in self.params:
            _check_processed_flag(p.grad_sample)
        self._accumulate(clipped_sum(self.grad_samples, self.max_grad_norm))
        for p in self.params:
            _mark_as_processed(p.grad_sample)

    def _accumulate(self, sums: Sequence[torch.Tensor]) -> None:
        for p, chunk in zip(self.params, sums, strict=True):
            if p.summed_grad is None:
                p.summed_grad = torch.zeros_like(chunk)
            p.summed_grad += chunk

    def add_noise(self) -> None:
        """Put ``p.summed_grad`` + N(0, (σC)²) into ``p.grad``, summed on the CPU in float64 and rounded once.

        So noise is the same on every device: none of their generators is used, and MPS has no float64.

        Raises:
            MechanismError: a sum is not finite.
        """
        for index, p in enumerate(self.params):
            _check_processed_flag(p.summed_grad)
            if not bool(torch.isfinite(p.summed_grad).all()):
                raise MechanismError(
                    f"the sum of parameter {index} (shape {tuple(p.shape)}) is not finite: leave users with a "
                    "non-finite row out of what add_bounded is given"
                )
        std = self.noise_multiplier * self.max_grad_norm
        for p in self.params:
            summed = p.summed_grad.cpu()
            noised = summed + std * normal_like(self.noise, summed)
            p.grad = noised.to(p.dtype).to(p.device)
            _mark_as_processed(p.summed_grad)
