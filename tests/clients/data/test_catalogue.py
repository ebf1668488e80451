from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clients.data import Catalogue, build_catalogue, items_table
from clients.data.columns import ItemColumns
from clients.data.products import CodeReport, products_of, published
from clients.data.read import read_items
from clients.errors import DataError
from shared_model.features import FeatureCache, make_encoders
from shared_model.product_key import product_key
from shared_model.vocabulary import PublicCatalogue, Vocabulary

ENCODERS = make_encoders(["hashed-words"])

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


CODES = ["4006381333931", "0036000291452", None, "4006381333932", "ab-1"]
KEYS = ("gtin:04006381333931", "gtin:00036000291452", "title:doll|", "title:pen|acme", "code:ab-1")


def coded(codes: list[object], **kinds: str) -> Catalogue:
    frame = pd.DataFrame({"item_id": list("abcde"), "title": ["Ball", "Car", "Doll", "Pen", "Lamp"]})
    frame = frame.assign(brand=[None, None, None, "Acme", None], gtin=pd.Series(codes, **kinds))
    return build_catalogue(items_table(frame, ItemColumns(code="gtin")))[0]


def test_codes_are_the_keys_of_items_and_title_and_brand_of_the_others() -> None:
    catalogue = coded(CODES)
    assert catalogue.keys.texts == KEYS
    report = CodeReport.of(catalogue)
    assert (report.items, report.with_code, report.valid, report.keyed, report.shared) == (5, 4, 3, 5, 0)
    assert report.to_dict()["faults"] == {"wrong check digit": 1}
    assert report.lines() == [
        "items with a valid product code: 3 of 5",
        "codes not used, wrong check digit: 1",
        "(numbers of your trade with 8, 10, 12, 13 or 14 digits need letters before them)",
    ]


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "tsv", "parquet"])
def test_codes_are_text_in_every_format(suffix: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"item_id": list("abcde"), "title": ["Ball", "Car", "Doll", "Pen", "Lamp"]})
    frame = frame.assign(brand=[None, None, None, "Acme", None], gtin=CODES)
    path = tmp_path / f"items.{suffix}"
    if suffix == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    assert build_catalogue(read_items(path, ItemColumns(code="gtin")))[0].keys.texts == KEYS


@pytest.mark.parametrize("kind", ["float64", "Int64", "object", "csv"])
def test_codes_in_a_column_of_numbers_are_the_same_codes(kind: str, tmp_path: Path) -> None:
    numbers = [4006381333931, 36000291452, None, 4006381333932, None]
    if kind == "csv":
        lines = [f"{n},x{n},{'' if code is None else float(code)}" for n, code in enumerate(numbers)]
        (tmp_path / "i.csv").write_text("\n".join(["item_id,title,gtin", *lines]))
        keys = build_catalogue(read_items(tmp_path / "i.csv", ItemColumns(code="gtin")))[0].keys.texts
    else:
        keys = coded(numbers, dtype=kind).keys.texts
    assert keys[:2] == KEYS[:2]
    assert keys[3].startswith("title:")


@pytest.mark.parametrize("codes", [[True] * 5, [b"1"] * 5, pd.to_datetime(["2024-01-01"] * 5).tolist()])
def test_a_column_that_holds_no_codes_is_refused(codes: list[object]) -> None:
    with pytest.raises(DataError, match=r"column 'gtin': product codes must be text or integers"):
        coded(codes)


def test_a_column_of_codes_that_is_absent_is_named() -> None:
    with pytest.raises(DataError, match=r"no column 'gtim'.*did you mean 'gtin'"):
        items_table(pd.DataFrame({"item_id": ["a"], "title": ["x"], "gtin": ["1"]}), ItemColumns(code="gtim"))


def test_a_column_that_happens_to_be_called_code_is_not_read() -> None:
    table = items_table(pd.DataFrame({"item_id": ["a"], "title": ["x"], "code": ["4006381333931"]}))
    assert build_catalogue(table)[0].keys.texts == ("title:x|",)


def test_the_items_own_id_can_be_the_code() -> None:
    table = items_table(pd.DataFrame({"item_id": ["cj-1"], "title": ["x"]}), ItemColumns(code="item_id"))
    assert build_catalogue(table)[0].keys.texts == ("code:cj-1",)


