"""What lists are like apart from being right: varied, new, surprising, and how much of the catalogue they show.

`lists` are (B, K) items from `top_items`, best first, negative where a list is shorter; slice them for a smaller k:
`lists[:, :10]`. `counts` are (I,): how many shoppers had each item *before* what is held out. A shopper with an empty
list has NaN where a metric looks at a list alone. Values are float64, (B,) per shopper; `coverage`, `gini` and
`group_popularity_lift` look at all shoppers at once and give one number. ValueError for an item outside the catalogue.
"""

import numpy as np
import torch
from numpy.typing import ArrayLike

from shared_model.metrics.arrays import Floats, Ints, item_rows, places_in

_GATHERED = 2**22
"""Feature values that are looked up at a time: 32 MB in float64."""


def coverage(lists: ArrayLike, items: int) -> float:
    """Return the share of the catalogue's `items` that stands in some shopper's list, in [0, 1], higher shows more.

    Source: Ge, Delgado-Battenfeld and Jannach 2010, Beyond accuracy.

    >>> coverage([[0, 1], [1, 2]], 10)
    0.3
    """
    return float(np.count_nonzero(_exposure(lists, items)) / items) if items else 0.0


def gini(lists: ArrayLike, items: int) -> float:
    """Return how unevenly the catalogue's items stand in lists, in [0, 1 − 1/items], lower is more even.

    Σ_j (2j − I − 1)·n_j / (I·Σ n) over items in ascending order of n, the number of lists that hold them. 0: all equally
    often; 1 − 1/I: only one item, ever. NaN without any list. Source: Gini 1912; for recommenders Fleder and Hosanagar
    2009, Blockbuster culture's next rise or fall.

    >>> gini([[0], [1], [2], [3]], 4), gini([[2], [2]], 4)
    (0.0, 0.75)
    """
    exposure = np.sort(_exposure(lists, items))
    if not exposure.sum():
        return float("nan")
    weights = 2.0 * np.arange(1, items + 1) - items - 1
    return float(weights @ exposure / (items * exposure.sum()))


def average_popularity(lists: ArrayLike, counts: ArrayLike) -> Floats:
    """Return the mean of `counts` (I,) over each list, ≥ 0; lower means less popular items.

    Source: Yin et al. 2012, Challenging the long tail recommendation (ARP, average recommendation popularity).

    >>> average_popularity([[0, 1], [2, -1]], [8, 2, 1]).tolist()
    [5.0, 1.0]
    """
    popularity = _counts(counts)
    rows = item_rows(lists, len(popularity))
    return _list_mean(popularity[rows] if popularity.size else np.zeros(rows.shape), rows)


def popularity_lift(recommended: ArrayLike, profile: ArrayLike) -> Floats:
    """Return recommended/profile − 1, in [−1, ∞): 0 gives shoppers as popular items as they had, above 0 more popular.

    Both are (B,) `average_popularity`: of the lists, and of the items the shoppers had. NaN where the profile's is 0 or
    NaN. Per shopper; the mean of these ratios is not `group_popularity_lift`.

    >>> popularity_lift([6.0, 1.0], [2.0, 2.0]).tolist()
    [2.0, -0.5]
    """
    ours, theirs = (np.asarray(a, dtype=np.float64) for a in (recommended, profile))
    return np.divide(ours, theirs, out=np.full(ours.shape, np.nan), where=theirs > 0) - 1


def group_popularity_lift(recommended: ArrayLike, profile: ArrayLike) -> float:
    """Return (mean of `recommended`)/(mean of `profile`) − 1 over the shoppers who have both, in [−1, ∞).

    Source: Abdollahpouri et al. 2020, The connection between popularity bias, calibration, and fairness.

    >>> group_popularity_lift([6.0, 1.0], [2.0, 2.0])
    0.75
    """
    ours, theirs = (np.asarray(a, dtype=np.float64) for a in (recommended, profile))
    both = ~np.isnan(ours) & ~np.isnan(theirs)
    base = theirs[both].sum()
    return float(ours[both].sum() / base - 1) if base > 0 else float("nan")


def novelty(lists: ArrayLike, counts: ArrayLike, shoppers: int) -> Floats:
    """Return the mean inverse user frequency of each list, in [0, log2(shoppers)], higher is newer.

    The mean of −log2(max(count, 1)/shoppers): an item that nobody had counts as if one shopper had it, as in RecTools.
    Source: Zhou et al. 2010, Solving the apparent diversity–accuracy dilemma (self-information).

    >>> novelty([[0, 1], [2, -1]], [8, 2, 0], 8).tolist()
    [1.0, 3.0]
    """
    popularity = _counts(counts)
    rows = item_rows(lists, len(popularity))
    if popularity.max(initial=0.0) > shoppers:
        raise ValueError(
            f"an item was had by {popularity.max():g} of {shoppers} shoppers; count each shopper once"
        )
    if not popularity.size or not shoppers:
        return np.full(len(rows), np.nan)
    return _list_mean(np.log2(shoppers) - np.log2(np.maximum(popularity, 1.0))[rows], rows)


