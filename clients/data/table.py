"""A table in canonical columns, which remembers the file that each row came from."""

from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from clients.data.columns import InteractionColumns, ItemColumns, suggest
from clients.data.parse import parse_ids, parse_numbers, parse_order, text_or_missing
from clients.errors import DataError

OrderKind = Literal["position", "time"]
ORDER_DEFAULTS = ("timestamp", "pos")
TEXT_COLUMNS = ("title", "category", "brand", "description", "text")


@dataclass(frozen=True, eq=False)
class Table:
    """Rows under canonical column names, parsed but not yet judged.

    `frame`: index = row number over all files, from 0; interactions hold `user_id, item_id, order` and,
    where mapped, `basket, event, value`; items hold `item_id` and any of `title, category, brand,
    description, text, price`. `source`: the path or name for messages. `parts`: (file, rows) for each file,
    in reading order. `order_kind`: what `order` is (`None` for items).
    """

    frame: pd.DataFrame
    source: str
    parts: tuple[tuple[str, int], ...]
    order_kind: OrderKind | None = None

    def where(self, row: int) -> str:
        """The file and the data row (1 is the first row below the header) behind index label `row`."""
        for name, rows in self.parts:
            if row < rows:
                return f"{name}, row {row + 1}"
            row -= rows
        return self.source

    def with_frame(self, frame: pd.DataFrame) -> "Table":
        """The same table with other rows."""
        return replace(self, frame=frame)


def wanted_interactions(columns: InteractionColumns, present: list[str], source: str) -> dict[str, str]:
    """Canonical name → column of the file, for the columns to be read. Raises `DataError` when one is
    absent."""
    order = columns.order or next((name for name in ORDER_DEFAULTS if name in present), None)
    if order is None:
        raise DataError(
            f"{source}: no order column. Set columns.order to the column that holds the time or position "
            f"of each event. There are: {', '.join(present)}."
        )
    wanted = {"user_id": columns.user, "item_id": columns.item, "order": order}
    optional = {"basket": columns.basket, "event": columns.event, "value": columns.value}
    wanted |= {name: column for name, column in optional.items() if column is not None}
    _require(wanted, present, source)
    return wanted


def wanted_items(columns: ItemColumns, present: list[str], source: str) -> dict[str, str]:
    """Canonical name → column of the file, for the columns to be read. Raises `DataError` when one is
    absent."""
    wanted = {"item_id": columns.item}
    for name in (*TEXT_COLUMNS, "price"):
        column = getattr(columns, name) or (name if name in present else None)
        if column is not None:
            wanted[name] = column
    _require(wanted, present, source)
    if not any(name in wanted for name in TEXT_COLUMNS):
        raise DataError(
            f"{source}: no column describes the items. Set columns.title (or {', '.join(TEXT_COLUMNS[1:])}) "
            f"to one of: {', '.join(present)}."
        )
    return wanted


def _require(wanted: dict[str, str], present: list[str], source: str) -> None:
    for name, column in wanted.items():
        found = present.count(column)
        if found != 1:
            fault = f"no column {column!r}" if not found else f"{found} columns named {column!r}"
            fix = suggest(column, present) if not found else "Rename all but one."
            raise DataError(f"{source}: {fault} (wanted for {name!r}): {fix}")


def interactions_table(
    frame: pd.DataFrame, columns: InteractionColumns | None = None, source: str = "interactions"
) -> Table:
    """Parse a frame with a platform's own column names into an interactions `Table`. Raises `DataError`."""
    columns = columns or InteractionColumns()
    present = [str(name) for name in frame.columns]
    wanted = wanted_interactions(columns, present, source)
    _require_rows(frame, source)
    raw = frame.reset_index(drop=True)
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
    return Table(
        pd.DataFrame(out), source, ((source, len(raw)),), order_kind="position" if position else "time"
    )


def items_table(frame: pd.DataFrame, columns: ItemColumns | None = None, source: str = "items") -> Table:
    """Parse a frame with a platform's own column names into an items `Table`. Raises `DataError`."""
    present = [str(name) for name in frame.columns]
    wanted = wanted_items(columns or ItemColumns(), present, source)
    _require_rows(frame, source)
    raw = frame.reset_index(drop=True)
    out = {"item_id": parse_ids(raw[wanted["item_id"]], wanted["item_id"], source)}
    for name in TEXT_COLUMNS:
        if name in wanted:
            out[name] = text_or_missing(raw[wanted[name]])
    if "price" in wanted:
        out["price"] = parse_numbers(raw[wanted["price"]])
    return Table(pd.DataFrame(out), source, ((source, len(raw)),))


def _require_rows(frame: pd.DataFrame, source: str) -> None:
    if frame.empty:
        raise DataError(f"{source}: the header is there, but not one row. Export the data again.")