def test_without_codes_the_report_says_what_that_means() -> None:
    report = CodeReport.of(build_catalogue(items_table(FRAME))[0])
    assert report.valid == 0
    assert "title and brand are its key" in report.lines()[0]
    assert report.lines()[-1] == "items without code and title, which no other shop can know: 1"


def test_shared_and_overused_codes_and_what_a_vocabulary_has_are_counted() -> None:
    codes = ["4006381333931"] * 2 + ["one"] * 101
    titles = [f"item {n}" for n in range(103)]
    frame = pd.DataFrame({"item_id": titles, "title": titles, "product_code": codes})
    catalogue = build_catalogue(items_table(frame))[0]
    vocabulary = Vocabulary.empty().grown([published(catalogue)], ENCODERS, 2)
    assert len(vocabulary) == 102
    other = coded(CODES)
    lines = CodeReport.of(catalogue, vocabulary).lines()
    assert lines == [
        "items with a valid product code: 2 of 103",
        "key not used, for 101 items have it: code:one",
        "items whose product is another item's as well: 2",
        "items whose key is in the federation's vocabulary: 103 of 103",
    ]
    assert CodeReport.of(other, vocabulary).known == 1
    assert products_of(other, vocabulary, ENCODERS).tolist() == [
        vocabulary.keys.index("gtin:04006381333931"),
        -1,
        -1,
        -1,
        -1,
    ]
    assert (
        products_of(catalogue, vocabulary, ENCODERS)[:2].tolist()
        == [vocabulary.keys.index("gtin:04006381333931")] * 2
    )


def test_what_is_published_is_in_the_order_of_keys_and_nothing_else() -> None:
    catalogue = coded(CODES)
    public = published(catalogue)
    assert public.keys == tuple(sorted(KEYS))
    rows = dict(
        zip(public.keys, zip(public.titles, public.brands, public.categories, strict=True), strict=True)
    )
    assert rows["title:pen|acme"] == ("Pen", "Acme", "")
    assert {field.name for field in fields(public)} == {"keys", "titles", "brands", "categories"}


def test_where_there_is_no_title_the_beginning_of_the_text_is_published() -> None:
    frame = pd.DataFrame({"item_id": ["a"], "text": ["word " * 300], "product_code": ["x"]})
    public = published(build_catalogue(items_table(frame))[0])
    assert len(public.titles[0]) == 499  # cut at 500 letters, without the blank at its end


@given(
    st.lists(
        st.tuples(st.text(max_size=20), st.text(max_size=20), st.text(max_size=8)), min_size=1, max_size=5
    )
)
@example([("co\u00adop\u200b", "a\u202eb", "EAN EAN 5"), ("x" * 700, "b. " * 400, None)])
@settings(max_examples=100, deadline=None)
def test_whoever_reads_what_is_published_finds_the_same_keys(rows: list[tuple[str, str, str]]) -> None:
    titles, brands, codes = zip(*rows, strict=True)
    ids = [str(n) for n in range(len(rows))]
    frame = pd.DataFrame({"item_id": ids, "title": titles, "brand": brands, "product_code": codes})
    catalogue = build_catalogue(items_table(frame), require_text=False)[0]
    public = published(catalogue)
    for key, title, brand in zip(public.keys, public.titles, public.brands, strict=True):
        kind, _, text = key.partition(":")
        assert str(product_key(None if kind == "title" else text, title, brand)) == key
        assert title.isprintable()
    assert set(public.keys) == set(catalogue.keys.texts) - {""}


def test_which_item_is_which_product_is_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue, cache = coded(CODES), FeatureCache(tmp_path)
    vocabulary = Vocabulary.empty().grown([published(catalogue)], ENCODERS, 2)
    other = coded(["4006381333931", None, None, None, None])
    found = products_of(other, vocabulary, ENCODERS)
    assert found[0] == vocabulary.keys.index("gtin:04006381333931")
    assert products_of(other, vocabulary, ENCODERS, cache).tolist() == found.tolist()
    calls = []
    real = Vocabulary.products_by_text
    monkeypatch.setattr(Vocabulary, "products_by_text", lambda *args: calls.append(1) or real(*args))
    again = products_of(other, vocabulary, ENCODERS, cache)
    assert (again.tolist(), again.dtype, calls) == (found.tolist(), np.int64, [])
    products_of(catalogue, vocabulary, ENCODERS, cache)
    products_of(
        other, vocabulary.grown([PublicCatalogue.of(["x"], ["x"], [""], [""])], ENCODERS), ENCODERS, cache
    )
    assert calls == [1, 1]
