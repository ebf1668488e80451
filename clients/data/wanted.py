"""Which columns of a file to read, given its header and a mapping."""

from clients.data.columns import InteractionColumns, ItemColumns, suggest
from clients.errors import DataError

ORDER_DEFAULTS = ("timestamp", "pos")
TEXT_COLUMNS = ("title", "category", "brand", "description", "text")
CODE = "product_code"


def wanted_interactions(columns: InteractionColumns, present: list[str], source: str) -> dict[str, str]:
    """Canonical name → the file's column, for what to read. Raises `DataError` when a column is absent."""
    order = columns.order or next((name for name in ORDER_DEFAULTS if name in present), None)
    if order is None:
        raise DataError(
            f"{source}: no order column. Set columns.order to the column that holds the time or position "
            f"of each event. There are: {', '.join(present)}."
        )
    wanted = {"user_id": columns.user, "item_id": columns.item, "order": order}
    if len(set(wanted.values())) < len(wanted):
        raise DataError(
            f"{source}: user, item and order must be three columns, not {columns.user!r}, {columns.item!r} "
            f"and {order!r}. There are: {', '.join(present)}."
        )
    optional = {"basket": columns.basket, "event": columns.event, "value": columns.value}
    wanted |= {name: column for name, column in optional.items() if column is not None}
    _require(wanted, present, source)
    return wanted


def wanted_items(columns: ItemColumns, present: list[str], source: str) -> dict[str, str]:
    """Canonical name → the file's column, for what to read. Raises `DataError` when a column is absent."""
    wanted = {"item_id": columns.item}
    named = {name: getattr(columns, name) for name in (*TEXT_COLUMNS, "price")} | {CODE: columns.code}
    for name, given in named.items():
        column = given or (name if name in present else None)
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
