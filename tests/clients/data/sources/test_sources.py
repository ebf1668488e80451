"""Each kind of source gives the same events; times without an offset need a declared clock."""

import gzip
import json
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
import sqlalchemy as sa
from pydantic import TypeAdapter

from clients.data import load_store
from clients.data.ingest import ingest
from clients.data.sources import EventSource, ItemSource
from clients.errors import DataError, StoreError

SOURCE, CATALOGUE = TypeAdapter(EventSource), TypeAdapter(ItemSource)


def took(store, events_of, now, **source):
    ingest(store, {"shop": SOURCE.validate_python(source)}, None, now=now)
    return [row[:3] for row in events_of(store)]


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def engine(request, tmp_path):
    """A database of each kind, with a table of orders and one of products."""
    kind = request.param
    url = f"sqlite:///{tmp_path / 'shop.db'}" if kind == "sqlite" else request.getfixturevalue(kind)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    metadata = sa.MetaData()
    sa.Table(
        "orders",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("customer", sa.String(40)),
        sa.Column("sku", sa.Integer),
        sa.Column("at", sa.DateTime(timezone=kind == "postgresql")),
    )
    sa.Table(
        "products",
        metadata,
        sa.Column("sku", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(40)),
        sa.Column("price", sa.Numeric(8, 2)),
    )
    metadata.drop_all(engine)
    metadata.create_all(engine)
    yield engine
    metadata.drop_all(engine)


def insert(engine, *rows):
    with engine.begin() as connection:
        for number, customer, sku, at in rows:
            moment = datetime.fromtimestamp(at, UTC)
            if engine.dialect.name != "postgresql":
                moment = moment.replace(tzinfo=None)
            query = sa.text("INSERT INTO orders VALUES (:a, :b, :c, :d)")
            connection.execute(query, {"a": number, "b": customer, "c": sku, "d": moment})


@pytest.mark.parametrize("watermark", [None, "id"])
def test_a_table_gives_what_is_new(engine, store, events_of, now, watermark):
    source = {
        "type": "sql",
        "url": engine.url.render_as_string(hide_password=False),
        "table": "orders",
        "columns": {"user": "customer", "item": "sku", "order": "at"},
        "timezone": "UTC",
        "watermark": watermark,
        "late": 3600 if watermark is None else 1,
    }
    base = 1_650_000_000
    insert(engine, (1, "anna", 7, base), (2, "ben", 8, base + 86_400))
    assert len(took(store, events_of, now, **source)) == 2
    insert(engine, (3, "anna", 8, base + 86_400), (4, "cleo", 7, base + 86_400 - 3000))
    assert took(store, events_of, now, **source) == [
        ("anna", "7", float(base)),
        ("anna", "8", float(base + 86_400)),
        ("ben", "8", float(base + 86_400)),
        ("cleo", "7", float(base + 86_400 - 3000)),
    ]
    done = ingest(store, {"shop": SOURCE.validate_python(source)}, None, now=now)
    assert done.reports[0].read <= 3, "only what is new, or so near the watermark that it may be"


def test_an_impossible_time_does_not_hide_what_comes_later(engine, store, events_of, now):
    source = {
        "type": "sql",
        "url": engine.url.render_as_string(hide_password=False),
        "table": "orders",
        "columns": {"user": "customer", "item": "sku", "order": "at"},
        "timezone": "UTC",
    }
    insert(engine, (1, "anna", 7, 1_650_000_000), (2, "ben", 8, 4_000_000_000))
    took(store, events_of, now, **source)
    insert(engine, (3, "cleo", 7, 1_650_000_001))
    assert [row[0] for row in took(store, events_of, now, **source)] == ["anna", "cleo"]


def test_a_catalogue_comes_from_a_table(engine, store, now, tmp_path):
    url = engine.url.render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO products VALUES (7, 'red milk', 1.5), (8, 'blue lamp', NULL)")
        )
    insert(engine, *((i, "anna", 7 + i % 2, 1_650_000_000 + i) for i in range(1, 5)))
    columns = {"user": "customer", "item": "sku", "order": "at"}
    events = SOURCE.validate_python(
        {"type": "sql", "url": url, "table": "orders", "columns": columns, "timezone": "UTC"}
    )
    items = {"type": "sql", "url": url, "table": "products", "columns": {"item": "sku", "title": "name"}}
    ingest(store, {"shop": events}, CATALOGUE.validate_python(items), now=now)
    data = load_store(store, seed=0)
    assert data.catalogue.item_ids == ("7", "8")
    assert data.catalogue.frame["price"].tolist()[0] == 1.5
    assert data.sequences.items.tolist() == [1, 0, 1, 0]


def test_what_a_database_cannot_give_is_told(engine, store, now):
    url = engine.url.render_as_string(hide_password=False)
    columns = {"user": "customer", "item": "sku", "order": "at"}
    for change, told in (
        ({"table": "nothing"}, "there is no such table"),
        ({"columns": columns | {"user": "custmer"}}, "did you mean 'customer'"),
        ({"watermark": "customer"}, "cannot be a watermark"),
        ({"watermark": "seq"}, "There are: id, customer"),
    ):
        source = {
            "type": "sql",
            "url": url,
            "table": "orders",
            "columns": columns,
            "timezone": "UTC",
        } | change
        with pytest.raises(DataError, match=told):
            ingest(store, {"shop": SOURCE.validate_python(source)}, None, now=now)


