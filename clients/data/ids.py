"""Ids: a whole number has one spelling, whatever file, type or database it comes from. docs/data.md has the table.

An id is changed only where it is certain to be the same number: 17850, 17850.0 and " 17850 " are "17850". "00123" and
"1e5" may be a number or a name: they stay as they are, and whoever finds them beside "123" and "100000" refuses
(`clients.data.spellings`). A float that cannot hold its number exactly is refused at once.
"""

import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from clients.data.parse import is_null_word, text_or_missing
from clients.data.spellings import texts
from clients.errors import DataError

_Where = Callable[[int], str]
"""Says where a row is, for messages."""
_TEXT = pd.StringDtype("pyarrow", na_value=np.nan)
_WHOLE = r"^(0|-?[1-9][0-9]*)\.0+$"
"""A whole number as floats and decimals are written; the first group is its one spelling."""
_LONG = r"^(?:[+-]?[0-9]{16,}\.[0-9]*|[+-]?[1-9]\.[0-9]*[eE]\+?[0-9]{2})$"
"""Numbers with a point that may be greater than a float holds exactly."""
_SCALAR_WHOLE, _SCALAR_LONG = re.compile(_WHOLE), re.compile(_LONG)
_EXACT = 2**53
"""From here on a float64 no longer tells neighbouring whole numbers apart."""
_DIGITS = 100
"""More digits than any id has."""


def one_spelling(text: str) -> str:
    """Return an id as every part of fedcart spells it; "" where there is none (blank, or a word for null)."""
    text = text.strip()
    if is_null_word(text):
        return ""
    whole = _SCALAR_WHOLE.match(text)
    return whole[1] if whole and not has_lost_digits(text) else text


def real_ids(names: Iterable[str]) -> list[str]:
    """Return the one spelling of each, without those that are no id: an empty session is that of all who have none."""
    return [name for name in map(one_spelling, names) if name]


def has_lost_digits(text: str) -> bool:
    """Whether a text was written from a float too great to be sure of its last digits."""
    return bool(_SCALAR_LONG.match(text)) and abs(Decimal(text)) >= _EXACT


def parse_ids(raw: pd.Series, column: str, source: str) -> pd.Series:
    """Ids in their one spelling, dtype `str`, missing where there is none: 5.0 → "5", "007" stays "007".

    Raises `DataError` when the column cannot hold ids (fractions in floats, floats beyond what they hold exactly,
    booleans, dates, binary).
    """
    kind = raw.dtype
    if pd.api.types.is_bool_dtype(kind) or pd.api.types.is_datetime64_any_dtype(kind):
        raise DataError(f"{source}, column {column!r}: ids must be text or integers, not {kind}.")
    if not isinstance(kind, pd.CategoricalDtype):
        return _parsed(raw, lambda row: f"{source}, row {row + 1}, column {column!r}")
    codes = raw.cat.codes.to_numpy()
    names = _parsed(
        pd.Series(kind.categories),
        lambda at: f"{source}, row {int((codes == at).argmax()) + 1}, column {column!r}",
    )
    return pd.Series(names.array.take(codes, allow_fill=True), index=raw.index)


def _series(ids: pa.Array, like: pd.Series) -> pd.Series:
    return pd.Series(pd.array(ids, dtype=_TEXT), index=like.index)


def _parsed(raw: pd.Series, where: _Where) -> pd.Series:
    kind = raw.dtype
    if pd.api.types.is_integer_dtype(kind):
        return _series(pc.cast(pa.array(raw.array, from_pandas=True), pa.large_string()), raw)
    if pd.api.types.is_float_dtype(kind):
        return _of_floats(raw, where)
    return _spelled(
        text_or_missing(raw if isinstance(kind, pd.StringDtype) else _of_objects(raw, where)), where
    )


def _spelled(ids: pd.Series, where: _Where) -> pd.Series:
    text = texts(ids)
    if not pc.any(pc.match_substring(text, ".")).as_py():
        return ids
    for row in pc.indices_nonzero(pc.fill_null(pc.match_substring_regex(text, _LONG), False)).to_pylist():
        if has_lost_digits(text[row].as_py()):
            raise _no_id(text[row].as_py(), where(row))
    return _series(pc.replace_substring_regex(text, _WHOLE, r"\1"), ids)


def _of_floats(raw: pd.Series, where: _Where) -> pd.Series:
    kind = getattr(raw.dtype, "numpy_dtype", raw.dtype)
    values = raw.to_numpy(dtype=np.float64, na_value=np.nan)
    missing = np.isnan(values)
    bad = ~missing & ((values != np.floor(values)) | (np.abs(values) >= _exact(kind)))
    if bad.any():
        row = int(bad.argmax())
        raise _no_id(float(values[row]), where(row))
    whole = np.where(missing, 0, values).astype(np.int64)
    return _series(pc.cast(pa.array(whole, mask=missing), pa.large_string()), raw)


def _exact(kind: Any) -> float:
    """From where on a type of floats no longer tells neighbouring whole numbers apart."""
    return float(2 ** (int(np.finfo(kind).nmant) + 1))


def _of_objects(raw: pd.Series, where: _Where) -> pd.Series:
    kind = pd.api.types.infer_dtype(raw, skipna=True)
    if kind == "string":
        return raw
    if kind == "integer":
        try:
            return _series(pc.cast(pa.array(raw, pa.int64(), from_pandas=True), pa.large_string()), raw)
        except (OverflowError, pa.ArrowInvalid):  # greater than int64 holds
            pass
    cells = [_one_id(value, row, where) for row, value in enumerate(raw)]
    return pd.Series(cells, index=raw.index, dtype=object)


def _one_id(value: Any, row: int, where: _Where) -> str | None:
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float | np.floating):
        number = float(value)
        if np.isnan(number):
            return None
        if number.is_integer() and abs(number) < _exact(type(value)):
            return str(int(number))
    elif isinstance(value, Decimal):
        if value.is_nan():
            return None
        if value.is_finite() and value.adjusted() < _DIGITS and value == value.to_integral_value():
            return str(int(value))
    elif isinstance(value, str | int | np.integer) and not isinstance(value, bool):
        return str(value)
    raise _no_id(value, where(row))


def _no_id(value: Any, where: str) -> DataError:
    return DataError(
        f"{where}: {value!r} ({type(value).__name__}) is no id that is certain. Store ids as text or integers, not as "
        "floats."
    )
