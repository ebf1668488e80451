"""Padded rows of items: reading them, and finding the items of one in another."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def item_rows(rows: ArrayLike, items: int | None = None) -> Ints:
    """Return (B, K) int64 item rows from (B, K), or from (B,) for one item each; negative means no item.

    Raises ValueError for other shapes, for items that are not integers, and for an item ≥ `items`.
    """
    array = np.asarray(rows)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise ValueError(f"items must be (B,) or (B, K), not {array.shape}")
    if array.size and array.dtype.kind not in "iu":
        raise ValueError(f"items must be integers, not {array.dtype}")
    if items is not None and array.size and array.max() >= items:
        raise ValueError(f"item {array.max()} is outside the catalogue of {items} items")
    return array.astype(np.int64, copy=False)


def places_in(wanted: Ints, rows: Ints) -> Ints:
    """Return for each item of `wanted` (B, R) its column in the same row of `rows` (B, K); −1 where it is not there.

    Raises ValueError if the two do not have the same shoppers, or if a row holds an item twice.
    """
    if len(wanted) != len(rows):
        raise ValueError(f"{len(wanted)} rows of items do not belong to {len(rows)} lists")
    stride = 1 + max(wanted.max(initial=0), rows.max(initial=0))
    start = np.arange(len(rows), dtype=np.int64)[:, None] * stride
    refuse_repeats(wanted)
    row, column = np.nonzero(rows >= 0)
    keys = row * stride + rows[row, column]
    order = keys.argsort()
    keys, column = keys[order], column[order]
    if (keys[1:] == keys[:-1]).any():
        _repeated(int(keys[1:][keys[1:] == keys[:-1]][0] // stride))
    if not keys.size:
        return np.full(wanted.shape, -1, dtype=np.int64)
    at = np.searchsorted(keys, start + wanted).clip(max=keys.size - 1)
    return np.where((wanted >= 0) & (keys[at] == start + wanted), column[at], -1)


def refuse_repeats(rows: Ints) -> None:
    """Raise ValueError if a row holds an item twice."""
    ordered = np.sort(rows, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        _repeated(int(twice.any(axis=1).argmax()))


def _repeated(row: int) -> None:
    raise ValueError(
        f"row {row} holds an item twice; every list and every set of relevant items names an item once"
    )
