"""One row per shopper that says which way a few scalars rank that shopper's own targets higher.

Row k is the central difference of the shopper's utility (`shared_model.loss.shopper_utility`) in scalar k:

    row_k = −( u(θ + h·e_k) − u(θ − h·e_k) ) / 2h

It is what a gradient would be, of the utility averaged over a window of width 2h: ranks have no gradient, and smooth
stand-ins for them (a likelihood, sigmoids of score differences) ask for ever larger scores instead of better lists
(docs/decisions/0014-rank-differences.md). u lies in [0, 1], so every entry lies in [−1/2h, 1/2h] whatever the data
hold, and the row depends on its own shopper and on public things only. It costs two scorings a scalar: it is for a
model without a residual.
"""

import torch

from clients.gradients import finite_rows
from shared_model.exchange import SharedTensors
from shared_model.loss import Negatives, ShopperExample, shopper_utility
from shared_model.model import ModelSpec

STEP = 0.35
"""h: the scalars are logarithms, so the utility is compared at about 0.7 and 1.4 times each value."""


@torch.no_grad()
def rank_differences(
    shared: SharedTensors,
    spec: ModelSpec,
    example: ShopperExample,
    candidates: Negatives,
    weights: torch.Tensor,
) -> SharedTensors:
    """Return name → (B, *shape), the differences of each shopper's own utility; a row of weight 0 is zero, and so is one
    that is not finite.

    weights : (B,) 1 for a shopper, 0 for a row of padding.
    """
    rows = {}
    for name, tensor in shared.items():
        columns = []
        for k in range(tensor.numel()):
            apart = torch.zeros_like(tensor)
            apart[k] = STEP
            up, down = (
                shopper_utility(shared | {name: moved}, spec, example, candidates)
                for moved in (tensor + apart, tensor - apart)
            )
            columns.append((down - up) / (2 * STEP))
        rows[name] = torch.stack(columns, 1)
    return finite_rows(rows, weights)
