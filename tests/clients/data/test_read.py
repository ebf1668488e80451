"""Reading: ids and orders as they are meant, CSV and Parquet alike, a clear refusal of the rest."""

import datetime as dt
import gzip
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clients.data import (
    InteractionColumns,
    Table,
    interactions_table,
    items_table,
    read_interactions,
    read_items,
)
from clients.data.parse import parse_order
from clients.errors import DataError
from shared_model.errors import BadInputError

Write = Callable[..., Path]
TIMES = [
    *("5", 7, 2.5, "inf", "x", "", None, "1e12", "-3"),
    *("2020-01-01", "2020-01-01T00:00:00.1234567899", "2020-01-01 00:00+01:00", "9999-12-31", "0001-01-01"),
]
HEAD = "user_id,item_id,timestamp\n"


def test_leading_zeros_survive_in_csv(write: Write) -> None:
    frame = read_interactions(write("e.csv", HEAD + "007, 0042 ,1\n")).frame
    assert frame.to_dict("list") == {"user_id": ["007"], "item_id": ["0042"], "order": [1.0]}


@pytest.mark.parametrize(
    "dtype", ["int32", "int64", "uint64", "Int64", "float64", "category", "str", "object"]
)
def test_integer_ids_never_become_floats(write: Write, dtype: str) -> None:
    frame = pd.DataFrame({"user_id": [1, 2], "item_id": pd.Series([123, 5]).astype(dtype), "pos": [0, 1]})
    assert read_interactions(write("e.parquet", frame)).frame["item_id"].tolist() == ["123", "5"]


def test_large_integer_ids_beside_a_missing_one_are_exact(write: Write) -> None:
    ids = pd.array([2**53 + 1, None], dtype="Int64")
    path = write("e.parquet", pd.DataFrame({"user_id": ids, "item_id": ids, "pos": [0, 1]}))
    users = read_interactions(path).frame["user_id"]
    assert users[0] == "9007199254740993"
    assert users.isna().tolist() == [False, True]


def test_categories_of_integers_with_a_missing_one() -> None:
    ids = pd.Categorical([7, None, 7])
    frame = pd.DataFrame({"user_id": ids, "item_id": "a", "pos": [0, 1, 2]})
    users = interactions_table(frame).frame["user_id"]
    assert users.dropna().tolist() == ["7", "7"]


@pytest.mark.parametrize(
    "ids",
    [[1.5], [2.0**53], [True], [b"x"], [("a", 1)], [dt.datetime(2020, 1, 1)], [{"a": 1}]],
)
def test_values_that_are_no_ids_are_refused(ids: list[object]) -> None:
    frame = pd.DataFrame({"user_id": ids, "item_id": ["a"], "pos": [0]})
    with pytest.raises(DataError, match=r"column 'user_id'.*text or integers"):
        interactions_table(frame)


@pytest.mark.parametrize("word", ["", "  ", "NULL", "null", "NaN", "None", "\\N", "<NA>"])
def test_the_usual_words_for_null_are_missing_ids(write: Write, word: str) -> None:
    assert read_interactions(write("e.csv", HEAD + f"{word},a,1\n")).frame["user_id"].isna().all()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1577836800", 1577836800.0),
        ("1577836800.25", 1577836800.25),
        ("1.5778368e9", 1577836800.0),
        ("2020-01-01", 1577836800.0),
        ("2020-01-01T00:00:00Z", 1577836800.0),
        ("2020-01-01 02:00:00+02:00", 1577836800.0),
        ("2020-01-01T00:00:00.123456789", 1577836800.123456),
    ],
)
def test_times_are_unix_seconds(write: Write, text: str, seconds: float) -> None:
    assert read_interactions(write("e.csv", HEAD + f"u,a,{text}\n")).frame["order"].tolist() == [seconds]


@pytest.mark.parametrize(
    "text", ["", "today", "now", "2020-13-01", "inf", "-inf", "1e999", "01/02/2020", "x"]
)
def test_unreadable_times_are_missing(write: Write, text: str) -> None:
    assert read_interactions(write("e.csv", HEAD + f"u,a,{text}\n")).frame["order"].isna().all()


@pytest.mark.parametrize(
    "values",
    [
        pd.to_datetime(["2020-01-01", None]),
        pd.to_datetime(["2020-01-01", None]).tz_localize("UTC"),
        pd.to_datetime(["2020-01-01", None]).astype("datetime64[s]"),
        [dt.date(2020, 1, 1), None],
        pd.array([1577836800, None], dtype="Int64"),
        [1577836800.0, np.nan],
    ],
)
def test_every_stored_type_of_time(write: Write, values: object) -> None:
    path = write("e.parquet", pd.DataFrame({"user_id": "u", "item_id": "a", "timestamp": values}))
    order = read_interactions(path).frame["order"]
    assert order[0] == 1577836800.0
    assert np.isnan(order[1])