def test_a_database_that_is_away_changes_nothing(store, now, events_of):
    url = "postgresql+psycopg://shop:hunter2@127.0.0.1:1/none"
    with pytest.raises(StoreError) as caught:
        took(store, events_of, now, type="sql", url=url, table="orders")
    assert "hunter2" not in str(caught.value)
    assert events_of(store) == []


def test_recbole_files(tmp_path, store, events_of, now):
    (tmp_path / "shop.inter").write_text(
        'user_id:token\titem_id:token\ttimestamp:float\nu"1\ta\t5\nu2\tb\t6.5\n', encoding="utf-8"
    )
    assert took(store, events_of, now, type="recbole", path=tmp_path) == [('u"1', "a", 5.0), ("u2", "b", 6.5)]
    (tmp_path / "shop.item").write_text(
        "item_id:token\ttitle:token_seq\na\tred milk\nb\tlamp\n", encoding="utf-8"
    )
    catalogue = CATALOGUE.validate_python({"type": "recbole", "path": tmp_path})
    ingest(store, {}, catalogue, now=now)
    assert load_store(store, seed=0, min_events=1).catalogue.texts() == ["red milk", "lamp"]


def test_amazon_reviews_of_all_years(tmp_path, store, events_of, now):
    old = {"reviewerID": "A1", "asin": "B1", "overall": 5.0, "unixReviewTime": 1_400_000_000}
    new = {"user_id": "A2", "parent_asin": "B2", "asin": "B9", "rating": 3.0, "timestamp": 1_600_000_000_500}
    (tmp_path / "a.jsonl").write_text(json.dumps(old) + "\n\n")
    with gzip.open(tmp_path / "b.json.gz", "wt") as file:
        file.write(json.dumps(new) + "\n" + json.dumps({"text": "no ids"}) + "\n")
    assert took(store, events_of, now, type="amazon", path=tmp_path) == [
        ("A1", "B1", 1_400_000_000.0),
        ("A2", "B2", 1_600_000_000.5),
    ]
    meta = tmp_path / "meta"
    meta.mkdir()
    items = [{"asin": "B1", "title": "Milk", "price": "$1,003.50", "categories": ["Food", "Dairy"]}]
    (meta / "m.jsonl").write_text("\n".join(map(json.dumps, items)))
    ingest(store, {}, CATALOGUE.validate_python({"type": "amazon", "path": meta}), now=now)
    frame = load_store(store, seed=0, min_events=1).catalogue.frame
    assert (frame["price"].tolist(), frame["category"].tolist()) == ([1003.5], ["Food > Dairy"])


@pytest.mark.parametrize("line", ["{'asin': 'B1'}", "[1]", "\udcff"])
def test_a_line_that_is_no_json_is_named(tmp_path, store, events_of, now, line):
    good = json.dumps({"user_id": "a", "asin": "b", "timestamp": 1})
    (tmp_path / "a.jsonl").write_text(f"{good}\n{line}\n", encoding="utf-8", errors="surrogateescape")
    with pytest.raises(DataError, match=r"a\.jsonl, line 2"):
        took(store, events_of, now, type="amazon", path=tmp_path)
    assert events_of(store) == []


def test_times_without_an_offset_need_a_clock(tmp_path, store, events_of, now):
    rows = [
        ("a", "x", "2022-07-01 12:00:00"),
        ("b", "x", "2022-07-01T12:00:00+05:00"),
        ("c", "x", "1656669600"),
    ]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    frame.to_csv(tmp_path / "e.csv", index=False)
    with pytest.raises(DataError, match='timezone = "Europe/Berlin"'):
        took(store, events_of, now, type="files", path=tmp_path / "e.csv")
    noon = datetime(2022, 7, 1, 12, tzinfo=UTC).timestamp()
    assert took(store, events_of, now, type="files", path=tmp_path / "e.csv", timezone="Europe/Berlin") == [
        ("a", "x", noon - 7200),
        ("b", "x", noon - 5 * 3600),
        ("c", "x", 1_656_669_600.0),
    ]


def test_hours_that_a_clock_skips_or_shows_twice(tmp_path, store, events_of, now):
    times = pd.to_datetime(["2022-03-27 02:30", "2022-10-30 02:30"])
    pd.DataFrame({"user_id": ["a", "b"], "item_id": "x", "timestamp": times}).to_parquet(
        tmp_path / "e.parquet"
    )
    found = took(store, events_of, now, type="files", path=tmp_path / "e.parquet", timezone="Europe/Berlin")
    spring = datetime(2022, 3, 27, 1, tzinfo=UTC)
    autumn = datetime(2022, 10, 30, 0, 30, tzinfo=UTC) + timedelta(hours=1)
    assert [row[2] for row in found] == [spring.timestamp(), autumn.timestamp()]
