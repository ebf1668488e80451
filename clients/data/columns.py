"""Which column of a platform's files plays which part. Names only; no data is read here."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from clients.errors import DataError

OrderUnit = Literal["auto", "position", "s", "ms", "us", "ns"]
"""How to read the order column: `position` is an explicit rank; the others are the unit of numeric unix times
(ISO datetimes need no unit); `auto` is `position` for a column named `pos` and `s` for any other."""


def suggest(name: str, known: Iterable[str]) -> str:
    """The part of a message that names what exists, and what `name` was probably meant to be."""
    names = [str(k) for k in known]
    near = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=1, cutoff=0.5)
    meant = next((n for n in names if near and n.lower() == near[0]), None)
    return (f"did you mean {meant!r}? " if meant else "") + f"There are: {', '.join(names) or '(none)'}."


class _Mapping(BaseModel):
    """What both mappings share: frozen, non-empty names, unknown keys refused with a suggestion."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_min_length=1, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        for key in data if isinstance(data, Mapping) else ():
            if key not in cls.model_fields:
                raise ValueError(f"unknown key {key!r}: {suggest(str(key), cls.model_fields)}")
        return data


class InteractionColumns(_Mapping):
    """Columns of the interactions file. `order=None` takes `timestamp`, else `pos`, whichever is there.

    `basket`, `event` and `value` are used only when they are named here.
    """

    user: str = "user_id"
    item: str = "item_id"
    order: str | None = None
    order_unit: OrderUnit = "auto"
    basket: str | None = None
    event: str | None = None
    value: str | None = None


class ItemColumns(_Mapping):
    """Columns of the items file. `None` takes the column of the canonical name where it is present.

    At least one of `title`, `category`, `brand`, `description` and `text` must be there. `code` is the product code by
    which other shops know the item (`shared_model.product_key`); its canonical name is `product_code`.
    """

    item: str = "item_id"
    title: str | None = None
    category: str | None = None
    brand: str | None = None
    price: str | None = None
    description: str | None = None
    text: str | None = None
    code: str | None = None


def split_columns(
    flat: Mapping[str, Any] | None, where: str = "columns"
) -> tuple[InteractionColumns, ItemColumns]:
    """Split one flat `columns = {user=…, item=…, order=…, title=…}` table into the two mappings.

    `item` serves both files; `catalogue_item` names the items file's own id column where it differs.
    `where` is how the message calls the table. Raises `DataError` for unknown keys and values that are no
    names.
    """
    flat = dict(flat or {})
    events, items = InteractionColumns.model_fields, ItemColumns.model_fields
    for key in flat:
        if key not in events and key not in items and key != "catalogue_item":
            known = [*dict.fromkeys([*events, *items]), "catalogue_item"]
            raise DataError(f"{where}: unknown key {key!r}: {suggest(str(key), known)}")
    for_items = {k: v for k, v in flat.items() if k in items}
    if "catalogue_item" in flat:
        for_items["item"] = flat["catalogue_item"]
    try:
        interactions = InteractionColumns.model_validate({k: v for k, v in flat.items() if k in events})
        return interactions, ItemColumns.model_validate(for_items)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"{where}.{key}: {first['msg']}, not {first['input']!r}. Give the column's name as text."
        ) from None
