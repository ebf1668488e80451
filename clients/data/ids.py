"""Ids: a whole number has one spelling, whatever file, type or database it comes from. docs/data.md has the table.

An id is changed only where it is certain to be the same number: 17850, 17850.0 and " 17850 " are "17850". "00123" and
"1e5" may be a number or a name: they stay as they are, and whoever finds them beside "123" and "100000" refuses
(`two_spellings`). A float that cannot hold its number exactly is refused at once.
"""

import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from clients.data.parse import is_null_word, text_or_missing
from clients.errors import DataError

_Where = Callable[[int], str]
"""Says where a row is, for messages."""
_TEXT = pd.StringDtype("pyarrow", na_value=np.nan)
_WHOLE = r"^(0|-?[1-9][0-9]*)\.0+$"
"""A whole number as floats and decimals are written; the first group is its one spelling."""
_OTHER = r"^(?:[+-]?0[0-9]+|\+[0-9]+|-0|[+-]?[0-9]+[.,][0-9]*|[+-]?[1-9](?:[.,][0-9]*)?[eE][+-]?[0-9]{1,2})$"
"""Numbers in other spellings: zeros or a plus in front, a point or comma, an exponent. Long names of hexadecimal digits,
such as 12e45678, are none."""
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


def has_lost_digits(text: str) -> bool:
    """Whether a text was written from a float too great to be sure of its last digits."""
    return bool(_SCALAR_LONG.match(text)) and abs(Decimal(text)) >= _EXACT


def loosely(text: str) -> str:
    """Return what near spellings of an id share: no case, space, punctuation, zeros in front, or empty decimals."""
    folded = re.sub(r"[.,]0+$", "", unicodedata.normalize("NFKC", text).casefold().strip())
    if re.match(_OTHER, folded):
        return _plain(folded)
    return re.sub(r"[\W_]", "", folded).lstrip("0")


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


def numbers(ids: pa.Array) -> pa.Array:
    """Each id's number in its one spelling where it is a number in any spelling, else the id; the same where none is."""
    other = pc.fill_null(pc.match_substring_regex(ids, _OTHER), False)
    if not pc.any(other).as_py():
        return ids
    some = ids.filter(other)
    padded = pc.match_substring_regex(some, r"^0+[1-9][0-9]*$")
    plain = pc.if_else(padded, pc.utf8_ltrim(some, "0"), some)
    rest = pa.array([_plain(text) for text in some.filter(pc.invert(padded)).to_pylist()], some.type)
    return pc.replace_with_mask(ids, other, pc.replace_with_mask(plain, pc.invert(padded), rest))


def two_spellings(ids: pa.Array) -> tuple[str, str] | None:
    """Return two of these distinct ids that may be one number; None where there are none."""
    plain = numbers(ids)
    if plain is ids:
        return None
    counts = plain.value_counts()
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1)).drop_null()
    if not len(twice):
        return None
    first, second = sorted(ids.filter(pc.equal(plain, twice[0])).to_pylist())[:2]
    return first, second


def spelled_otherwise(unknown: pa.Array, known: pa.Array) -> tuple[str, str] | None:
    """Return one of `unknown`, and one of `known` that may be the same number; None where there are none."""
    asked = numbers(unknown)
    found = pc.index_in(asked, value_set=numbers(known))
    hits = pc.indices_nonzero(pc.is_valid(found))
    if not len(hits):
        return None
    at = hits[0].as_py()
    return unknown[at].as_py(), known[found[at].as_py()].as_py()


def refusal(where: str, first: str, second: str) -> DataError:
    """Return the error that names two spellings of what may be one id."""
    return DataError(
        f"{where}: {first!r} and {second!r} may be two spellings of one id, or two ids: that cannot be told apart, so "
        "nothing is read. Export ids in one way everywhere; if these are two, put a letter in front of every id."
    )


def texts(ids: "pd.Series | pd.Index[Any]") -> pa.Array:
    """Ids as arrow has them, in one piece."""
    held = pa.array(ids.array, pa.large_string(), from_pandas=True)
    return held.combine_chunks() if isinstance(held, pa.ChunkedArray) else held


def _plain(text: str) -> str:
    plain = f"{Decimal(text.replace(',', '.')):f}"
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    return "0" if plain == "-0" else plain


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
