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

import torch

_FINENESS = 28
"""Bits of the grid below C: float64's 53, less 24 for the number of rows, less 1 for C's own leading bit."""
_PIECE = 4096
"""Coordinates of all rows that are held in float64 at a time: more would not fit a processor's cache."""


def grid_step(clip_norm: float) -> float:
    """Return the grid's step for C = ``clip_norm`` > 0: a power of two in (C · 2^-29, C · 2^-28]."""
    return math.ldexp(1.0, math.frexp(clip_norm)[1] - 1 - _FINENESS)


def on_grid(values: torch.Tensor, clip_norm: float) -> torch.Tensor:
    """Return float64 ``values`` moved towards zero to multiples of ``grid_step(clip_norm)``.

    For rows that something else keeps within C, such as sparse ones, before they are added up.
    """
    step = grid_step(clip_norm)
    return (values / step).trunc_().mul_(step)


def clipped_sum(parameters: Sequence[torch.Tensor], clip_norm: float) -> list[torch.Tensor]:
    """Return for each parameter the float64 sum (\\*shape,) of its (B, \\*shape) rows, each user's clipped to C.

    Guarantee and edge cases: see the module. Sums are where the rows are; on MPS, which has no float64, on the CPU.
    """
    placed = [(g.cpu() if g.device.type == "mps" else g).detach() for g in parameters]
    rows = [g.reshape(len(g), math.prod(g.shape[1:])) for g in placed]
    squares = torch.zeros(len(rows[0]), dtype=torch.float64, device=rows[0].device)
    for g in rows:
        for piece in g.split(_PIECE, dim=1):
            squares += piece.double().square().sum(1)
    norms = squares.sqrt()
    finite = norms.isfinite()
    factors = (clip_norm / norms.clamp(min=clip_norm)).unsqueeze(1)
    sums = []
    for whole, g in zip(placed, rows, strict=True):
        parts = []
        for piece in g.split(_PIECE, dim=1):
            clipped = piece.double() * factors
            clipped[~finite] = 0.0  # not by a factor: 0 · NaN is NaN
            parts.append(on_grid(clipped, clip_norm).sum(0))
        sums.append(torch.cat(parts).view(whole.shape[1:]))
    return sums
