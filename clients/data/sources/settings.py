"""`[sources.NAME]` and `[catalogue]` of client.toml: where a platform keeps its events and items."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, field_validator

from clients.data.columns import InteractionColumns, ItemColumns, split_columns
from clients.data.parse import PER_SECOND
from clients.data.sources.files import atomic_chunks, json_chunks, table_chunks
from clients.data.sources.raw import Mark, Raw
from clients.data.sources.sql import SqlTable, is_there, new_rows, table_rows
from clients.data.wanted import wanted_interactions, wanted_items

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_AMAZON_EVENTS = {
    "user_id": ("reviewerID", "user_id"),
    "item_id": ("parent_asin", "asin"),
    "timestamp": ("unixReviewTime", "timestamp", "sort_timestamp"),
    "value": ("overall", "rating"),
}
_AMAZON_ITEMS = {
    "item_id": ("parent_asin", "asin"),
    "title": ("title",),
    "brand": ("brand", "store"),
    "category": ("categories", "category", "main_category"),
    "description": ("description", "features"),
    "price": ("price",),
}
_INTERACTIONS = "feedback_interactions"
_MILLISECONDS = 1e11
"""Amazon's times are seconds until 2018 and milliseconds since 2023; 1e11 s is the year 5138, 1e11 ms is 1973."""


