"""A whole number has one spelling, whatever file, type or database it comes from; two that may be one are refused."""

import json
import sqlite3
import tempfile
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from clients.data import interactions_table, load_platform
from clients.data.ids import one_spelling, parse_ids
from clients.data.images import read_images
from clients.data.ingest import ingest
from clients.data.load import load_store
from clients.data.sources import EventSource, ItemSource
from clients.data.spellings import Listed, loosely, numbers, two_spellings
from clients.data.store import open_store
from clients.errors import DataError
from clients.feedback import Interaction, Kind
from clients.serving.asks import Who
from clients.serving.history import Shoppers

CASES = Path(__file__).parents[4] / "shared" / "cases"
SOURCE, CATALOGUE = TypeAdapter(EventSource), TypeAdapter(ItemSource)
NOW, FIRST = 1_700_000_000.0, 1_600_000_000
HEAD = "user_id,item_id,timestamp\n"
ITEMS = pd.DataFrame({"item_id": [7, 8], "title": ["red milk", "lamp"]})
EXACT = 2**53 - 1

CERTAIN = ["17850", "17850.0", "17850.00", " 17850 ", "17850.0\t"]
OTHERS = [
    "00123",
    "1e5",
    "+5",
    "-0",
    "17850.5",
    "12,0",
    "A17850.0",
    "1.0.0",
    "12e45678",
    "0x10",
    "١٢٣",
    "-",
    ".",
]
ONE_NUMBER = [
    *(("00123", "123"), ("0123", "00123"), ("1e5", "100000"), ("1E+05", "100000"), ("1.785E4", "17850")),
    *(("+5", "5"), ("17850.", "17850"), ("17850,0", "17850"), ("2.50", "2.5"), ("-0", "0"), ("-07", "-7")),
    ("1.785000000000000000e+04", "17850"),
]
TWO_NUMBERS = [
    ("00123", "124"),
    ("1e5", "10000"),
    ("12e45678", "12"),
    ("2.5", "25"),
    ("-5", "5"),
    ("A1", "a1"),
]


@pytest.mark.parametrize("text", CERTAIN)
def test_certain_spellings_are_one_everywhere(text):
    assert one_spelling(text) == "17850"
    assert parse_ids(pd.Series([text]), "c", "f").tolist() == ["17850"]
    assert Who(shopper=text, session=text) == Who(shopper="17850", session="17850")
    assert Interaction("e", text, text, Kind.CLICK, 1.0, session=text).shopper == "17850"


@pytest.mark.parametrize("text", OTHERS)
def test_any_other_text_stays_as_it_is(text):
    assert one_spelling(text) == text
    assert parse_ids(pd.Series([text]), "c", "f").tolist() == [text]


@pytest.mark.parametrize("text", ["", " ", "NaN", "null", "None", "<NA>", "\\N"])
def test_no_id_is_nobody(text):
    assert one_spelling(text) == ""
    assert parse_ids(pd.Series([text]), "c", "f").isna().all()


@given(st.text(max_size=12) | st.sampled_from([*CERTAIN, *OTHERS]) | st.floats().map(str))
def test_one_id_and_a_column_of_ids_are_spelled_alike(text):
    """Erasing, serving and feedback see single ids, reading whole columns: they must agree."""
    one = one_spelling(text)
    try:
        column = parse_ids(pd.Series([text], dtype="str"), "c", "f")
    except DataError:
        assert one == text.strip()
        return
    assert (one or None) == (None if column.isna()[0] else column[0])
    assert one_spelling(one) == one, "the one spelling is its own"


@pytest.mark.parametrize(("first", "second"), ONE_NUMBER)
def test_spellings_of_one_number_are_found(first, second):
    assert set(two_spellings(pa.array(["x", first, None, second, "y"], pa.large_string())) or ()) == {
        first,
        second,
    }
    assert loosely(first) == loosely(second)


