"""Clip each user's row in float64, and lay it on a grid so that the order of a sum changes nothing.

Guarantee
---------
What a row contributes has, over all parameters, an L2 norm of at most C (1 + 1e-12), and is made of multiples of
``grid_step(C)``. Up to 2^24 such rows add up in float64 without any rounding, in whatever order and chunks. So removing
one user moves the sum by that user's row and by nothing else. Rounded sums do not have this: whoever is removed shifts
all later additions, and in float32 the sum of three million rows moved by several C. With more than 2^24 rows, all of
them along one coordinate, an addition is rounded by at most 2^-53 of the sum.

=========================================  ================================================
case                                       what a row contributes
=========================================  ================================================
norm ≤ C                                   itself
norm > C                                   itself · C / norm
NaN or inf in any parameter                zero in all of them
norm whose square float64 cannot hold      zero
no rows                                    the sum is zero
=========================================  ================================================

Rounding to the grid goes towards zero: it lengthens no row, and takes less than C · 2^-28 off a coordinate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

_FINENESS = 28
"""Bits of the grid below C: float64's 53, less 24 for the number of rows, less 1 for C's own leading bit."""
_HELD = 2**18
"""Coordinates of rows that are held in float64 at a time, 2 MB: more would not stay in a processor's cache."""


def grid_step(clip_norm: float) -> float:
    """Return the grid's step for C = ``clip_norm`` > 0: a power of two in (C · 2^-29, C · 2^-28]."""
    return math.ldexp(1.0, math.frexp(clip_norm)[1] - 1 - _FINENESS)


def on_grid(values: NDArray[np.float64], clip_norm: float) -> NDArray[np.float64]:
    """Return values moved towards zero to multiples of ``grid_step(clip_norm)``.

    For rows that something else keeps within C, such as sparse ones, before they are added up.
    """
    step = grid_step(clip_norm)
    return np.trunc(values / step) * step


def clipped_sum(parameters: Sequence[torch.Tensor], clip_norm: float) -> list[torch.Tensor]:
    """Return for each parameter the float64 sum (\\*shape,) of its (B, \\*shape) rows, each user's clipped to C.

    Guarantee and edge cases: see the module. Sums are where the rows are; on MPS, which has no float64, on the CPU.
    """
    placed = [(g.cpu() if g.device.type == "mps" else g).detach() for g in parameters]
    rows = [g.reshape(len(g), math.prod(g.shape[1:])) for g in placed]
    at_a_time = max(1, _HELD // max(1, sum(g.shape[1] for g in rows)))
    step = grid_step(clip_norm)
    totals = [torch.zeros(g.shape[1], dtype=torch.int64, device=g.device) for g in rows]
    for block in zip(*[g.split(at_a_time) for g in rows], strict=True):
        exact = [part.to(torch.float64, copy=True) for part in block]
        norms = torch.stack([torch.linalg.vecdot(part, part) for part in exact]).sum(0).sqrt()
        lost = ~norms.isfinite().unsqueeze(1)
        factors = (clip_norm / norms.clamp(min=clip_norm) / step).unsqueeze(1)
        for part, total in zip(exact, totals, strict=True):
            part.mul_(factors).masked_fill_(lost, 0.0)  # not by a factor: 0 · NaN is NaN
            total.add_(part.to(torch.int64).sum(0))  # steps of the grid; the conversion rounds towards zero
    return [total.view(g.shape[1:]).double() * step for g, total in zip(placed, totals, strict=True)]