class _Source(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: dict[str, str] = {}
    """Which column is what; see docs/data.md."""
    timezone: str | None = None
    """Where the clock of times without an offset stands."""
    weights: dict[str, Weight] = {}
    """Kind of event → its weight, at most 1: one shopper counts at most 1 for an item. Others, and those of weight 0,
    are left out. Empty: all count 1.
    """

    @field_validator("weights")
    @classmethod
    def _at_most_one(cls, value: dict[str, float]) -> dict[str, float]:
        most = max(value.values(), default=0.0)
        if most > 1:
            raise ValueError(f"go up to {most:g}; at most 1 is allowed, so divide them all by {most:g}")
        return value

    @field_validator("timezone")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        try:
            ZoneInfo(value or "UTC")
        except (ValueError, OSError, KeyError):
            raise ValueError("is no time zone; write one such as Europe/Berlin") from None
        return value

    def event_columns(self, name: str) -> InteractionColumns:
        """The mapping of an events source; raise DataError."""
        return split_columns(self.columns, f"{name}.columns")[0]

    def item_columns(self, name: str) -> ItemColumns:
        """The mapping of a catalogue; raise DataError."""
        return split_columns(self.columns, f"{name}.columns")[1]

    def located(self, folder: Path) -> Any:
        """The same with a relative path taken from `folder`."""
        path = getattr(self, "path", None)
        return self if path is None else self.model_copy(update={"path": folder / path})


class FilesSource(_Source):
    """CSV or Parquet, a file or a folder."""

    type: Literal["files"]
    path: Path

    def events(self, columns: InteractionColumns, since: Mark, rows: int, now: float) -> Iterator[Raw]:
        """Rows that are new since a mark, or may be."""
        return table_chunks(self.path, lambda there, at: wanted_interactions(columns, there, at), since, rows)

    def items(self, columns: ItemColumns, rows: int) -> Iterator[Raw]:
        """All rows of a catalogue."""
        return table_chunks(self.path, lambda there, at: wanted_items(columns, there, at), {}, rows)


class RecboleSource(_Source):
    """RecBole's atomic files: `.inter` for events, `.item` for items."""

    type: Literal["recbole"]
    path: Path

    def events(self, columns: InteractionColumns, since: Mark, rows: int, now: float) -> Iterator[Raw]:
        """Rows that are new since a mark, or may be."""
        return atomic_chunks(self.path, ".inter", since, rows)

    def items(self, columns: ItemColumns, rows: int) -> Iterator[Raw]:
        """All rows of a catalogue."""
        return atomic_chunks(self.path, ".item", {}, rows)


class AmazonSource(_Source):
    """JSON lines as Amazon reviews and metadata have them; `columns` is not used."""

    type: Literal["amazon"]
    path: Path

    def event_columns(self, name: str) -> InteractionColumns:
        """Fixed: all of Amazon's formats give these."""
        return InteractionColumns(value="value")

    def events(self, columns: InteractionColumns, since: Mark, rows: int, now: float) -> Iterator[Raw]:
        """Rows that are new since a mark, or may be."""
        for raw in json_chunks(self.path, _AMAZON_EVENTS, since, rows):
            if "timestamp" in raw.frame:
                raw.frame["timestamp"] = raw.frame["timestamp"].map(_in_seconds)
            yield raw

    def items(self, columns: ItemColumns, rows: int) -> Iterator[Raw]:
        """All rows of a catalogue."""
        for raw in json_chunks(self.path, _AMAZON_ITEMS, {}, rows):
            if "price" in raw.frame:
                raw.frame["price"] = raw.frame["price"].map(_without_sign)
            yield raw


class SqlSource(_Source):
    """A table or view of a database."""

    type: Literal["sql"]
    url: str
    """SQLAlchemy's, with user and password where the database asks for them."""
    table: str
    """`table`, or `schema.table`."""
    watermark: str | None = None
    """A column that grows, which says what is new; the order column where left out."""
    late: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 86_400.0
    """How far before the watermark the next read starts: seconds, or counts of a counter."""

    def events(self, columns: InteractionColumns, since: Mark, rows: int, now: float) -> Iterator[Raw]:
        """Rows that are new since a mark, or may be."""
        table = SqlTable(self.url, self.table)
        order = wanted_interactions(columns, table.names, table.where)["order"]
        watermark = self.watermark or order
        unit = PER_SECOND.get(columns.order_unit, 1.0) if watermark == order else None
        return new_rows(
            table,
            lambda there, at: wanted_interactions(columns, there, at),
            watermark,
            self.late,
            self.timezone,
            unit,
            since,
            rows,
            now,
        )

    def items(self, columns: ItemColumns, rows: int) -> Iterator[Raw]:
        """All rows of a catalogue."""
        table = SqlTable(self.url, self.table)
        return table_rows(table, lambda there, at: wanted_items(columns, there, at), rows)


class FeedbackSource(_Source):
    """What shoppers did with what they were shown: the feedback store's interactions."""

    type: Literal["feedback"]
    where: str = ""
    """A SQLite file or URL; the platform's own feedback store where left out."""
    late: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 3_600.0
    """How far before the watermark, the time of recording, the next read starts, in seconds."""

    def event_columns(self, name: str) -> InteractionColumns:
        """Fixed: fedcart made the table."""
        return InteractionColumns(user="shopper", item="item", order="time", event="kind", value="value")

    def events(self, columns: InteractionColumns, since: Mark, rows: int, now: float) -> Iterator[Raw]:
        """Rows that are new since a mark; none before the first feedback made the store."""
        url = self.where if "://" in self.where else f"sqlite:///{self.where}"
        if not since and not is_there(url, _INTERACTIONS):
            return iter(())
        table = SqlTable(url, _INTERACTIONS)
        return new_rows(
            table,
            lambda there, at: wanted_interactions(columns, there, at),
            "recorded",
            self.late,
            None,
            1.0,
            since,
            rows,
            now,
        )


EventSource = Annotated[
    FilesSource | RecboleSource | AmazonSource | SqlSource | FeedbackSource, Field(discriminator="type")
]
ItemSource = Annotated[FilesSource | RecboleSource | AmazonSource | SqlSource, Field(discriminator="type")]


def _in_seconds(value: Any) -> Any:
    return value / 1000 if isinstance(value, int | float) and abs(value) >= _MILLISECONDS else value


def _without_sign(value: Any) -> Any:
    return value.strip().lstrip("$").replace(",", "") if isinstance(value, str) else value