@pytest.mark.parametrize(("first", "second"), TWO_NUMBERS)
def test_different_numbers_and_names_are_not(first, second):
    assert two_spellings(pa.array([first, second], pa.large_string())) is None


@given(st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=5, unique=True))
def test_the_number_of_any_spelling_is_its_plain_one(values):
    spelled = [f"{'-' if v < 0 else ''}00{abs(v)}" for v in values]
    assert numbers(pa.array(spelled, pa.large_string())).to_pylist() == [str(v) for v in values]


@given(
    st.lists(st.sampled_from(["7", "007", "7,0", "8", "08", "x"]), unique=True),
    st.lists(st.sampled_from(["7", "007", "7,0", "8", "x"]), unique=True),
)
def test_an_item_is_found_that_is_listed_in_another_spelling_only(items, listed):
    number = {"7": 7, "007": 7, "7,0": 7, "8": 8, "08": 8}
    found = Listed(pa.array(listed, pa.large_string())).otherwise(pa.array(items, pa.large_string()))
    there = {number.get(name) for name in listed} - {None}
    wanted = [name for name in items if name not in listed and number.get(name) in there]
    assert (found is None) == (not wanted)
    if found is not None:
        assert (found[0] in wanted, number[found[0]]) == (True, number[found[1]])


# Floats that cannot be sure of their digits, and what is no id at all.


@pytest.mark.parametrize(
    "ids",
    [
        [17850.5],
        [float(2**53)],
        [float("inf")],
        np.array([2**24], dtype=np.float32),
        np.array([2049.0], dtype=np.float16),
        pd.array([2.0**53, None], dtype="Float64"),
        [Decimal("1.5")],
        [Decimal("Infinity")],
        [Decimal("1e4000")],
        [True],
        [5, True],
        ["9007199254740992.0"],
        ["1.2345678901234568e+19"],
        pd.Categorical([1.5]),
        [pd.Timedelta(1)],
    ],
    ids=str,
)
def test_values_that_are_not_certain_are_refused_with_their_place(ids):
    column = pd.Series(ids, dtype=getattr(ids, "dtype", None))
    with pytest.raises(DataError, match=r"f.csv.*column 'c'"):
        parse_ids(column, "c", "f.csv")


def test_the_row_of_a_bad_id_is_named():
    for column in (pd.Series(["1", "2", "1e17", "9007199254740993.0"]), pd.Series([1, 2, 3, 1.5])):
        with pytest.raises(DataError, match=r"f.csv, row 4, column 'c'"):
            parse_ids(column, "c", "f.csv")
    with pytest.raises(DataError, match=r"f.csv, row 3, column 'c': 2.5"):
        parse_ids(pd.Series(pd.Categorical([1.0, 1.0, 2.5])), "c", "f.csv")


def test_decimals_and_large_integers_are_exact():
    exact = [Decimal("9007199254740993.00"), 2**60 + 1, 2**64 + 1, 17850.0, "17850.0"]
    assert parse_ids(pd.Series(exact, dtype=object), "c", "f").tolist() == [
        "9007199254740993",
        str(2**60 + 1),
        str(2**64 + 1),
        "17850",
        "17850",
    ]


# The same shoppers from every file, type and database.

