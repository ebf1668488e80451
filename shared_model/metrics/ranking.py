"""From scores to ranks and lists, in blocks of the catalogue: each keeps its temporaries in the processor's cache.

Scores that are NaN count as −inf, so a model that has diverged ranks like one that says nothing, never first.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike

from shared_model.metrics.arrays import Floats, item_rows, places_in, refuse_repeats

Comparison = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_BLOCK = 16384
"""Items of a block: with 32 to 256 shoppers its masks fit in the cache, which makes counting about 4 times faster."""


def target_ranks(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the ranks, from 1, of relevant items in `scores` (B, I); float64 on the CPU, shaped like `targets`.

    Parameters
    ----------
    scores : (B, I), higher is better; −inf for items that were filtered out.
    targets : (B,) one relevant item a shopper, or (B, R) several; negative where there is none, which gives NaN.

    The rank is 1 + (items scored higher) + half of the other items that tie, so that ties neither help nor hurt and
    the order of the catalogue plays no part. Relevant items that tie with each other follow one another, from the
    middle of the tie: ranks of one shopper always differ by at least 1.

    >>> target_ranks(torch.tensor([[3., 2., 1.], [1., 1., 0.]]), torch.tensor([1, 0])).tolist()
    [2.0, 1.5]
    >>> target_ranks(torch.tensor([[9., 5., 5., 5., 5.]]), torch.tensor([[1, 2, -1]])).tolist()
    [[3.0, 4.0, nan]]
    """
    wanted = targets.unsqueeze(1) if targets.ndim == 1 else targets  # (B, R)
    refuse_repeats(wanted.cpu().numpy())
    scores = _nan_last(scores)
    missing = wanted < 0
    own = scores.gather(1, wanted.clamp(min=0))
    higher, equal = _count(scores, own, torch.gt), _count(scores, own, torch.eq)
    tied = (own.unsqueeze(2) == own.unsqueeze(1)) & ~missing.unsqueeze(1)  # (B, R, R)
    relevant, before = tied.sum(2), tied.tril(-1).sum(2)
    above, ties = (higher + before).cpu().double(), (equal - relevant).cpu().double()
    return (1.0 + above + ties / 2.0).masked_fill(missing.cpu(), torch.nan).reshape(targets.shape)


def top_items(scores: torch.Tensor, k: int) -> torch.Tensor:
    """Return the (B, min(k, I)) int64 items with the highest `scores` (B, I), best first.

    Of items that tie the first of the catalogue comes first, on every device and however shoppers are batched. −1
    stands where only items scored −inf or NaN are left.

    >>> top_items(torch.tensor([[1., 3., 3., -torch.inf]]), 4).tolist()
    [[1, 2, 0, -1]]
    """
    if k < 1:
        raise ValueError(f"k is {k}; a list has at least one place")
    scores = _nan_last(scores)
    k = min(k, scores.shape[1])
    values, items = scores.topk(k, dim=1)
    if k == 0:
        return items
    edge = values[:, -1:]
    # topk takes any of the items that tie with the last one: where there are others, take the first of them.
    left_out = (_count(scores, edge, torch.eq) > (values == edge).sum(1, keepdim=True)) & (edge > -torch.inf)
    for row in left_out.squeeze(1).nonzero().flatten().tolist():
        above = int((values[row] > edge[row]).sum())
        items[row, above:] = (scores[row] == edge[row]).nonzero().flatten()[: k - above]
    items, order = items.sort(dim=1)
    values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return items.gather(1, order).where(values > -torch.inf, -1)


def list_ranks(lists: ArrayLike, relevant: ArrayLike) -> Floats:
    """Return (B, R) float64: the place, from 1, of each relevant item in its shopper's list; inf where it is not in it.

    Parameters
    ----------
    lists : (B, K) items, best first. relevant : (B, R) or (B,) items. Negative means none (NaN for a relevant one).

    >>> list_ranks([[4, 7, 9]], [[9, 5, -1]]).tolist()
    [[3.0, inf, nan]]
    """
    wanted = item_rows(relevant)
    place = places_in(wanted, item_rows(lists))
    return np.where(wanted < 0, np.nan, np.where(place >= 0, place + 1.0, np.inf))


def _nan_last(scores: torch.Tensor) -> torch.Tensor:
    """Return `scores` with −inf for NaN; the same tensor where there is none."""
    if bool(scores.sum().isnan()):  # far cheaper than looking at every score, and NaN is rare
        return scores.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    return scores


def _count(scores: torch.Tensor, values: torch.Tensor, compare: Comparison) -> torch.Tensor:
    """Return (B, R) int64: how many of a shopper's `scores` (B, I) compare with each of the shopper's `values` (B, R)."""
    counts = torch.zeros(values.shape, dtype=torch.int64, device=scores.device)
    for block in scores.split(_BLOCK, dim=1):
        for column in range(values.shape[1]):
            # Summing into int32: into int64 it takes five times as long.
            counts[:, column] += compare(block, values[:, column, None]).sum(1, dtype=torch.int32)
    return counts
