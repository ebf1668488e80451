"""Read text, order and number columns value by value; ids are read by `clients.data.ids`.

No value is read in the light of the others: neither a type nor a unit is guessed from the column, because
that would make one shopper's rows depend on another's.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from clients.data.columns import OrderUnit
from clients.errors import DataError

PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_MISSING = frozenset({"", "nan", "null", "none", "<na>", "nat", "\\n"})
_LONGEST = max(map(len, _MISSING))
_EXACT = 2.0**53  # beyond it a float no longer tells neighbouring integers apart
_DIGITS = 15  # so many fit
_ISO = r"^\d{4}-\d{2}-\d{2}"


def text_or_missing(raw: pd.Series) -> pd.Series:
    """Text without surrounding space, dtype `str`; empty text and the usual words for null become missing."""
    text = raw.astype("str").str.strip()
    short = np.flatnonzero(
        text.str.len().le(_LONGEST).to_numpy(dtype=bool)
    )  # no longer one is a word for null
    missing = raw.isna().to_numpy(dtype=bool, copy=True)
    missing[short] |= text.iloc[short].str.lower().isin(_MISSING).to_numpy(dtype=bool)
    return text.mask(missing) if missing.any() else text


def is_null_word(text: str) -> bool:
    """Whether a text without surrounding space is empty or one of the usual words for null."""
    return len(text) <= _LONGEST and text.lower() in _MISSING


def parse_text(raw: pd.Series) -> pd.Series:
    """Describing text, dtype `str`, missing where there is none. A list is joined by " > "."""
    if raw.dtype == object:
        raw = raw.map(lambda v: " > ".join(map(str, v)) if isinstance(v, list | tuple | np.ndarray) else v)
    return text_or_missing(raw)


def parse_codes(raw: pd.Series, column: str, source: str) -> pd.Series:
    """Product codes as text, dtype `str`, missing where there is none; their spelling is `product_key`'s to read.

    A column of numbers is read as its digits, so zeros in front that it lost stay lost. Raises `DataError` when the
    column cannot hold codes (booleans, dates, binary).
    """
    kind = raw.dtype
    held = raw.dropna() if pd.api.types.is_object_dtype(kind) else ()
    odd = next((value for value in held if isinstance(value, bool | bytes)), None)
    if odd is not None or pd.api.types.is_bool_dtype(kind) or pd.api.types.is_datetime64_any_dtype(kind):
        raise DataError(
            f"{source}, column {column!r}: product codes must be text or integers, not "
            f"{kind if odd is None else repr(odd)}. Set columns.code to the column of codes."
        )
    return text_or_missing(raw)


def parse_numbers(raw: pd.Series) -> pd.Series:
    """Numbers as float64: missing → NaN, unreadable or infinite → inf (so that the two stay apart)."""
    if pd.api.types.is_numeric_dtype(raw.dtype) and not pd.api.types.is_complex_dtype(raw.dtype):
        return pd.Series(raw.to_numpy(dtype=np.float64, na_value=np.nan), index=raw.index)
    text = text_or_missing(raw)
    numbers = pd.to_numeric(text, errors="coerce").astype(np.float64)
    return numbers.mask(numbers.isna() & text.notna(), np.inf)


def parse_order(raw: pd.Series, unit: OrderUnit) -> pd.Series:
    """The order column as float64: a position, or unix seconds (to the microsecond); NaN where unreadable.

    Datetimes and ISO 8601 text without an offset are taken as UTC.
    """
    if pd.api.types.is_datetime64_any_dtype(raw.dtype):
        return _unix_seconds(raw)
    if unit != "position" and (whole := _whole_numbers(raw)) is not None:
        return pd.Series(whole / _per_second(unit), index=raw.index)
    if unit == "position" or pd.api.types.is_numeric_dtype(raw.dtype):
        numbers = _finite(raw)
        return numbers.mask(numbers.abs() >= _EXACT) if unit == "position" else numbers / _per_second(unit)
    text = text_or_missing(raw)
    dated = text.str.contains(_ISO, na=False)
    out = pd.Series(np.nan, index=raw.index, dtype=np.float64)
    out[~dated] = _finite(text[~dated]) / _per_second(unit)
    out[dated] = _unix_seconds(text[dated].str.replace(r"(\.\d{6})\d+", r"\1", regex=True))
    return out


def _whole_numbers(raw: pd.Series) -> npt.NDArray[np.float64] | None:
    """Text of which every cell is 1 to 15 digits, as numbers; None for any other column.

    Whether all cells are so decides how they are read, never what is read.
    """
    if not isinstance(raw.dtype, pd.StringDtype) or raw.dtype.storage != "pyarrow" or not len(raw):
        return None
    text = pa.array(raw.array, type=pa.large_string())
    text = text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text
    if text.null_count:
        return None
    starts = np.frombuffer(text.buffers()[1], dtype=np.int64)[text.offset : text.offset + len(text) + 1]
    lengths = np.diff(starts)
    letters = np.frombuffer(text.buffers()[2] or b"", dtype=np.uint8)[starts[0] : starts[-1]]
    if lengths.min() < 1 or lengths.max() > _DIGITS or ((letters < ord("0")) | (letters > ord("9"))).any():
        return None
    numbers: npt.NDArray[np.float64] = pc.cast(text, pa.int64()).to_numpy().astype(np.float64)
    return numbers


def _finite(raw: pd.Series) -> pd.Series:
    return parse_numbers(raw).replace([np.inf, -np.inf], np.nan)


def _per_second(unit: OrderUnit) -> float:
    return PER_SECOND.get(unit, 1.0)


def _unix_seconds(raw: pd.Series) -> pd.Series:
    """Datetimes or ISO text → unix seconds, float64, NaN for NaT."""
    times = pd.to_datetime(raw, format="ISO8601", errors="coerce", utc=True).astype("datetime64[us, UTC]")
    seconds = times.astype("int64").to_numpy() / 1e6
    return pd.Series(np.where(times.isna(), np.nan, seconds), index=raw.index)