def serendipity(lists: ArrayLike, relevant: ArrayLike, counts: ArrayLike) -> Floats:
    """Return how early each list has relevant items that are not popular, in [0, 1], higher is better.

    The mean over the list of max(p(place) − p(popularity rank), 0) for relevant items and 0 for others, with
    p(n) = (I + 1 − n)/I. Items that equally many shoppers had share a popularity rank; an item that nobody had has p = 0.
    NaN for a shopper without a relevant item, 0 for an empty list.

    Parameters
    ----------
    relevant : (B,) or (B, R) items; negative where there is none.

    Source: as RecTools defines it, after Murakami, Mori and Orihara 2008, Metrics for evaluating the serendipity of
    recommendation lists.

    >>> serendipity([[2, 0]], [2], [5, 3, 1, 0]).tolist()  # (1 − 0.5)/2
    [0.25]
    """
    popularity = _counts(counts)
    items = len(popularity)
    rows, wanted = item_rows(lists, items), item_rows(relevant, items)
    levels = -np.unique(-popularity[popularity > 0])  # descending
    rank = np.searchsorted(-levels, -popularity) + 1
    expected = np.where(popularity > 0, (items + 1 - rank) / max(items, 1), 0.0)
    if not items:
        return np.full(len(rows), np.nan)
    chance = (items - np.arange(rows.shape[1])) / items
    hit = places_in(rows, wanted) >= 0
    surprise = np.where(hit, np.maximum(chance - expected[rows], 0.0), 0.0)
    value = surprise.sum(axis=1) / np.maximum((rows >= 0).sum(axis=1), 1)
    return np.where((wanted >= 0).any(axis=1), value, np.nan)


def intra_list_diversity(lists: ArrayLike, features: torch.Tensor) -> Floats:
    """Return the mean of 1 − cosine over all pairs of each list, in [0, 2], higher is more varied.

    Parameters
    ----------
    features : (I, F); an item whose features are all 0 has cosine 0 with every other.

    NaN for a list of fewer than two items. Works in blocks of shoppers, in O(K·F) a shopper: with unit vectors x the
    cosines of all pairs add up to (‖Σx‖² − Σ‖x‖²)/2. Source: Smyth and McClave 2001, Similarity vs. diversity; Ziegler
    et al. 2005.

    >>> intra_list_diversity([[0, 1], [0, 2]], torch.tensor([[1., 0.], [2., 0.], [0., 3.]])).tolist()
    [0.0, 1.0]
    """
    rows = torch.from_numpy(item_rows(lists, len(features)))
    values = [torch.zeros(0, dtype=torch.float64)]
    size = max(1, _GATHERED // max(1, rows.shape[1] * features.shape[1]))
    for block in rows.split(size) if rows.shape[1] else []:
        real = block >= 0
        found = features[block.clamp(min=0).to(features.device)].cpu().double()
        unit = torch.nn.functional.normalize(found, dim=2, eps=torch.finfo(torch.float64).tiny)
        unit = unit * real.unsqueeze(2)  # (b, K, F)
        own, whole = unit.square().sum((1, 2)), unit.sum(1).square().sum(1)
        count = real.sum(1)
        pairs = (count * (count - 1)).double()
        values.append(torch.where(pairs > 0, 1 - (whole - own) / pairs, torch.nan))
    diversity = torch.cat(values).numpy() if rows.shape[1] else np.full(len(rows), np.nan)
    if np.isnan(diversity[np.asarray((rows >= 0).sum(1)) > 1]).any():
        raise ValueError(
            "features of a recommended item are NaN or infinite; diversity needs finite features"
        )
    return diversity.clip(0.0, 2.0)


def _exposure(lists: ArrayLike, items: int) -> Ints:
    """Return (I,): in how many places of `lists` each item stands."""
    rows = item_rows(lists, items)
    return np.bincount(rows[rows >= 0], minlength=items)


def _counts(counts: ArrayLike) -> Floats:
    """Return (I,) counts; raise ValueError unless all are finite and at least 0."""
    array = np.asarray(counts, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"counts must be (I,), not {array.shape}")
    if not (np.isfinite(array) & (array >= 0)).all():
        raise ValueError("a count is negative, infinite or NaN; counts are numbers of shoppers")
    return array


def _list_mean(values: Floats, rows: Ints) -> Floats:
    """Return (B,) the mean of `values` (B, K) where `rows` (B, K) has an item; NaN where it has none."""
    real = rows >= 0
    total, count = np.where(real, values, 0.0).sum(axis=1), real.sum(axis=1)
    return np.divide(total, count, out=np.full(len(rows), np.nan), where=count > 0)
