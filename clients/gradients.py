"""One gradient per shopper: `vmap(grad(loss))`, compiled where a run is long enough to repay it.

Compiled or not, the same function is computed; the last bits differ. Which one a run takes follows from public
numbers and the machine, never from a clock or the data, so the same seed repeats the same numbers on a machine.
"""

from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache
from math import ceil

import torch
from torch.func import grad, vmap

from clients.compiled import Forms, RowFunction, Shared, compiled_or_eager
from clients.site import Compile
from privacy.plan import PrivacyPlan
from shared_model.exchange import SharedTensors
from shared_model.loss import Negatives, ShopperExample, shopper_loss
from shared_model.model import ModelSpec

CHUNK = 64
"""B: shoppers whose gradients are in memory at once."""
COMPILE_FROM = 30_000_000
"""Chunks × T × F of a run from which compiling repays its 10 to 20 seconds about twice (docs/benchmarks/dp-step.md)."""


def compiles(choice: Compile, plan: PrivacyPlan, spec: ModelSpec, targets: int, device: torch.device) -> bool:
    """Return whether a run compiles its gradients; "auto": on a CPU, where the public numbers make it a long run."""
    if choice == "auto":
        chunks = plan.steps * ceil(plan.normaliser / CHUNK)
        return device.type == "cpu" and chunks * targets * spec.feature_width >= COMPILE_FROM
    return choice == "always"


def per_shopper_gradients(
    shared: SharedTensors,
    spec: ModelSpec,
    example: ShopperExample,
    negatives: Negatives,
    weights: torch.Tensor,
    *,
    compiled: bool = False,
) -> SharedTensors:
    """Return name → (B, *shape), the gradient of each shopper's own loss.

    `weights` (B,) is 1 for a shopper and 0 for a row of padding. A row with a NaN or inf in any tensor is zero in
    every tensor, and so is a row of weight 0.
    """
    public = [getattr(negatives, field.name) for field in fields(Negatives)]
    columns = [getattr(example, field.name) for field in fields(ShopperExample)]
    compute = _eager(spec)
    if compiled:
        compute = _compiled(spec, Forms.of(shared, public, columns), torch.get_num_threads())
    return finite_rows(compute(shared, public, columns), weights)


def finite_rows(rows: SharedTensors, weights: torch.Tensor) -> SharedTensors:
    """Return name → (B, *shape) with zeros for every row of weight 0, and for one with a NaN or inf in any tensor."""
    # A sum is finite only if every term is, and needs no second tensor of the gradients' size.
    finite = torch.stack([g.flatten(1).sum(1) for g in rows.values()]).isfinite().all(0)
    keep = finite & (weights > 0)
    if keep.all():
        return rows
    return {name: g.where(keep.view(-1, *[1] * (g.dim() - 1)), 0.0) for name, g in rows.items()}


def _eager(spec: ModelSpec) -> RowFunction:
    def loss(shared: Shared, public: Sequence[torch.Tensor], columns: Sequence[torch.Tensor]) -> torch.Tensor:
        return shopper_loss(dict(shared), spec, ShopperExample(*columns), Negatives(*public))

    return vmap(grad(loss), in_dims=(None, None, 0))


@lru_cache(maxsize=32)
def _compiled(spec: ModelSpec, forms: Forms, threads: int) -> RowFunction:
    """Compile once per process; the code is made for a number of threads too."""
    return compiled_or_eager(_eager(spec), forms)
