"""What every source gives: rows as they are stored there, and a mark of how far it was read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from clients.errors import DataError

Mark = dict[str, str | int | float]
"""How far a source was read, as plain values for JSON. Empty: nothing was read yet."""

_NAIVE = r"^\d{4}-\d{2}-\d{2}(?:[T ][\d:.,]+)?$"


@dataclass(frozen=True)
class Raw:
    """Rows under the source's own column names, `where` they are from, and what `mark` changes once they count."""

    frame: pd.DataFrame
    where: str
    mark: Mapping[str, str | int | float] = field(default_factory=dict)


def localised(raw: pd.Series, zone: str | None, where: str) -> pd.Series:
    """Give times without an offset the declared zone; numbers and times with an offset stay as they are.

    An hour that a clock shows twice is read as the later one, one that it skips as the first moment after.
    Value by value, as all parsing. Raises `DataError` where a time has no offset and no zone is declared.
    """
    if raw.dtype == object:
        first = next((value for value in raw if value is not None), None)
        if isinstance(first, date):  # a datetime is one, too
            raw = pd.to_datetime(raw, errors="coerce")
    if pd.api.types.is_datetime64_any_dtype(raw.dtype):
        return raw if isinstance(raw.dtype, pd.DatetimeTZDtype) else _in_zone(raw, zone, where)
    if pd.api.types.is_numeric_dtype(raw.dtype):
        return raw
    text = raw.astype("str").str.strip()
    naive = text.str.match(_NAIVE).fillna(False).to_numpy(dtype=bool)
    if not naive.any():
        return raw
    times = pd.to_datetime(text[naive], format="ISO8601", errors="coerce")
    out = text.astype(object)
    shown = _in_zone(times, zone, where).dt.tz_convert("UTC").dt.strftime("%Y-%m-%dT%H:%M:%S.%f+00:00")
    out[naive] = shown.where(times.notna(), text[naive])
    return out


def _in_zone(times: pd.Series, zone: str | None, where: str) -> pd.Series:
    if zone is None:
        if times.notna().any():
            raise DataError(
                f"{where}: column {times.name!r} holds times without an offset, such as {times.dropna().iloc[0]}. "
                'Say where their clock stands: timezone = "Europe/Berlin" (or "UTC") in this source.'
            )
        return times.dt.tz_localize("UTC")
    later = np.zeros(len(times), dtype=bool)
    return times.dt.tz_localize(ZoneInfo(zone), ambiguous=later, nonexistent="shift_forward")
