"""Product keys: every spelling of a number is one key, and what is no number of a product is none."""

import string

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from shared_model.item_keys import ITEMS_PER_KEY, item_keys
from shared_model.product_key import Fault, Kind, check_digit, product_key

DIGITS = st.text("0123456789", min_size=1, max_size=13)


def key(code):
    return product_key(code, "Textmarker", "Stabilo")


def gtins(length):
    """Valid numbers of a length, outside of those that a shop gives out itself."""
    bodies = st.text("0123456789", min_size=length - 1, max_size=length - 1)
    return bodies.map(lambda body: body + check_digit(body)).filter(
        lambda number: key(number).kind in (Kind.GTIN, Kind.ISBN)
    )


@given(st.sampled_from([8, 12, 13, 14]).flatmap(gtins), st.data())
@settings(max_examples=100, deadline=None)
def test_every_spelling_of_a_number_is_one_key(number, data):
    place = data.draw(st.integers(0, len(number)))
    wide = number.translate(str.maketrans(string.digits, "０１２３４５６７８９"))
    spellings = [
        f" {number}\t",
        f"{number[:place]} {number[place:]}",
        f"{number[:place]}-{number[place:]}",
        f"{number}.0",
        f"{number}.",
        f"EAN: {number}",
        f"gtin-13 {number}",
        f"\ufeff{number}",
        wide,
    ]
    if len(number) > 8:  # eight digits and a zero in front are no GTIN-8
        spellings += [number.zfill(14)]
    assert {str(key(spelling)) for spelling in spellings} == {str(key(number))}


@given(st.text("0123456789", min_size=9, max_size=9).filter(lambda body: body.strip("0")))
@example("080442957")  # its check digit is X
@settings(max_examples=50, deadline=None)
def test_a_book_is_one_key_by_isbn_10_and_13(body):
    last = -sum((10 - place) * int(digit) for place, digit in enumerate(body)) % 11
    ten = body + ("X" if last == 10 else str(last))
    thirteen = "978" + body + check_digit("978" + body)
    forms = [
        ten,
        ten.lower(),
        f"ISBN {ten[0]}-{ten[1:4]}-{ten[4:9]}-{ten[9]}",
        thirteen,
        f"urn:isbn:{thirteen}",
    ]
    assert {str(key(form)) for form in forms} == {f"isbn:{thirteen}"}


def test_upc_and_ean_with_a_zero_in_front_are_one_and_a_lost_zero_is_found_again():
    forms = ["036000291452", "0036000291452", "00036000291452", "36000291452", "36000291452.0"]
    assert {str(key(form)) for form in forms} == {"gtin:00036000291452"}


@given(st.sampled_from([8, 12, 13, 14]).flatmap(gtins), st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_a_wrong_check_digit_is_no_key(number, off):
    wrong = number[:-1] + str((int(number[-1]) + off) % 10)
    assume(wrong.strip("0"))
    assert (str(key(wrong)), key(wrong).fault) == ("title:textmarker|stabilo", Fault.CHECK_DIGIT)


@given(st.sampled_from([8, 12, 13, 14]).flatmap(gtins), st.data())
@settings(max_examples=50, deadline=None)
def test_one_mistyped_digit_is_always_found(number, data):
    place = data.draw(st.integers(0, len(number) - 1))
    other = data.draw(st.sampled_from([d for d in string.digits if d != number[place]]))
    assert key(number[:place] + other + number[place + 1 :]).kind not in (Kind.GTIN, Kind.ISBN)


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("0306406153", Fault.CHECK_DIGIT),
        ("2012345000001", Fault.IN_STORE),
        ("0412345678903", Fault.IN_STORE),
        ("212345678909", Fault.IN_STORE),
        ("02345673", Fault.IN_STORE),
        ("4.00638E+12", Fault.ROUNDED),
        ("4,00638E+12", Fault.ROUNDED),
        ("0000000000000", Fault.PLACEHOLDER),
        ("0", Fault.PLACEHOLDER),
        ("N/A", Fault.PLACEHOLDER),
        ("Does not apply", Fault.PLACEHOLDER),
        ("--", Fault.PLACEHOLDER),
        ("x" * 101, Fault.TOO_LONG),
    ],
)
def test_what_names_no_product_falls_back_on_title_and_brand(code, fault):
    assert (str(key(code)), key(code).fault) == ("title:textmarker|stabilo", fault)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("AB-12 34", "ab-12 34"),
        (" ab-12  34 ", "ab-12 34"),
        ("ＡＢ-12 34", "ab-12 34"),
        ("Straße 7", "strasse 7"),
        ("1085983", "1085983"),
        ("1085983.0", "1085983"),
        ("12345678901", "12345678901"),  # eleven digits, but no UPC
        ("cj-16809649", "cj-16809649"),
    ],
)
def test_any_other_text_is_a_code_of_the_trade(code, text):
    assert str(key(code)) == f"code:{text}"


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
@example("EAN EAN 5", "", "")
@example("ǰ\u0323ﬁ", "", "")
@settings(max_examples=200, deadline=None)
def test_a_key_of_anything_is_one_line_and_stays_what_it_is(code, title, brand):
    once = product_key(code, title, brand)
    assert len(str(once).splitlines()) <= 1
    if once.kind in (Kind.GTIN, Kind.ISBN, Kind.CODE):
        again = product_key(once.text, title, brand)
        assert again == once


@pytest.mark.parametrize("code", [None, "", "  "])
def test_without_a_code_words_of_title_and_brand_are_the_key(code):
    keys = {
        str(product_key(code, title, "Stabilo ")) for title in ("Text-Marker, gelb", " TEXT MARKER  (gelb)")
    }
    assert keys == {"title:text marker gelb|stabilo"}
    assert product_key(code, "", "").fault is None
    assert str(product_key(code, "!", "Stabilo")) == ""


def test_a_catalogues_keys_are_counted():
    codes = ["4006381333931", "4006381333931.0", None, "4006381333932", "ab"]
    keys = item_keys(codes, ["a", "b", "c", "d", "e"], [""] * 5)
    assert (keys.with_code, keys.coded, keys.shared) == (4, 3, 2)
    assert keys.faults == {Fault.CHECK_DIGIT: 1}
    assert keys.texts[3] == "title:d|"


def test_without_a_column_of_codes_all_keys_are_titles():
    keys = item_keys(None, ["a", "b"], ["x", "y"])
    assert keys.texts == ("title:a|x", "title:b|y")
    assert keys.with_code == keys.coded == 0


@pytest.mark.parametrize("count", [ITEMS_PER_KEY, ITEMS_PER_KEY + 1])
def test_one_code_on_very_many_items_is_said_and_not_used(count):
    keys = item_keys(["4006381333931"] * count, [f"item {n}" for n in range(count)], [""] * count)
    if count > ITEMS_PER_KEY:
        assert keys.overused == {"gtin:04006381333931": count}
        assert len(set(keys.texts)) == count
    else:
        assert set(keys.texts) == {"gtin:04006381333931"}
        assert not keys.overused


def test_one_code_and_one_title_on_a_thousand_items_leave_them_without_a_key():
    keys = item_keys(["x"] * 1000, ["Gift card"] * 1000, [""] * 1000)
    assert set(keys.texts) == {""}
    assert keys.overused == {"code:x": 1000, "title:gift card|": 1000}
