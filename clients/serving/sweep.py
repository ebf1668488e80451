"""A quick pass over all items: scores that are off by no more than a known amount, so that few need a precise one.

Products of two and more events with the items are taken in bfloat16 where the processor multiplies it natively; one event
with the items by numpy, whose product of a matrix and a vector goes at the speed of memory on every processor. Then

    score(i) = s/τ · log( Σ_l v_l exp(τ·c_li) )  +  bias_i

in one product of (n, Σ L) exponentials and (Σ L, B) shares. A pool moves by at most s times what a similarity moves by,
whatever τ is; so `slack` bounds by how much a score of `sweep` and one of `Scoring.block` can differ.
Shapes: B histories of L events, I items, n of them in a block, F feature width.
"""

from collections.abc import Sequence

import torch

from clients.bfloat16 import multiplies_bfloat16
from clients.serving.scoring import Asked, Scoring
from shared_model.model import SCALE

EXPONENT = 80.0
"""Beyond, exp leaves the range of float32: such similarities are pooled with their maximum taken out, as ever."""
LARGE = 16_384
"""So many items are worth numpy's threads, which the service cannot set as it sets torch's."""
_HALF, _SINGLE = 2.0**-8, 2.0**-23
"""The distance of neighbouring numbers at 1: twice what rounding costs at most."""


def half_copy(table: torch.Tensor) -> torch.Tensor | None:
    """Return float32 features (I, F) in bfloat16; None where this processor does not multiply it natively."""
    return table.bfloat16() if multiplies_bfloat16() and table.dtype == torch.float32 else None


def sweep(scoring: Scoring, asked: Sequence[Asked], at: slice) -> torch.Tensor:
    """Return (B, n): scores of the items `at`, without transitions, off by at most `slack`."""
    lengths = torch.tensor([len(one.vectors) for one in asked])
    owners = torch.arange(len(asked)).repeat_interleave(lengths)
    total = scoring.bias[at].repeat(len(asked), 1)
    some = lengths > 0
    if not len(owners):
        return total
    similar = _products(scoring, torch.cat([one.vectors for one in asked]), at)
    alone = len(owners) == int(some.sum())  # one event each: its pool is its similarity
    factor = SCALE if alone else scoring.local.text.pool_sharpness
    text = similar.mul_(factor * scoring.scales[at, None]).add_(factor * scoring.apart[at, None])
    if not alone:
        shares = similar.new_zeros(len(owners), len(asked))
        shares[torch.arange(len(owners)), owners] = torch.cat([one.shares[0] for one in asked])
        text = (text.exp_() @ shares[:, some]).log_().mul_(SCALE / factor)
    if some.all():
        total += text.T
    else:
        total[some] += text.T
    return total


def slack(scoring: Scoring, asked: Asked) -> float:
    """Return by how much a score of `sweep` can differ from the precise one; inf where `sweep` cannot be used."""
    length, width = asked.vectors.shape
    if not length:
        return 0.0
    events, sharpness = asked.vectors.float(), scoring.local.text.pool_sharpness
    size, apart = float(events.norm(dim=-1).max()), float(scoring.apart.abs().max())
    if sharpness * (size * scoring.reach + apart) > EXPONENT:
        return float("inf")
    off = 4 * (width + length) * _SINGLE * (scoring.reach * size + apart + 1 / sharpness)
    if scoring.half is not None:
        moved = float((events - events.bfloat16().float()).norm(dim=-1).max())
        off += scoring.off * size + (scoring.reach + scoring.off) * moved + _HALF * scoring.reach * size
    return SCALE * off


def _products(scoring: Scoring, events: torch.Tensor, at: slice) -> torch.Tensor:
    """Return (n, L) float32 products of items and events: the long factor first, read once as it lies."""
    if scoring.half is not None and len(events) > 1:
        return (scoring.half[at] @ events.bfloat16().T).float()
    features = scoring.features[at]
    if features.dtype != torch.float32 or len(events) > 1 or len(features) < LARGE:
        return (features @ events.to(features.dtype).T).float()
    return torch.from_numpy(features.numpy() @ events.numpy().T)
