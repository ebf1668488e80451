"""What goes with what among *codes* of items: a table that platforms of one trade can share under user-level DP.

Shapes: U shoppers, I items, K codes, C = K·(K+1)/2 unordered pairs of codes, B shoppers served, L history length.

`clients.transitions` remembers which of a platform's items follow each other. It needs many shoppers, and may not
leave. Its counterpart over public codes (`benchmarks.same_trade.codes`) may, once noised:

    row(u)[{a, b}] = Σ over pairs of u's events, different items of codes a and b, at most WINDOW apart,
                     of  max(gap, 1)^(−½)
    release        = ( Σ_u min(1, C/‖row(u)‖) · row(u) + N(0, (σC)²) ) / normaliser

Guarantee
---------
A row is a function of one shopper's own training events and of public codes. So `release` is one Gaussian mechanism
with L2 sensitivity C for the addition or removal of one shopper: the event `plan.event_of(1)`, charged by the caller
*before* the call. What `neighbour_matrix` does to it afterwards uses public numbers alone (post-processing).

=====================================  =============================================
case                                   what happens
=====================================  =============================================
no shopper, or none with two items     the zero sum is noised and divided
row norm 0                             contributes 0
row norm ≤ C                           unchanged
an item without a code                 none of its pairs counts
a plan of several steps                PlanError: one release is one step
sample rate below 1                    Poisson sampling, as the plan accounts for
=====================================  =============================================
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.same_trade.codes import NO_CODE, cells
from clients.data.split import Split
from clients.transitions import WINDOW, transition_scores
from privacy.errors import PlanError
from privacy.noise import NoiseSource
from privacy.plan import PrivacyPlan

KEEP_ABOVE = 2.5
"""A cell counts where it stands so many standard deviations of its noise above zero."""
_SELF_POWER, _OTHER_POWER, _SIZE_POWER = 0.5, 0.25, 0.5


def shopper_rows(split: Split, codes: NDArray[np.int64], count: int) -> sparse.csr_matrix:
    """Return (U, C) float64: `row(u)` before clipping, from events that may train. `codes` (I,) are below `count` = K."""
    sequences = split.sequences
    users = sequences.event_users
    inside = np.arange(sequences.items.size) < split.ends("train")[users]
    users, items, groups = users[inside], sequences.items[inside], sequences.groups[inside]
    of = codes[items] if items.size else items
    rows, columns, weights = [], [], []
    for apart in range(1, min(WINDOW, max(len(items) - 1, 0)) + 1):
        counts = (users[apart:] == users[:-apart]) & (items[apart:] != items[:-apart])
        counts &= (of[apart:] != NO_CODE) & (of[:-apart] != NO_CODE)
        gap = np.maximum(groups[apart:] - groups[:-apart], 1)[counts]
        rows.append(users[apart:][counts])
        columns.append(_cell(of[apart:][counts], of[:-apart][counts], count))
        weights.append(1 / np.sqrt(gap))
    flat = [np.concatenate(parts) if parts else np.empty(0) for parts in (weights, rows, columns)]
    table = sparse.csr_matrix((flat[0], (flat[1], flat[2])), shape=(len(sequences), cells(count)))
    table.sum_duplicates()
    return table


def _cell(a: NDArray[np.int64], b: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the number of each unordered pair of codes, row by row of the upper triangle."""
    low, high = np.minimum(a, b), np.maximum(a, b)
    return low * count - low * (low - 1) // 2 + high - low


def release(rows: sparse.csr_matrix, plan: PrivacyPlan, noise: NoiseSource) -> NDArray[np.float32]:
    """Return (C,): the noised mean of clipped rows, all that may leave. Guarantee and edge cases: see the module."""
    if plan.steps != 1:
        raise PlanError(f"steps = {plan.steps}: a table is released in one step; plan it with steps = 1")
    sampled = rows[noise.poisson_mask(rows.shape[0], plan.sample_rate)]
    norms = np.sqrt(np.asarray(sampled.multiply(sampled).sum(axis=1)).ravel())
    total = sampled.T @ np.minimum(1.0, plan.clip_norm / np.maximum(norms, plan.clip_norm * 1e-12))
    noised = np.asarray(total).ravel() + plan.noise_multiplier * plan.clip_norm * noise.normal(rows.shape[1])
    return (noised / plan.normaliser).astype(np.float32)


def plain_mean(rows: sparse.csr_matrix, clip_norm: float) -> NDArray[np.float64]:
    """Return (C,): the mean of clipped rows without noise. **Not private**: for a platform's own use, and to compare."""
    norms = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    total = rows.T @ np.minimum(1.0, clip_norm / np.maximum(norms, clip_norm * 1e-12))
    return np.asarray(total).ravel() / max(rows.shape[0], 1)


def neighbour_matrix(means: NDArray[np.floating], deviation: float, count: int) -> sparse.csr_matrix:
    """Return (K, K) float32, symmetric: the cells of (C,) `means` that stand out of their noise, scaled.

    deviation : the standard deviation of the noise in each mean, public; 0 for none. Scaled by the codes' sums of what
        is kept, n_a^½ · n_b^¼, as `clients.transitions` scales by holders: popular codes keep a part of their lead.
    """
    kept = np.where(means > KEEP_ABOVE * deviation, means, 0.0)
    upper = np.zeros((count, count))
    upper[np.triu_indices(count)] = kept
    matrix = sparse.csr_matrix(upper)
    matrix = matrix + sparse.triu(matrix, k=1).T
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    sums[sums == 0] = 1.0
    scale = sums.max() ** (_SELF_POWER + _OTHER_POWER - 1)  # the same whatever the means are divided by
    scaled = sparse.diags(sums**-_SELF_POWER) @ matrix @ sparse.diags(sums**-_OTHER_POWER)
    return sparse.csr_matrix(scaled * scale, dtype=np.float32)


def neighbour_scores(
    matrix: sparse.csr_matrix,
    codes: NDArray[np.int64],
    items: NDArray[np.int64],
    ages: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Return (B, I): how well each item's code goes with the codes of (B, L) histories (−1: none) and their ages.

    Items of one code share its score, divided by the root of how many of this catalogue's items there are of it.
    """
    history = np.where(items >= 0, codes[np.maximum(items, 0)], NO_CODE)
    by_code = transition_scores(matrix, history, ages)
    sizes = np.bincount(codes[codes != NO_CODE], minlength=matrix.shape[0])
    scores = by_code[:, np.maximum(codes, 0)] / np.sqrt(np.maximum(sizes[np.maximum(codes, 0)], 1))
    scores[:, codes == NO_CODE] = 0.0
    return scores.astype(np.float32)
