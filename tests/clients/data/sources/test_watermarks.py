"""What is new, at the edges: equal times, late rows, wrong clocks, zones, changed rows; in databases and files."""

import os
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
import sqlalchemy as sa
from pydantic import TypeAdapter

from clients.data.ingest import ingest
from clients.data.sources import EventSource
from clients.errors import DataError
from tests.clients.data.sources.conftest import NOW

SOURCE = TypeAdapter(EventSource)
BERLIN = ZoneInfo("Europe/Berlin")
HOUR, DAY = 3600.0, 86_400.0


class Orders:
    """A table of a shop: a number that grows, who, what, when by the shop's clock in Berlin, and when written."""

    def __init__(self, url: str, store, content) -> None:
        self.engine = sa.create_engine(url, poolclass=sa.NullPool)
        self._store, self._content = store, content
        exact = sa.DateTime().with_variant(sa.dialects.mysql.DATETIME(fsp=6), "mysql", "mariadb")
        self.table = sa.Table(
            "edges",
            sa.MetaData(),
            sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("customer", sa.String(40)),
            sa.Column("sku", sa.String(40)),
            sa.Column("at", exact),
            sa.Column("seconds", sa.Double().with_variant(sa.Float(), "sqlite")),
            sa.Column("written", exact, nullable=True),
        )
        self.table.metadata.drop_all(self.engine)
        self.table.metadata.create_all(self.engine)

    def sell(self, number: int, customer: str, at: float | datetime, written: datetime | None = None) -> None:
        moment = at if isinstance(at, datetime) else datetime.fromtimestamp(at, BERLIN).replace(tzinfo=None)
        seconds = moment.replace(tzinfo=BERLIN).timestamp() if isinstance(at, datetime) else at
        row = {"id": number, "customer": customer, "sku": f"s{number}", "at": moment, "seconds": seconds}
        with self.engine.begin() as connection:
            connection.execute(sa.insert(self.table), row | {"written": written})

    def change(self, statement: str) -> None:
        with self.engine.begin() as connection:
            connection.exec_driver_sql(statement)

    def took(self, now: float = NOW, *, anew: bool = False, **settings) -> list[str]:
        """Ingest, and return whose events are in the store, once for each event."""
        columns = {"user": "customer", "item": "sku", "order": settings.pop("order", "at")}
        source = {
            "type": "sql",
            "url": self.engine.url.render_as_string(hide_password=False),
            "table": "edges",
        }
        source |= {"columns": columns, "timezone": "Europe/Berlin"} | settings
        self.done = ingest(self._store, {"shop": SOURCE.validate_python(source)}, None, now=now, anew=anew)
        return [row[0] for row in self._content(self._store)]


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def orders(request, tmp_path, store, events_of):
    kind = request.param
    made = Orders(
        f"sqlite:///{tmp_path / 'shop.db'}" if kind == "sqlite" else request.getfixturevalue(kind),
        store,
        events_of,
    )
    yield made
    made.table.metadata.drop_all(made.engine)


@pytest.mark.parametrize("order", ["at", "seconds"])
def test_rows_of_the_very_moment_that_was_reached_are_not_missed(orders, order):
    """Without any overlap, to the microsecond."""
    moment = NOW - DAY + 0.123457
    orders.sell(1, "anna", moment)
    assert orders.took(late=0, order=order) == ["anna"]
    orders.sell(2, "ben", moment)
    orders.sell(3, "cleo", moment + 1e-6)
    assert orders.took(late=0, order=order) == ["anna", "ben", "cleo"]
    assert orders.took(late=0, order=order) == ["anna", "ben", "cleo"]
    again = {
        "seconds": 1,
        "at": 3,
    }  # a clock without offset is read from an hour before: it may show that hour twice
    assert orders.done.reports[0].read == again[order]


def test_late_rows_are_found_within_what_is_allowed(orders):
    orders.sell(1, "anna", NOW - DAY)
    orders.took(late=HOUR)
    orders.sell(2, "ben", NOW - DAY - HOUR)
    orders.sell(3, "cleo", NOW - DAY - 3 * HOUR)
    assert orders.took(late=HOUR) == ["anna", "ben"]
    assert orders.took(late=4 * HOUR) == ["anna", "ben", "cleo"], "the overlap may be widened later"


def test_a_clock_that_ran_ahead_hides_nothing_that_comes_after(orders):
    """Up to a day ahead a row is kept; it must not move the mark past what other machines still write."""
    orders.sell(1, "anna", NOW - HOUR)
    orders.sell(2, "ahead", NOW + 20 * HOUR)
    assert orders.took(late=60) == ["ahead", "anna"]
    orders.sell(3, "ben", NOW + 60)
    assert orders.took(NOW + 120, late=60) == ["ahead", "anna", "ben"]
    orders.sell(4, "cleo", NOW + 180)
    assert orders.took(NOW + 240, late=60) == ["ahead", "anna", "ben", "cleo"]


def test_a_clock_of_this_machine_that_was_ahead_hides_nothing_once_it_is_right(orders):
    orders.sell(1, "anna", NOW + 30 * DAY)
    assert orders.took(NOW + 31 * DAY, late=60) == ["anna"]
    orders.sell(2, "ben", NOW)
    assert orders.took(NOW + 60, late=120) == ["anna", "ben"]