IDS = st.lists(st.integers(0, EXACT), min_size=1, max_size=6, unique=True)
DTYPES = {
    "int64": lambda ids: pd.Series(ids, dtype="int64"),
    "uint64": lambda ids: pd.Series(ids, dtype="uint64"),
    "float64": lambda ids: pd.Series(ids, dtype="float64"),
    "Int64 with a missing one": lambda ids: pd.Series([*ids, None], dtype="Int64"),
    "float64 with a missing one": lambda ids: pd.Series([*ids, None], dtype="float64"),
    "Float64": lambda ids: pd.Series(ids, dtype="Float64"),
    "text": lambda ids: pd.Series([str(i) for i in ids], dtype="str"),
    "text of floats": lambda ids: pd.Series(ids, dtype="float64").map(lambda v: f"{v:.1f}"),
    "python text": lambda ids: pd.Series([f"{i}.00" for i in ids], dtype="string[python]"),
    "objects": lambda ids: pd.Series([(i, float(i), str(i), Decimal(i))[i % 4] for i in ids], dtype=object),
    "integer objects": lambda ids: pd.Series(list(ids), dtype=object),
    "categories": lambda ids: pd.Series(pd.Categorical(list(ids))),
    "categories of text": lambda ids: pd.Series(pd.Categorical([f"{i}.0" for i in ids])),
    "arrow integers": lambda ids: pd.Series(ids, dtype=pd.ArrowDtype(pa.uint64())),
    "arrow floats": lambda ids: pd.Series(ids, dtype=pd.ArrowDtype(pa.float64())),
    "arrow decimals": lambda ids: pd.Series(
        [Decimal(i) for i in ids], dtype=pd.ArrowDtype(pa.decimal128(20, 2))
    ),
    "arrow text": lambda ids: pd.Series([f"{i}.0" for i in ids], dtype=pd.ArrowDtype(pa.string())),
}
KINDS = {
    "int64": pa.int64(),
    "uint64": pa.uint64(),
    "double": pa.float64(),
    "decimal": pa.decimal128(20, 0),
    "decimal with places": pa.decimal128(22, 4),
    "text": pa.string(),
    "large text": pa.large_string(),
    "dictionary of text": pa.dictionary(pa.int32(), pa.string()),
    "dictionary of integers": pa.dictionary(pa.int32(), pa.int64()),
}


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=15, deadline=None)
@given(ids=IDS)
def test_every_dtype_gives_the_same_shoppers(dtype, ids):
    users = DTYPES[dtype](ids)
    frame = pd.DataFrame({"user_id": users, "item_id": 7, "timestamp": range(len(users))})
    assert interactions_table(frame).frame["user_id"].dropna().tolist() == [str(i) for i in ids]


def from_csv(folder, ids, draw):
    rows = [
        f"{draw(st.sampled_from(['{}', '{}.0', '{}.00', ' {} ']), label='spelling').format(i)},7.0,{FIRST}"
        for i in ids
    ]
    (folder / "e.csv").write_text(HEAD + "\n".join(rows) + "\n")
    return {"type": "files", "path": folder / "e.csv"}


def from_parquet(folder, ids, draw):
    kind = KINDS[draw(st.sampled_from(sorted(KINDS)), label="kind")]
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    text = pa.types.is_string(plain) or pa.types.is_large_string(plain)
    cells = (
        [f"{i}.0" for i in ids] if text else [Decimal(i) for i in ids] if pa.types.is_decimal(plain) else ids
    )
    users = pa.array(cells, plain)
    users = users.dictionary_encode() if pa.types.is_dictionary(kind) else users
    pq.write_table(
        pa.table({"user_id": users, "item_id": [7.0] * len(ids), "timestamp": [FIRST] * len(ids)}),
        folder / "e.parquet",
    )
    return {"type": "files", "path": folder / "e.parquet"}


def from_recbole(folder, ids, draw):
    rows = [f"{i}.0\t7\t{FIRST}" for i in ids]
    (folder / "e.inter").write_text(
        "user_id:token\titem_id:token\ttimestamp:float\n" + "\n".join(rows) + "\n"
    )
    return {"type": "recbole", "path": folder / "e.inter"}