@pytest.mark.parametrize(("unit", "scale"), [("s", 1), ("ms", 1000), ("us", 10**6), ("ns", 10**9)])
def test_the_declared_unit_of_numeric_times(unit: str, scale: int) -> None:
    frame = pd.DataFrame({"user_id": ["u"], "item_id": ["a"], "timestamp": [1577836800 * scale]})
    columns = InteractionColumns.model_validate({"order_unit": unit})
    assert interactions_table(frame, columns).frame["order"].tolist() == [1577836800.0]


def test_csv_and_parquet_hold_the_same(write: Write) -> None:
    frame = pd.DataFrame(
        {
            "user_id": ["1", "1", "x y"],
            "item_id": [10, 11, 12],
            "timestamp": ["2020-01-01", "2021-02-03T04:05:06", "2022-01-01"],
            "value": [1.5, np.nan, -2.0],
            "kind": ["buy", None, "view"],
            "cart": [5, 5, 6],
        }
    )
    columns = InteractionColumns(value="value", event="kind", basket="cart")
    one = read_interactions(write("e.csv", frame), columns).frame
    other = read_interactions(write("e.parquet", frame), columns).frame
    pd.testing.assert_frame_equal(one, other)
    items = pd.DataFrame(
        {"item_id": [1, 2], "title": ["A", None], "price": [1.5, None], "brand": ["b", "NaN"]}
    )
    pd.testing.assert_frame_equal(
        read_items(write("i.csv", items)).frame, read_items(write("i.parquet", items)).frame
    )


def test_only_mapped_columns_are_read(write: Write) -> None:
    path = write("e.csv", "user_id,item_id,pos,email\nu,a,0,someone@example.org\n")
    assert list(read_interactions(path).frame) == ["user_id", "item_id", "order"]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators(write: Write, separator: str) -> None:
    path = write("e.csv", (HEAD + "u,a,1\n").replace(",", separator))
    assert read_interactions(path).frame["item_id"].tolist() == ["a"]


def test_compressed_csv(write: Write) -> None:
    path = write("e.csv.gz", gzip.compress((HEAD + "u,a,1\n").encode()))
    assert read_interactions(path).frame["user_id"].tolist() == ["u"]


def test_a_folder_is_read_in_order_of_name_and_rows_keep_their_place(write: Write) -> None:
    write("d/part-2.csv", HEAD + "u2,a,2\nu3,a,never\n")
    write("d/part-1.parquet", pd.DataFrame({"user_id": ["u1"], "item_id": ["a"], "timestamp": [1]}))
    write("d/part-0.csv", HEAD)
    folder = write("d/_SUCCESS", "").parent
    table = read_interactions(folder)
    assert table.frame["user_id"].tolist() == ["u1", "u2", "u3"]
    assert table.cell(2, "order") == f"{folder / 'part-2.csv'}, row 2, column 'timestamp': 'never'"


def test_a_folder_must_not_mix_times_and_positions(write: Write) -> None:
    write("d/1.csv", HEAD + "u,a,1\n")
    folder = write("d/2.csv", "user_id,item_id,pos\nu,a,1\n").parent
    with pytest.raises(DataError, match=r"some files are ordered by time.*columns\.order"):
        read_interactions(folder)


def test_a_list_of_categories_becomes_text() -> None:
    frame = pd.DataFrame({"item_id": ["a"], "category": [["Toys", "Dolls"]]})
    assert items_table(frame).frame["category"].tolist() == ["Toys > Dolls"]


def test_integer_column_names_are_taken_as_text() -> None:
    frame = pd.DataFrame([["u", "a", 3]])
    table = interactions_table(frame, InteractionColumns(user="0", item="1", order="2"))
    assert table.frame["order"].tolist() == [3.0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.csv", "", "is empty.*Export"),
        ("e.parquet", "", "is empty.*Export"),
        ("e.csv", "\n\n", "blank lines"),
        ("e.csv", HEAD, "not one row"),
        (
            "e.csv",
            "usr_id,item_id,timestamp\nu,a,1\n",
            "no column 'user_id'.*did you mean 'usr_id'.*timestamp",
        ),
        ("e.csv", "user_id,item_id,day\nu,a,1\n", "no order column.*columns.order.*user_id, item_id, day"),
        ("e.csv", "user_id,item_id,item_id,pos\nu,a,b,1\n", "2 columns named 'item_id'.*Rename"),
        ("e.csv", HEAD + "u,a,1\nu,b,2,9\n", "row 2: 4 fields, but the header has 3.*'9'.*Quote"),
        ("e.csv", HEAD + 'u,"a,1\n', "cannot be read"),
        ("e.csv", HEAD.encode() + b"u,\xe9,1\n", "cannot be read.*UTF-8"),
        ("e.csv.gz", HEAD, "cannot be read.*gzip"),
        ("e.csv.gz", gzip.compress(HEAD.encode() * 99, mtime=0)[:-9], "cannot be read"),
        ("e.parquet", "PAR1 and no more", "cannot be read"),
        ("e.xlsx", "x", "type '.xlsx' is not known.*csv"),
    ],
)
def test_bad_interaction_files(write: Write, name: str, content: str | bytes, message: str) -> None:
    path = write(name, content)
    with pytest.raises(DataError, match=message) as caught:
        read_interactions(path)
    assert str(path) in str(caught.value)


