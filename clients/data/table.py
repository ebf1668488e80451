"""A table in canonical columns, which remembers the file that each row came from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from clients.data.columns import InteractionColumns, ItemColumns
from clients.data.ids import parse_ids
from clients.data.parse import parse_codes, parse_numbers, parse_order, parse_text, text_or_missing
from clients.data.wanted import CODE, TEXT_COLUMNS, wanted_interactions, wanted_items
from clients.errors import DataError, NoShopperError

OrderKind = Literal["position", "time"]


@dataclass(frozen=True, eq=False)
class Table:
    """Rows under canonical column names, parsed but not yet judged.

    `frame`: index = row number over all files, from 0; interactions hold `user_id, item_id, order` and,
    where mapped, `basket, event, value`; items hold `item_id` and any of `title, category, brand,
    description, text, price, product_code`. `source`: the path or name for messages. `parts`: (file, rows) for each file,
    in reading order. `columns`: canonical name → the file's column. `unread`: canonical name → what the file
    holds, by row, where no finite number or time could be made of it. `order_kind`: what `order` is (`None`
    for items).
    """

    frame: pd.DataFrame
    source: str
    parts: tuple[tuple[str, int], ...]
    columns: Mapping[str, str]
    unread: Mapping[str, pd.Series]
    order_kind: OrderKind | None

    def where(self, row: int) -> str:
        """The file and the data row (1 is the first row below the header) behind index label `row`."""
        for name, rows in self.parts:
            if row < rows:
                return f"{name}, row {row + 1}"
            row -= rows
        return self.source

    def cell(self, row: int, name: str) -> str:
        """Where a cell is and what the file holds there, for messages that stay on the platform."""
        unread = self.unread.get(name)
        value: Any = unread[row] if unread is not None and row in unread.index else self.frame.at[row, name]
        shown = "missing" if pd.isna(value) else repr(value)
        return f"{self.where(row)}, column {self.columns[name]!r}: {shown}"

    def with_frame(self, frame: pd.DataFrame) -> "Table":
        """The same table with other rows."""
        return replace(self, frame=frame)


def interactions_table(
    frame: pd.DataFrame, columns: InteractionColumns | None = None, source: str = "interactions"
) -> Table:
    """Parse a frame with a platform's own column names into an interactions `Table`.

    Raises `DataError`, and `NoShopperError` for a frame without a row.
    """
    columns = columns or InteractionColumns()
    raw = _plain(frame)
    wanted = wanted_interactions(columns, list(raw.columns), source)
    _require_rows(raw, source, NoShopperError)
    position = columns.order_unit == "position" or (
        columns.order_unit == "auto" and wanted["order"].lower() == "pos"
    )
    out = {name: parse_ids(raw[wanted[name]], wanted[name], source) for name in ("user_id", "item_id")}
    out["order"] = parse_order(raw[wanted["order"]], "position" if position else columns.order_unit)
    if "basket" in wanted:
        out["basket"] = parse_ids(raw[wanted["basket"]], wanted["basket"], source)
    if "event" in wanted:
        out["event"] = text_or_missing(raw[wanted["event"]])
    if "value" in wanted:
        out["value"] = parse_numbers(raw[wanted["value"]])
    return _table(raw, out, wanted, source, "position" if position else "time")


def items_table(frame: pd.DataFrame, columns: ItemColumns | None = None, source: str = "items") -> Table:
    """Parse a frame with a platform's own column names into an items `Table`. Raises `DataError`."""
    raw = _plain(frame)
    wanted = wanted_items(columns or ItemColumns(), list(raw.columns), source)
    _require_rows(raw, source, DataError)
    out = {"item_id": parse_ids(raw[wanted["item_id"]], wanted["item_id"], source)}
    for name in TEXT_COLUMNS:
        if name in wanted:
            out[name] = parse_text(raw[wanted[name]])
    if CODE in wanted:
        out[CODE] = parse_codes(raw[wanted[CODE]], wanted[CODE], source)
    if "price" in wanted:
        out["price"] = parse_numbers(raw[wanted["price"]])
    return _table(raw, out, wanted, source, None)


def stack(tables: list[Table], source: str) -> Table:
    """One table from the tables of several files, which share their mapping."""
    shifts = np.cumsum([0] + [len(table.frame) for table in tables[:-1]])
    unread = {}
    for name in tables[0].unread:
        cells = [table.unread[name] for table in tables]
        moved = [held.set_axis(held.index + by) for held, by in zip(cells, shifts, strict=True)]
        unread[name] = pd.concat(moved)
    frame = pd.concat([table.frame for table in tables], ignore_index=True)
    parts = tuple(part for table in tables for part in table.parts)
    return replace(tables[0], frame=frame, source=source, parts=parts, unread=unread)


def _table(
    raw: pd.DataFrame, out: dict[str, pd.Series], wanted: dict[str, str], source: str, kind: OrderKind | None
) -> Table:
    unread = {}
    for name in [key for key in out if key in ("order", "value", "price")]:
        unread[name] = raw.loc[~np.isfinite(out[name]), wanted[name]].astype(object)
    return Table(pd.DataFrame(out), source, ((source, len(raw)),), wanted, unread, kind)


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with text as column names and rows numbered from 0."""
    return frame.set_axis([str(name) for name in frame.columns], axis=1).reset_index(drop=True)


def _require_rows(frame: pd.DataFrame, source: str, error: type[DataError]) -> None:
    if not len(frame):
        raise error(f"{source}: the header is there, but not one row. Export the data again.")
