"""Ids as numbers, and rows that are there more than once: without comparing text row by row."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

Ints = npt.NDArray[np.int64]


def codes_of(ids: pd.Series) -> tuple[Ints, "pd.Index[Any]"]:
    """Each row's number among distinct ids, int64, −1 where missing, and these; some may have no row."""
    if isinstance(ids.dtype, pd.CategoricalDtype):
        return ids.cat.codes.to_numpy().astype(np.int64), ids.cat.categories
    codes, names = pd.factorize(ids)
    return codes.astype(np.int64), pd.Index(names)


def as_codes(ids: pd.Series) -> pd.Series:
    """The same ids as categories, each distinct one once."""
    if isinstance(ids.dtype, pd.CategoricalDtype):
        return ids
    codes, names = pd.factorize(ids)
    return pd.Series(pd.Categorical.from_codes(codes, categories=names, validate=False), index=ids.index)


def repeated(
    frame: pd.DataFrame, names: Sequence[str] | None = None, keep: Literal["first", "last"] = "first"
) -> npt.NDArray[np.bool_]:
    """Which rows equal another one in these columns (all, where left out), but the first (or last) of each.

    Only rows that share shopper and item with another are compared: few are, as a rule. Missing equals missing.
    """
    users, items = codes_of(frame["user_id"])[0], codes_of(frame["item_id"])[0]
    pairs = (users + 1) * (items.max(initial=-1) + 2) + items + 1
    shared = np.flatnonzero(pd.Series(pairs).duplicated(keep=False).to_numpy())
    out = np.zeros(len(frame), dtype=bool)
    if shared.size:
        columns = [name for name in (names or frame.columns) if name not in ("user_id", "item_id")]
        some = frame[columns].iloc[shared]
        some = some[[name for name in columns if not _alike(some[name])]].assign(_pair=pairs[shared])
        out[shared] = some.duplicated(keep=keep).to_numpy()
    return out


def _alike(column: pd.Series) -> bool:
    """Whether a column holds one value only, and so tells no rows apart."""
    first, last = column.iloc[0], column.iloc[-1]
    if pd.isna(first):
        return bool(column.isna().all())
    return bool(first == last and (column == first).all())