def test_a_truncated_parquet_file(write: Write) -> None:
    path = write("e.parquet", pd.DataFrame({"user_id": ["u"] * 99, "item_id": "a", "pos": range(99)}))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        read_interactions(path)


def test_items_need_a_describing_column(write: Write) -> None:
    with pytest.raises(DataError, match=r"no column describes the items.*columns\.title.*item_id, name"):
        read_items(write("i.csv", "item_id,name\na,x\n"))


def test_a_missing_file_names_its_neighbour(write: Write) -> None:
    path = write("interactions.csv", HEAD)
    with pytest.raises(DataError, match=r"no such file: did you mean 'interactions\.csv'"):
        read_interactions(path.with_name("interaction.csv"))


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_interactions(tmp_path / "none" / "e.csv")


def test_a_folder_without_data_files(write: Write) -> None:
    with pytest.raises(DataError, match=r"no data file in this folder, which holds notes\.txt"):
        read_interactions(write("d/notes.txt", "x").parent)


def test_one_column_cannot_play_two_parts(write: Write) -> None:
    path = write("e.csv", HEAD + "u,a,1\n")
    with pytest.raises(DataError, match="three columns"):
        read_interactions(path, InteractionColumns(item="user_id"))


def test_data_errors_are_bad_input() -> None:
    assert issubclass(DataError, BadInputError)
    assert (DataError.exit_code, DataError.code) == (2, "data")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(TIMES), min_size=2, max_size=6))
def test_no_time_is_read_in_the_light_of_the_others(texts: list[object]) -> None:
    together = parse_order(pd.Series(texts, dtype=object), "s").tolist()
    alone = [parse_order(pd.Series([text], dtype=object), "s").item() for text in texts]
    np.testing.assert_array_equal(together, alone)


ANYTHING = [
    *(pa.array([1, None], kind) for kind in (pa.int8(), pa.uint64(), pa.float32(), pa.time64("us"))),
    *(pa.array([1, None], kind) for kind in (pa.duration("s"), pa.timestamp("ns", "UTC"), pa.date64())),
    *(
        pa.array(values)
        for values in ([True, None], [b"x", None], [[1], None], [{"a": 1}, None], [None, None])
    ),
    *(pa.array(["x", None], kind) for kind in (pa.large_string(), pa.dictionary(pa.int8(), pa.string()))),
    pa.array([Decimal("1.5"), None]),
]


def table_or_message(path: Path, columns: InteractionColumns | None = None) -> Table | str:
    try:
        return read_interactions(path, columns)
    except DataError as error:
        return str(error)


@pytest.mark.parametrize("column", ["user_id", "item_id", "pos", "timestamp", "basket", "event", "value"])
@pytest.mark.parametrize("values", ANYTHING, ids=lambda values: str(values.type))
def test_any_type_of_parquet_column_is_read_or_refused(tmp_path: Path, column: str, values: pa.Array) -> None:
    held = {"user_id": ["u", "v"], "item_id": ["a", "b"], "pos": [0, 1]} | {column: values}
    optional = {column: column} if column in ("basket", "event", "value") else {}
    order = column if column == "timestamp" else "pos"
    pq.write_table(pa.table(held), tmp_path / "e.parquet")
    found = table_or_message(tmp_path / "e.parquet", InteractionColumns(order=order, **optional))
    if isinstance(found, str):
        assert repr(column) in found
    else:
        read = found.frame["order" if column == order else column]
        assert len(read) == 2
        assert read.isna()[1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60), st.sampled_from(["e.csv", "e.tsv", "e.csv.gz", "e.parquet"]), st.booleans())
def test_no_bytes_escape_as_another_error(tmp_path: Path, junk: bytes, name: str, headed: bool) -> None:
    path = tmp_path / name
    path.write_bytes(HEAD.encode() * headed + junk)
    found = table_or_message(path)
    if isinstance(found, str):
        assert str(path) in found
    else:
        assert list(found.frame) == ["user_id", "item_id", "order"]