def from_json(folder, ids, draw):
    spell = draw(st.sampled_from([int, float, str, "{}.0".format]), label="spelling")
    rows = [{"user_id": spell(i), "parent_asin": 7.0, "timestamp": FIRST} for i in ids]
    (folder / "e.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return {"type": "amazon", "path": folder / "e.jsonl"}


def from_sqlite(folder, ids, draw):
    kind = draw(
        st.sampled_from(["INTEGER", "REAL", "TEXT", "NUMERIC", "DECIMAL(20,2)", "BLOB"]), label="kind"
    )
    cell = draw(st.sampled_from([int, float, str]), label="cell")
    with sqlite3.connect(folder / "e.db") as database:
        database.execute(f"CREATE TABLE orders (user_id {kind}, item_id INTEGER, timestamp INTEGER)")
        database.executemany("INSERT INTO orders VALUES (?, 7, ?)", [(cell(i), FIRST) for i in ids])
    return {"type": "sql", "url": f"sqlite:///{folder / 'e.db'}", "table": "orders"}


def shoppers_of(store):
    return sorted(store.shoppers())


@settings(max_examples=40, deadline=None)
@given(ids=IDS, data=st.data())
def test_every_source_gives_the_same_shoppers_and_items_once(ids, data):
    """Two sources of other kinds hold the same shoppers' events of the same moment: each event is there once."""
    kinds = [from_csv, from_parquet, from_recbole, from_json, from_sqlite]
    with tempfile.TemporaryDirectory() as made:
        sources = {}
        for number, kind in enumerate(data.draw(st.permutations(kinds), label="sources")[:2]):
            folder = Path(made) / str(number)
            folder.mkdir()
            sources[str(number)] = SOURCE.validate_python(kind(folder, ids, data.draw))
        store = open_store(Path(made) / "store", shards=2)
        assert ingest(store, sources, None, now=NOW).added == len(ids)
        assert shoppers_of(store) == sorted(map(str, ids))
        assert {item for table in store.tables() for item in table.frame["item_id"]} == {"7"}
        gone = data.draw(st.sampled_from(ids), label="erased")
        assert store.erase(data.draw(st.sampled_from(["{}", "{}.0", "{}.00", " {}"])).format(gone)) == 1
        assert str(gone) not in shoppers_of(store)
        report = ingest(store, sources, None, now=NOW, full=True).reports
        assert [dict(one.dropped) for one in report] == [{"erased": 1}] * 2


SERVERS = {
    "postgresql": ["BIGINT", "NUMERIC(20)", "NUMERIC(22, 2)", "DOUBLE PRECISION", "VARCHAR(40)", "CHAR(40)"],
    "mariadb": [
        "BIGINT",
        "BIGINT UNSIGNED ZEROFILL",
        "DECIMAL(20)",
        "DECIMAL(22, 2)",
        "DOUBLE",
        "VARCHAR(40)",
    ],
}


@pytest.mark.parametrize(("server", "kind"), [(s, k) for s, kinds in SERVERS.items() for k in kinds])
def test_every_database_type_gives_the_same_shoppers(request, tmp_path, server, kind):
    engine = sa.create_engine(request.getfixturevalue(server), poolclass=sa.NullPool)
    ids = [0, 7, 17850, 123456789, EXACT]
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS spellings")
        connection.exec_driver_sql(
            f"CREATE TABLE spellings (user_id {kind}, item_id {kind}, timestamp BIGINT)"
        )
        for number in ids:
            cell = f"'{number}.0'" if "CHAR" in kind else number
            connection.exec_driver_sql(f"INSERT INTO spellings VALUES ({cell}, {cell}, {FIRST})")
    store = open_store(tmp_path / "store", shards=2)
    url = engine.url.render_as_string(hide_password=False)
    ingest(
        store,
        {"shop": SOURCE.validate_python({"type": "sql", "url": url, "table": "spellings"})},
        None,
        now=NOW,
    )
    assert shoppers_of(store) == sorted(map(str, ids))
    assert store.erase("17850.0") == 1


@pytest.mark.parametrize(("server", "kind"), [("postgresql", "REAL"), ("mariadb", "FLOAT")])
def test_floats_of_single_precision_in_a_database_are_no_ids(request, tmp_path, server, kind):
    """MariaDB shows 1234567 as 1234570: two shoppers would be one."""
    engine = sa.create_engine(request.getfixturevalue(server), poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS spellings")
        connection.exec_driver_sql(
            f"CREATE TABLE spellings (user_id {kind}, item_id BIGINT, timestamp BIGINT)"
        )
    url = engine.url.render_as_string(hide_password=False)
    source = {"shop": SOURCE.validate_python({"type": "sql", "url": url, "table": "spellings"})}
    with pytest.raises(DataError, match=r"column 'user_id'.*CAST to BIGINT"):
        ingest(open_store(tmp_path / "store"), source, None, now=NOW)


def test_decimals_of_sqlite_do_not_pass_through_a_float(tmp_path):
    with sqlite3.connect(tmp_path / "e.db") as database:
        database.execute("CREATE TABLE orders (user_id DECIMAL(20), item_id INTEGER, timestamp INTEGER)")
        database.executemany("INSERT INTO orders VALUES (?, 7, 5)", [(2**53,), (2**53 + 1,)])
    store = open_store(tmp_path / "store")
    source = {"type": "sql", "url": f"sqlite:///{tmp_path / 'e.db'}", "table": "orders"}
    ingest(store, {"shop": SOURCE.validate_python(source)}, None, now=NOW)
    assert shoppers_of(store) == [str(2**53), str(2**53 + 1)]


# Two exports of one shop.


def two_exports(folder):
    """Every shopper has events in a file of floats, and in one of integers; some rows have no shopper."""
    folder.mkdir()
    old = [f"{u}.0,{7 + u % 2},{FIRST + u}" for u in range(17000, 17012)]
    new = [f"{u},{7 + (u + e) % 2}.0,{FIRST + 9 * e + u}" for u in range(17000, 17012) for e in (1, 2)]
    (folder / "2010.csv").write_text(HEAD + "\n".join([*old, f",7,{FIRST}"]) + "\n")
    (folder / "2011.csv").write_text(HEAD + "\n".join([*new, f" ,8,{FIRST}"]) + "\n")
    return folder


def test_one_shopper_in_two_exports_is_one(tmp_path):
    data = load_platform(two_exports(tmp_path / "e"), ITEMS, seed=0)
    assert data.sequences.user_ids == tuple(map(str, range(17000, 17012)))
    assert dict(data.events_report.dropped) == {"missing_user_id": 2}
    store = open_store(tmp_path / "store")
    source = {"shop": SOURCE.validate_python({"type": "files", "path": tmp_path / "e"})}
    ingest(store, source, None, now=NOW)
    assert load_store(store, ITEMS, seed=0).sequences.fingerprint() == data.sequences.fingerprint()
    assert Shoppers.of(data.sequences).find("17003.0") == 3


@pytest.mark.skipif(not CASES.exists(), reason="the shared cases are not here")
def test_the_case_of_two_exports_has_120_shoppers():
    folder = CASES / "one-shopper-two-spellings" / "two_exports"
    columns = {"user": "CustomerID", "item": "StockCode", "order": "InvoiceDate", "title": "Description"}
    assert len(load_platform(folder, folder, columns, seed=0).sequences) == 120


# Where it cannot be told.


def test_two_files_whose_ids_may_be_one_are_refused_with_both_places(tmp_path):
    folder = two_exports(tmp_path / "e")
    (folder / "2012.csv").write_text(HEAD + f"9,7,{FIRST}\n017003,7,{FIRST}\n")
    with pytest.raises(DataError) as refused:
        load_platform(folder, ITEMS, seed=0)
    told = str(refused.value)
    assert f"{folder / '2012.csv'}, row 2, column 'user_id': '017003'" in told
    assert f"{folder / '2010.csv'}, row 4, column 'user_id': '17003'" in told
    assert "in one way everywhere" in told


@pytest.mark.parametrize("later", ["017003", "1.7003e4"])
@pytest.mark.parametrize("turned", [False, True])
def test_an_ingest_whose_ids_may_be_one_with_earlier_ones_changes_nothing(tmp_path, later, turned):
    first, second = (later, "17003") if turned else ("17003.0", later)
    store = open_store(tmp_path / "store", shards=64)
    sources = {}
    for name, user in (("old", first), ("new", second)):
        (tmp_path / f"{name}.csv").write_text(HEAD + f"{user},7,{FIRST}\n")
        sources[name] = SOURCE.validate_python({"type": "files", "path": tmp_path / f"{name}.csv"})
    ingest(store, {"old": sources["old"]}, None, now=NOW)
    before = store.manifest_file.read_bytes()
    with pytest.raises(DataError, match=rf"'{later}'.*may be two spellings|'17003' and '{later}'") as refused:
        ingest(store, sources, None, now=NOW)
    assert "sources.new" in str(refused.value)
    assert "what was ingested before" in str(refused.value)
    assert store.manifest_file.read_bytes() == before
    with pytest.raises(DataError, match=r"sources\.old"):
        ingest(store, sources, None, now=NOW, anew=True)
    (tmp_path / "new.csv").write_text(HEAD + f"{first},8,{FIRST}\n")
    assert ingest(store, sources, None, now=NOW, anew=True).added == 1


def test_a_spelling_that_was_erased_is_no_second_one(tmp_path):
    (tmp_path / "e.csv").write_text(HEAD + f"17003,7,{FIRST}\n017003,7,{FIRST}\n")
    store = open_store(tmp_path / "store")
    store.erase("017003")
    source = {"shop": SOURCE.validate_python({"type": "files", "path": tmp_path / "e.csv"})}
    assert ingest(store, source, None, now=NOW).added == 1


def test_items_that_may_be_the_catalogues_are_refused(tmp_path):
    events = pd.DataFrame({"user_id": ["a"] * 4, "item_id": ["7", "8", "007", "x"], "timestamp": range(4)})
    with pytest.raises(DataError, match=r"row 3, column 'item_id': '007', and the catalogue: '007' and '7'"):
        load_platform(events, ITEMS, seed=0)
    again = pd.concat([ITEMS.astype({"item_id": "str"}), pd.DataFrame({"item_id": ["08"], "title": ["x"]})])
    with pytest.raises(DataError, match=r"row 3, column 'item_id': '08'"):
        load_platform(events[:2], again, seed=0)
    data = load_platform(events.assign(item_id=[7.0, 8.0, 7.0, 8.0]), ITEMS, seed=0)
    assert len(data.sequences.items) == 4


def test_an_ingest_of_items_that_may_be_the_catalogues_changes_nothing(tmp_path):
    ITEMS.to_parquet(tmp_path / "items.parquet")
    catalogue = CATALOGUE.validate_python({"type": "files", "path": tmp_path / "items.parquet"})
    (tmp_path / "e.csv").write_text(HEAD + f"a,7.0,{FIRST}\na,007,{FIRST}\n")
    source = {"shop": SOURCE.validate_python({"type": "files", "path": tmp_path / "e.csv"})}
    store = open_store(tmp_path / "store")
    before = store.manifest_file.read_bytes()
    with pytest.raises(DataError, match=r"'007' and '7' may be two spellings"):
        ingest(store, source, catalogue, now=NOW)
    assert store.manifest_file.read_bytes() == before


@pytest.mark.parametrize("ids", [[7, 9], [7.0, 9.0], ["7.0", "9"]], ids=str)
def test_image_vectors_are_found_by_any_certain_spelling(tmp_path, ids):
    np.savez(tmp_path / "v.npz", item_id=np.array(ids), vector=np.eye(2))
    assert read_images(tmp_path / "v.npz", ["7", "8"]).tolist() == [[1, 0], [0, 0]]
    np.savez(tmp_path / "v.npz", item_id=np.array(["007"]), vector=np.eye(1))
    with pytest.raises(DataError, match="'007' and '7'"):
        read_images(tmp_path / "v.npz", ["7", "8"])
