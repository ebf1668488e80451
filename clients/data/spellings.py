"""Spellings of ids that may be one number, or two names: "00123" beside "123". Found, and refused with both named."""

import re
import unicodedata
from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from clients.errors import DataError

_OTHER = r"^(?:[+-]?0[0-9]+|\+[0-9]+|-0|[+-]?[0-9]+[.,][0-9]*|[+-]?[1-9](?:[.,][0-9]*)?[eE][+-]?[0-9]{1,2})$"
"""Numbers in other spellings: zeros or a plus in front, a point or comma, an exponent. Long names of hexadecimal digits,
such as 12e45678, are none."""


def texts(ids: "pd.Series | pd.Index[Any]") -> pa.Array:
    """Ids as arrow has them, in one piece."""
    held = pa.array(ids.array, pa.large_string(), from_pandas=True)
    return held.combine_chunks() if isinstance(held, pa.ChunkedArray) else held


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


class Listed:
    """Distinct ids of a catalogue, against which items of other tables are held."""

    def __init__(self, ids: pa.Array) -> None:
        self._ids, self._numbers = ids, numbers(ids)
        elsewhere = pc.fill_null(pc.not_equal(self._numbers, ids), False)
        self._named_otherwise = self._numbers.filter(elsewhere)

    def otherwise(self, items: pa.Array) -> tuple[str, str] | None:
        """Return one of distinct items that is not listed, and a listed id that may be its number; None without such."""
        odd = pc.match_substring_regex(items, _OTHER)
        some = items.filter(pc.or_(odd, pc.is_in(items, value_set=self._named_otherwise)))
        if not len(some):  # as a rule; arrow would hash the whole catalogue for nothing
            return None
        some = some.filter(pc.invert(pc.is_in(some, value_set=self._ids)))
        found = pc.index_in(numbers(some), value_set=self._numbers)
        hits = pc.indices_nonzero(pc.is_valid(found))
        if not len(hits):
            return None
        at = hits[0].as_py()
        return some[at].as_py(), self._ids[found[at].as_py()].as_py()


def refusal(where: str, first: str, second: str) -> DataError:
    """Return the error that names two spellings of what may be one id."""
    return DataError(
        f"{where}: {first!r} and {second!r} may be two spellings of one id, or two ids: that cannot be told apart, so "
        "nothing is read. Export ids in one way everywhere; if these are two, put a letter in front of every id."
    )


def loosely(text: str) -> str:
    """Return what near spellings of an id share: no case, space, punctuation, zeros in front, or empty decimals."""
    folded = re.sub(r"[.,]0+$", "", unicodedata.normalize("NFKC", text).casefold().strip())
    if re.match(_OTHER, folded) or re.match(r"^-?[0-9]+$", folded):
        return _plain(folded)
    return re.sub(r"[\W_]", "", folded).lstrip("0")


def _plain(text: str) -> str:
    plain = f"{Decimal(text.replace(',', '.')):f}"
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    return "0" if plain == "-0" else plain