def test_a_counter_needs_no_clock(orders):
    orders.sell(1, "anna", NOW)
    orders.took(watermark="id", late=1)
    orders.sell(2, "ben", NOW - 300 * DAY)
    orders.sell(3, "cleo", NOW + HOUR)
    assert orders.took(watermark="id", late=1) == ["anna", "ben", "cleo"]


def test_a_counter_beyond_what_a_float_tells_apart_misses_nothing(orders):
    """Numbers that hold time and machine have 63 bits; a float has 53."""
    first = 2**62 + 200
    orders.sell(first, "anna", NOW - HOUR)
    orders.took(watermark="id", late=0)
    for number in range(1, 6):
        orders.sell(first + number, "ben", NOW - HOUR + number)
    assert orders.took(watermark="id", late=0) == ["anna", *["ben"] * 5]
    orders.took(watermark="id", late=0)
    assert orders.done.reports[0].read == 1


def test_the_hour_that_is_shown_twice_is_read_twice(orders):
    """By the naive clock the second pass lies before the first."""
    night = datetime(2023, 10, 29, 2, 30)
    orders.sell(1, "first-pass", night)
    orders.took(late=0)
    orders.sell(2, "second-pass", night - timedelta(minutes=20))
    assert orders.took(late=0) == ["first-pass", "second-pass"]
    orders.sell(3, "later", night + timedelta(hours=1))
    assert orders.took(late=0) == ["first-pass", "later", "second-pass"]
    moment = datetime(2023, 10, 29, 1, 30, tzinfo=UTC).timestamp()
    assert [row[2] for row in orders._content(orders._store) if row[0] == "first-pass"] == [moment]


def test_rows_without_a_watermark_are_read_each_time(orders):
    written = datetime(2023, 11, 1)
    orders.sell(1, "anna", NOW - DAY, written)
    orders.took(watermark="written", late=0)
    orders.sell(2, "ben", NOW - 2 * DAY, None)
    orders.sell(3, "cleo", NOW - 2 * DAY, written + timedelta(seconds=1))
    assert orders.took(watermark="written", late=0) == ["anna", "ben", "cleo"]


def test_rows_that_changed_or_went_are_as_the_source_has_them_after_reading_anew(orders):
    for number, customer in enumerate(("anna", "ben", "cleo", "dora")):
        orders.sell(number, customer, NOW - DAY + number)
    orders.took()
    orders._store.erase("dora")
    orders.change("UPDATE edges SET sku = 'other' WHERE customer = 'ben'")
    orders.change("DELETE FROM edges WHERE customer = 'anna'")
    orders.sell(9, "emil", NOW - DAY)
    assert orders.took() == ["anna", "ben", "ben", "cleo", "emil"], "an event is its columns: both are there"
    assert orders.took(anew=True) == ["ben", "cleo", "emil"]
    assert (orders.done.added, orders.done.known, orders.done.removed) == (0, 3, 2)
    assert dict(orders.done.reports[0].dropped) == {"erased": 1}
    assert [row[1] for row in orders._content(orders._store)] == ["other", "s2", "s9"]
    assert orders._store.manifest().added == 6
    orders.change("DELETE FROM edges")
    before = orders._store.manifest()
    with pytest.raises(DataError, match="no event that can be used"):
        orders.took(anew=True)
    assert orders._store.manifest() == before


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_file_that_was_rewritten_under_its_old_size_and_time_is_read_again(
    tmp_path, store, events_of, ending
):
    file = tmp_path / f"events.{ending}"
    source = {"shop": SOURCE.validate_python({"type": "files", "path": file})}

    def write(customer: str) -> None:
        frame = pd.DataFrame({"user_id": [customer], "item_id": ["a"], "timestamp": [5]})
        frame.to_csv(file, index=False) if ending == "csv" else frame.to_parquet(file)

    write("anna")
    before = file.stat()
    assert ingest(store, source, None, now=NOW).added == 1
    write("emil")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    assert ingest(store, source, None, now=NOW).added == 1
    assert [row[0] for row in events_of(store)] == ["anna", "emil"]
    assert ingest(store, source, None, now=NOW, anew=True).removed == 1
    assert [row[0] for row in events_of(store)] == ["emil"]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_events_that_come_in_a_later_file_count_whatever_their_time(tmp_path, store, events_of, ending):
    """Files have no watermark: late rows, equal times and rows of the future only wait for their file."""
    folder = tmp_path / "in"
    folder.mkdir()
    source = {"shop": SOURCE.validate_python({"type": "files", "path": folder, "timezone": "Europe/Berlin"})}
    days = [("2023-10-29 02:30:00", "anna"), ("2023-10-29 02:30:00", "ben"), ("2021-01-01 00:00:00", "cleo")]
    for number, (day, customer) in enumerate(days):
        at = day if ending == "csv" else pd.Timestamp(day)
        frame = pd.DataFrame({"user_id": [customer], "item_id": ["a"], "timestamp": [at]})
        path = folder / f"{number}.{ending}"
        frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
        assert ingest(store, source, None, now=NOW).added == 1
    assert [(row[0], row[2]) for row in events_of(store)] == [
        ("anna", datetime(2023, 10, 29, 1, 30, tzinfo=UTC).timestamp()),
        ("ben", datetime(2023, 10, 29, 1, 30, tzinfo=UTC).timestamp()),
        ("cleo", datetime(2020, 12, 31, 23, tzinfo=UTC).timestamp()),
    ]
