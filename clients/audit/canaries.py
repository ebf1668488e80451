"""Canary shoppers in the real training: each owns one parameter of the shared tensors.

Shapes: U real shoppers, m canaries, P parameters in all, B shoppers of a chunk.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clients.training import Population, StepGradients
from privacy.audit import Canaries
from privacy.checks import whole
from shared_model.exchange import SharedTensors

GRADIENT = 1000.0
"""Length of a canary's gradient before clipping: far above any clip norm in use."""


def draw_places(parameters: int, m: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return (m,) different places in 0 … P − 1, one for each canary. Public."""
    hint = f"the model has {parameters} parameters and each canary owns one"
    whole("canaries", m, at_least=20, at_most=parameters, hint=hint)
    return rng.choice(parameters, size=m, replace=False).astype(np.int64)


def at_places(tensors: SharedTensors, places: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (m,) float64, what all tensors laid end to end hold at `places`."""
    flat = torch.cat([tensor.detach().flatten() for tensor in tensors.values()])
    return flat[torch.from_numpy(places)].double().numpy()


@dataclass(frozen=True)
class WithCanaries:
    """The real shoppers, and after them the canaries that are in the population.

    Real gradients are zero at all canaries' parameters, whether these are in or not. The attacker that differential
    privacy is about knows the real shoppers and would take their part off; with gradients as long as C, most of what is
    seen of a canary would be hidden behind it, and the audit without power.
    """

    shoppers: Population
    canaries: Canaries
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.shoppers) + len(self.canaries.members)

    def gradients(self, public_rng: np.random.Generator) -> StepGradients:
        """Return the step's gradients: a real shopper's as training computes it, a canary's along its parameter."""
        honest, real = self.shoppers.gradients(public_rng), len(self.shoppers)
        owned = self.places[self.canaries.members]

        def of(shared: SharedTensors, users: NDArray[np.int64], weights: torch.Tensor) -> SharedTensors:
            ours = users < real
            if (ours & (weights.numpy() > 0)).any():
                rows = honest(shared, np.where(ours, users, 0), weights * torch.from_numpy(ours))
            else:
                rows = {name: t.new_zeros(len(users), *t.shape) for name, t in shared.items()}
            row = np.flatnonzero(~ours)
            return _placed(rows, self.places, row, owned[users[row] - real], weights[row] * GRADIENT)

        return of


def _placed(
    rows: SharedTensors,
    reserved: NDArray[np.int64],
    row: NDArray[np.int64],
    places: NDArray[np.int64],
    values: torch.Tensor,
) -> SharedTensors:
    """Return the rows with zero at the `reserved` places of all tensors laid end to end, and each value at its place."""
    start, result = 0, {}
    for name, tensor in rows.items():
        flat = tensor.flatten(1).clone()
        end = start + flat.shape[1]
        flat[:, reserved[(reserved >= start) & (reserved < end)] - start] = 0
        here = (places >= start) & (places < end)
        flat[row[here], places[here] - start] = values[here].to(flat.dtype)
        result[name] = flat.view_as(tensor)
        start += flat.shape[1]
    return result
