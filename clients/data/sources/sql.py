"""A table or view of a database as a source, read in one pass with a server-side cursor.

The mark is the greatest value of the watermark column so far, of times the greatest that was not in the future: a clock
that ran ahead must not hide what others write. The next read starts `late` before it, so events of the same moment, and
events that were committed or came in late, are read again; those that are there already are not added again.
"""

import math
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import sqlalchemy as sa

from clients.data.read import Wanted
from clients.data.sources.raw import Mark, Raw
from clients.database import database_errors, open_engine
from clients.errors import DataError
from privacy.ledger.location import shown

MARK = "watermark"


class SqlTable:
    """A table that is there. Raises StoreError for a database, DataError for a table that cannot be used."""

    def __init__(self, url: str, table: str) -> None:
        self.engine = open_engine(url, ours=False)
        self.where = f"{shown(self.engine.url)}, table {table}"
        schema, _, name = table.rpartition(".")
        with database_errors(self.engine):
            try:
                self.table = sa.Table(name, sa.MetaData(), schema=schema or None, autoload_with=self.engine)
            except sa.exc.NoSuchTableError:
                raise DataError(f"{self.where}: there is no such table or view. Set table to one.") from None

    @property
    def names(self) -> list[str]:
        """The columns that are there."""
        return [str(column.name) for column in self.table.columns]

    def chunks(
        self, names: list[str], rows: int, where: sa.ColumnElement[bool] | None
    ) -> Iterator[pd.DataFrame]:
        """Yield the columns as objects, `rows` at a time."""
        query = sa.select(*(self._exact(name) for name in names))
        query = query if where is None else query.where(where)
        with database_errors(self.engine), self.engine.connect() as connection:
            streamed = connection.execution_options(stream_results=True, yield_per=rows)
            for part in streamed.execute(query).partitions():
                cells = [[_plain(value) for value in row] for row in part]
                yield pd.DataFrame(cells, columns=names, dtype=object)
        self.engine.dispose()

    def _exact(self, name: str) -> sa.ColumnElement[Any]:
        """A column whose values come as they are stored: of SQLite's decimals SQLAlchemy would make floats first."""
        column = self.table.c[name]
        lossy = self.engine.dialect.name == "sqlite" and isinstance(column.type, sa.Numeric)
        return sa.type_coerce(column, sa.types.NullType()).label(name) if lossy else column

    def require_ids(self, names: list[str]) -> None:
        """Raise DataError for a column of floats of single precision: databases show six digits of them."""
        for name in names:
            kind = self.table.c[name].type
            single = isinstance(kind, sa.REAL) or type(kind).__visit_name__ == "FLOAT"
            if single and self.engine.dialect.name != "sqlite":
                raise DataError(
                    f"{self.where}, column {name!r}: {kind} does not hold ids exactly. Name a view in which it is "
                    "CAST to BIGINT."
                )


def is_there(url: str, table: str) -> bool:
    """Whether a database holds a table; raise StoreError. A SQLite file that is not there is not made."""
    engine = open_engine(url, ours=False)
    if engine.dialect.name == "sqlite" and not Path(engine.url.database or "").exists():
        return False
    with database_errors(engine):
        found = sa.inspect(engine).has_table(table)
    engine.dispose()
    return found


def table_rows(source: SqlTable, wanted: Wanted, rows: int) -> Iterator[Raw]:
    """Yield a whole table: a catalogue."""
    columns = wanted(source.names, source.where)
    source.require_ids([columns["item_id"]])
    names = list(dict.fromkeys(columns.values()))
    for frame in source.chunks(names, rows, None):
        yield Raw(frame, source.where)


def new_rows(
    source: SqlTable,
    wanted: Wanted,
    watermark: str,
    late: float,
    zone: str | None,
    unit: float | None,
    since: Mark,
    rows: int,
    now: float,
) -> Iterator[Raw]:
    """Yield events from `late` before the mark on.

    watermark : a column of times, or of numbers. unit : how many of its numbers are a second; None for a counter,
    of which `late` counts. Times after `now` (unix seconds) do not move the mark. Rows without a watermark are read each
    time, unless the watermark is what is read as the time of the event, without which a row cannot be used.
    """
    used = wanted(source.names, source.where)
    source.require_ids([used["user_id"], used["item_id"]])
    names = list(dict.fromkeys([*used.values(), watermark]))
    if watermark not in source.names:
        raise DataError(
            f"{source.where}: no column {watermark!r} (watermark). There are: {', '.join(source.names)}."
        )
    column = source.table.c[watermark]
    kind = column.type
    timed = isinstance(kind, sa.DateTime)
    if not timed and not isinstance(kind, sa.Numeric | sa.Integer | sa.Float):
        raise DataError(
            f"{source.where}, column {watermark!r}: {kind} cannot be a watermark. Name a column of numbers or "
            "times that grows, such as a creation time."
        )
    if timed and not getattr(kind, "timezone", False) and zone is None:
        raise DataError(
            f"{source.where}, column {watermark!r} holds times without an offset. Say where their clock stands: "
            'timezone = "Europe/Berlin" (or "UTC") in this source.'
        )
    latest = now * (1.0 if timed else unit or math.inf)
    reached: int | float = -math.inf
    start = None
    if MARK in since:
        reached = min(_exact(since[MARK]), latest)
        before = _minus(reached, late * (1.0 if timed else unit or 1.0))
        start = column >= (_time(before, kind, zone) if timed else before)
        if watermark != used["order"]:
            start |= column.is_(None)
    for frame in source.chunks(names, rows, start):
        values = [_number(value, zone) for value in frame[watermark] if value is not None]
        reached = max([reached, *(value for value in values if value <= latest)])
        yield Raw(frame, source.where, {MARK: reached} if reached > -math.inf else {})


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, uuid.UUID) else value


def _time(seconds: float, kind: Any, zone: str | None) -> datetime:
    """The moment as the column holds it."""
    moment = datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds)
    if getattr(kind, "timezone", False):
        return moment
    hour = timedelta(hours=1)  # which a clock may have shown twice
    return (moment - hour).astimezone(ZoneInfo(zone or "UTC")).replace(tzinfo=None)


def _exact(value: str | int | float) -> int | float:
    return value if isinstance(value, int) else float(value)


def _minus(reached: int | float, late: float) -> int | float:
    """So far before; whole numbers exactly, for a float does not tell large ones apart."""
    return reached - math.ceil(late) if isinstance(reached, int) else reached - late


def _number(value: Any, zone: str | None) -> int | float:
    """A number as it is, a time as unix seconds."""
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return int(value)
    if isinstance(value, int):
        return value
    if isinstance(value, float | Decimal):
        return float(value)
    if value.tzinfo is None:
        value = value.replace(tzinfo=ZoneInfo(zone or "UTC"))
    return float(value.timestamp())
