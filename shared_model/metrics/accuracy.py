"""Accuracy at k: how early a shopper's relevant items come. Each returns one float64 value a shopper, (B,).

All take `ranks` from `target_ranks` or `list_ranks`: (B,) for one relevant item a shopper, or (B, R) for several; from
1, inf for a relevant item that the list does not hold, NaN for padding. A shopper without a relevant item has NaN. A
list that is shorter than k, even an empty one, counts as if wrong items filled it up. ValueError where k < 1, a rank
is below 1, or two ranks of a shopper differ by less than 1.

Below, R is the number of the shopper's relevant items, and hits the number of them with a rank ≤ k.
"""

import numpy as np
from numpy.typing import ArrayLike

from shared_model.metrics.arrays import Floats


def recall_at(ranks: ArrayLike, k: int) -> Floats:
    """Return hits/R, in [0, 1], higher is better (with one relevant item, Recall@k is HitRate@k).

    Source: Herlocker et al. 2004, Evaluating collaborative filtering recommender systems.

    >>> recall_at([1, 10, 11], 10).tolist()
    [1.0, 1.0, 0.0]
    >>> recall_at([[1, 4, 30, np.inf]], 10).tolist()
    [0.5]
    """
    ordered, relevant = _read(ranks, k)
    return _divide(_hits(ordered, k), relevant)


def precision_at(ranks: ArrayLike, k: int) -> Floats:
    """Return hits/k, in [0, min(R, k)/k], higher is better.

    Source: Herlocker et al. 2004, Evaluating collaborative filtering recommender systems.

    >>> precision_at([[1, 4, 30, np.inf]], 10).tolist()
    [0.2]
    """
    ordered, relevant = _read(ranks, k)
    return np.where(relevant > 0, _hits(ordered, k) / k, np.nan)


def f1_at(ranks: ArrayLike, k: int) -> Floats:
    """Return 2·P·R/(P + R) of precision and recall at k, in [0, 1], higher is better; 0 where both are 0.

    This is 2·hits/(k + R). Source: van Rijsbergen 1979, Information Retrieval, chapter 7, with β = 1.

    >>> f1_at([[1, 2, 30]], 3).tolist()  # precision 2/3, recall 2/3
    [0.6666666666666666]
    """
    ordered, relevant = _read(ranks, k)
    return np.where(relevant > 0, 2 * _hits(ordered, k) / (k + relevant), np.nan)


def ndcg_at(ranks: ArrayLike, k: int) -> Floats:
    """Return DCG over the best DCG possible, in [0, 1], higher is better.

    DCG = Σ 1/log2(1 + rank) over the hits, and the best has the relevant items on places 1 … min(R, k).
    Source: Järvelin and Kekäläinen 2002, Cumulated gain-based evaluation of IR techniques, with gains 0 and 1.

    >>> ndcg_at([1, 3, 11], 10).tolist()
    [1.0, 0.5, 0.0]
    >>> ndcg_at([[1, 2, np.inf]], 2).tolist()
    [1.0]
    """
    ordered, relevant = _read(ranks, k)
    gains = np.where(ordered <= k, 1.0 / np.log2(1.0 + ordered), 0.0).sum(axis=1)
    places = np.arange(1, min(k, ordered.shape[1]) + 1)
    ideal = np.concatenate([[0.0], (1.0 / np.log2(1.0 + places)).cumsum()])
    return _divide(gains, ideal[np.minimum(relevant, len(places))])


def reciprocal_rank(ranks: ArrayLike, k: int | None = None) -> Floats:
    """Return 1/(rank of the first relevant item), in [0, 1], higher is better; 0 where that rank exceeds `k`, if given.

    Its mean is MRR, or MRR@k. Source: Voorhees 1999, The TREC-8 question answering track report.

    >>> reciprocal_rank([1, 4]).tolist(), reciprocal_rank([1, 4], 3).tolist()
    ([1.0, 0.25], [1.0, 0.0])
    >>> reciprocal_rank([[5, 2]]).tolist()
    [0.5]
    """
    first = _read(ranks, 1 if k is None else k)[0][:, 0]
    return np.where(first > (np.inf if k is None else k), 0.0, 1.0 / first)


def average_precision_at(ranks: ArrayLike, k: int) -> Floats:
    """Return the sum of the precision at each hit, over R; in [0, min(R, k)/R], higher is better. Its mean is MAP@k.

    With one relevant item this is the reciprocal rank at k. Dividing by R is what trec_eval (`map_cut`) and RecTools
    do; others divide by min(R, k). Source: Manning, Raghavan and Schütze 2008, Introduction to Information Retrieval,
    section 8.4.

    >>> average_precision_at([[1, 3, 4, 20]], 3).round(4).tolist()  # (1/1 + 2/3) / 4
    [0.4167]
    """
    ordered, relevant = _read(ranks, k)
    precision = np.arange(1, ordered.shape[1] + 1) / ordered
    return _divide(np.where(ordered <= k, precision, 0.0).sum(axis=1), relevant)


def _read(ranks: ArrayLike, k: int) -> tuple[Floats, Floats]:
    """Return (B, R) ranks in ascending order, at least one column, NaN last; and (B,) how many are not NaN."""
    if k < 1:
        raise ValueError(f"k is {k}; metrics at k need k ≥ 1")
    array = np.asarray(ranks, dtype=np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2:
        raise ValueError(f"ranks must be (B,) or (B, R), not {array.shape}")
    if array.shape[1] == 0:
        array = np.full((len(array), 1), np.nan)
    if (array < 1).any():
        raise ValueError(f"a rank is {np.nanmin(array):g}; ranks start at 1")
    ordered = np.sort(array, axis=1)
    finite = np.where(np.isfinite(ordered), ordered, np.nan)
    if (np.diff(finite, axis=1) < 1).any():
        raise ValueError(
            "two ranks of one shopper differ by less than 1; each relevant item has a place of its own"
        )
    return ordered, np.sum(~np.isnan(ordered), axis=1)


def _hits(ordered: Floats, k: int) -> Floats:
    return (ordered <= k).sum(axis=1).astype(np.float64)


def _divide(values: Floats, by: Floats) -> Floats:
    """Return values/by; NaN where `by` is 0."""
    return np.divide(values, by, out=np.full(values.shape, np.nan), where=by > 0)
