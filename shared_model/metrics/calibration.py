"""Calibration: whether a list has the categories of what the shopper had, in the same proportions."""

import numpy as np
from numpy.typing import ArrayLike

from shared_model.metrics.arrays import Floats, item_rows

_ENTRIES = 2**22
"""Pairs of a place and a category that are looked at at a time."""


def category_shares(lists: ArrayLike, categories: ArrayLike) -> Floats:
    """Return (B, G): the share of each category in each list, summing to 1; a row of NaN where no item has one.

    Parameters
    ----------
    lists : (B, K) items, negative where a list is shorter.
    categories : (I, C) or (I,) categories from 0 of each item, negative where it has fewer; an item counts for each of
        its categories in equal parts, an item without any not at all.

    >>> category_shares([[0, 1, 2, -1]], [[0, -1], [0, 1], [-1, -1]]).tolist()
    [[0.75, 0.25]]
    """
    labels = item_rows(categories)  # (I, C)
    rows = item_rows(lists, len(labels))
    shares = np.full((len(rows), int(labels.max(initial=-1)) + 1), np.nan)
    weights = 1.0 / np.maximum((labels >= 0).sum(axis=1), 1)
    size = max(1, _ENTRIES // max(1, rows.shape[1] * labels.shape[1]))
    for start in range(0, len(rows) if shares.shape[1] else 0, size):
        block = rows[start : start + size]
        found = np.where(block[:, :, None] >= 0, labels[block], -1)  # (b, K, C)
        shopper, place, _ = real = np.nonzero(found >= 0)
        flat = np.bincount(
            shopper * shares.shape[1] + found[real],
            weights=weights[block[shopper, place]],
            minlength=len(block) * shares.shape[1],
        ).reshape(len(block), -1)
        total = flat.sum(axis=1, keepdims=True)
        np.divide(flat, total, out=shares[start : start + size], where=total > 0)
    return shares


def miscalibration(
    lists: ArrayLike, histories: ArrayLike, categories: ArrayLike, alpha: float = 0.01
) -> Floats:
    """Return (B,) Steck's C_KL, in [0, ln(1/alpha)] nats, lower is better: 0 where a list has its shopper's proportions.

    KL(p ‖ (1 − alpha)·q + alpha·p) with `category_shares` p of `histories` and q of `lists`; alpha in (0, 1) keeps it
    finite where a list lacks a category. NaN where no item of the history has a category; a list without any is as far
    away as can be. Every item of a history weighs the same. Source: Steck 2018, Calibrated recommendations.

    >>> miscalibration([[0, 1], [0, 0], [1, 1]], [[0, 1], [0, 1], [0, 0]], [0, 1]).round(3).tolist()
    [0.0, 1.959, 4.605]
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}; it must lie between 0 and 1")
    labels = item_rows(categories)
    wanted, given = category_shares(histories, labels), category_shares(lists, labels)
    if len(wanted) != len(given):
        raise ValueError(f"{len(wanted)} histories do not belong to {len(given)} lists")
    if not wanted.shape[1]:
        return np.full(len(wanted), np.nan)
    mixed = (1 - alpha) * np.nan_to_num(given, nan=0.0) + alpha * wanted
    ratio = np.divide(wanted, mixed, out=np.ones_like(wanted), where=wanted > 0)
    return np.where(np.isnan(wanted[:, 0]), np.nan, np.maximum((wanted * np.log(ratio)).sum(axis=1), 0.0))
