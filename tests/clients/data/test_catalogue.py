import numpy as np
import pandas as pd
import pytest

from clients.data import Catalogue, build_catalogue, items_table
from clients.errors import DataError

FRAME = pd.DataFrame(
    {
        "item_id": ["b", "a", None, "b", "c", "d"],
        "title": [" Red\t ball ", None, "x", "again", None, "Doll"],
        "category": ["Toys", "Toys  > Cars", "y", None, None, ""],
        "brand": ["Acme", None, "z", None, None, None],
        "price": ["1.50", "free", "1", "2", "3", "-4"],
    }
)


def test_the_first_of_each_id_stays_in_file_order_and_the_rest_is_counted() -> None:
    catalogue, report = build_catalogue(items_table(FRAME, source="i.csv"))
    assert catalogue.item_ids == ("b", "a", "d")
    assert report.dropped == {"missing_item_id": 1, "no_text": 1, "duplicate_item_id": 1}
    assert report.flagged == {"empty_title": 1, "bad_price": 2}
    assert report.examples["duplicate_item_id"] == "i.csv, row 4, column 'item_id': 'b'"
    assert (report.read, report.kept, report.items, report.users) == (6, 3, 3, 0)
    assert catalogue.frame["price"].tolist()[0] == 1.5
    assert catalogue.frame["price"].isna().tolist() == [False, True, True]


def test_items_without_text_stay_on_request() -> None:
    catalogue, report = build_catalogue(items_table(FRAME), require_text=False)
    assert catalogue.item_ids == ("b", "a", "c", "d")
    assert catalogue.texts()[2] == ""
    assert report.flagged["no_text"] == 1


def test_texts_join_what_is_there() -> None:
    catalogue, _ = build_catalogue(items_table(FRAME))
    assert catalogue.texts() == ["Red ball Toys Acme", "Toys > Cars", "Doll"]


def test_index_of_marks_unknown_ids() -> None:
    catalogue, _ = build_catalogue(items_table(FRAME))
    rows = catalogue.index_of(["d", "zz", "b"])
    assert rows.dtype == np.int64
    assert rows.tolist() == [2, -1, 0]
    assert catalogue.index_of([]).tolist() == []


@pytest.mark.parametrize("asked", [3, 400])
def test_few_and_many_are_looked_up_alike(asked: int) -> None:
    many = Catalogue(tuple(f"i{n}" for n in range(800)), pd.DataFrame(index=range(800)))
    ids = pd.Series([*(f"i{n}" for n in range(0, 2 * asked, 2)), "zz"], dtype="str")
    expected = [*range(0, 2 * asked, 2), -1]
    assert many.index_of(ids).tolist() == many.index_of(ids.astype("category")).tolist() == expected
    assert many.index_of(ids.tolist()).tolist() == expected


def test_the_fingerprint_covers_ids_texts_and_their_borders() -> None:
    def fingerprint(ids: list[str], titles: list[str]) -> str:
        return build_catalogue(items_table(pd.DataFrame({"item_id": ids, "title": titles})))[0].fingerprint

    base = fingerprint(["a", "b"], ["x", "y"])
    assert base == fingerprint(["a", "b"], ["x", " y "])
    others = [
        (["b", "a"], ["x", "y"]),
        (["a", "c"], ["x", "y"]),
        (["a", "b"], ["x", "z"]),
        (["ax", "b"], ["x", "y"]),
    ]
    assert base not in {fingerprint(*other) for other in others}
    assert fingerprint(["a"], ["bc"]) != fingerprint(["ab"], ["c"])


def test_nothing_usable_names_the_fix() -> None:
    with pytest.raises(DataError, match=r"i\.csv: none of the 1 items.*no text.*row 1.*columns\.title"):
        build_catalogue(items_table(pd.DataFrame({"item_id": ["a"], "title": [" "]}), source="i.csv"))
