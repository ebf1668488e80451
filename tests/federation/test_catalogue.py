"""Published catalogues and the vocabulary's records: signed, in one form, and nothing in them that is never written."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.catalogue import FORMAT, make_catalogue, read_catalogue
from federation.errors import TamperedError, WrongPartyError
from federation.keys import signing_text
from federation.signed import sign
from federation.vocabulary import Share, VocabularyRecord, make_record, read_record, recorded_vocabulary
from shared_model.encoders import identities_to_json
from shared_model.features import make_encoders
from shared_model.vocabulary import PublicCatalogue, Vocabulary
from shared_model.vocabulary_file import vocabulary_bytes

ENCODERS = make_encoders(["hashed-words"])
PUBLIC = PublicCatalogue(
    ("gtin:04006381333931", "title:oat milk|acme"),
    ("Textmarker", "Oat milk"),
    ("Stabilo", "Acme"),
    ("Pens", ""),
)


@pytest.fixture
def data(made):
    return make_catalogue("groceries", "books", PUBLIC, made.identity, made.time)


def test_a_catalogue_comes_back_as_it_was_sent(made, data):
    read = read_catalogue(data, "file", "groceries")
    assert (read.platform, read.identity_key) == ("books", signing_text(made.identity))
    assert (read.catalogue.keys, read.catalogue.titles) == (PUBLIC.keys, PUBLIC.titles)
    assert (read.catalogue.brands, read.catalogue.categories) == (PUBLIC.brands, PUBLIC.categories)
    empty = make_catalogue("groceries", "books", PublicCatalogue((), (), (), ()), made.identity, made.time)
    assert len(read_catalogue(empty, "file", "groceries").catalogue) == 0


def test_a_catalogue_holds_nothing_beyond_what_is_published(data):
    body = json.loads(data)["body"]
    assert set(body) == {"federation", "platform", "identity_key", "issued", "products"}
    assert body["products"] == [
        ["gtin:04006381333931", "Textmarker", "Stabilo", "Pens"],
        ["title:oat milk|acme", "Oat milk", "Acme", ""],
    ]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_changed_byte_is_refused(made, data):
    whole = make_catalogue("groceries", "books", PUBLIC, made.identity, made.time)
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises((TamperedError, WrongPartyError)):
        read_catalogue(bytes(changed), "file", "groceries")


def test_another_key_than_the_one_it_names_did_not_sign_it(made, data):
    body = json.loads(data)["body"]
    with pytest.raises(TamperedError, match="is not signed by the identity key"):
        read_catalogue(sign(FORMAT, body, made.federation), "file", "groceries")


def test_a_catalogue_for_another_federation_or_of_another_kind_is_refused(made, data):
    with pytest.raises(WrongPartyError, match="for federation 'groceries'"):
        read_catalogue(data, "file", "toys")
    with pytest.raises(WrongPartyError, match="fedcart-request/1"):
        read_catalogue(made.request, "file", "groceries")


@pytest.mark.parametrize(
    "row",
    [
        ["gtin:04006381333932", "Textmarker", "", ""],  # wrong check digit
        ["gtin:4006381333931", "Textmarker", "", ""],  # not 14 digits
        ["code:4006381333931", "Textmarker", "", ""],  # another kind
        ["code:AB", "Textmarker", "", ""],
        ["title:oat milk|acme", "Garden hose", "Acme", ""],
        ["none:", "", "", ""],
        ["", "", "", ""],
        ["gtin:04006381333931", "Text\u202emarker", "", ""],
        ["gtin:04006381333931", "a\nb", "", ""],
        ["gtin:04006381333931", "x" * 501, "", ""],
        ["gtin:04006381333931", "Textmarker", ""],
        ["gtin:04006381333931", "Textmarker", "", 5],
        ["gtin:04006381333931", "Textmarker", "", "", "9.99"],
        "gtin:04006381333931",
        [],
    ],
)
def test_what_fedcart_never_publishes_is_refused_though_it_is_signed(made, data, row):
    body = json.loads(data)["body"]
    with pytest.raises(TamperedError, match="no catalogue that fedcart wrote"):
        read_catalogue(sign(FORMAT, body | {"products": [row]}, made.identity), "file", "groceries")


@pytest.mark.parametrize(
    "change",
    [{"sales": [1, 2]}, {"issued": "yesterday"}, {"platform": "../x"}, {"products": {}}, {"products": None}],
)
def test_a_body_with_more_or_other_fields_is_refused(made, data, change):
    body = json.loads(data)["body"] | change
    with pytest.raises(TamperedError, match="no catalogue that fedcart wrote"):
        read_catalogue(sign(FORMAT, body, made.identity), "file", "groceries")


def test_a_key_that_is_there_twice_is_refused(made, data):
    body = json.loads(data)["body"]
    body["products"] = body["products"][:1] * 2
    with pytest.raises(TamperedError, match="must differ"):
        read_catalogue(sign(FORMAT, body, made.identity), "file", "groceries")


@pytest.fixture
def vocabulary():
    return Vocabulary.empty().grown([PUBLIC], ENCODERS, 3)


@pytest.fixture
def record(vocabulary, made):
    share = Share(catalogue="ab" * 32, issued="2026-03-01T12:00:00Z", products=2)
    return VocabularyRecord(
        federation="groceries",
        number=1,
        parent="",
        digest=vocabulary.digest,
        products=2,
        edges=len(vocabulary.edges),
        neighbours=3,
        encoders=identities_to_json([encoder.identity for encoder in ENCODERS]),
        issued="2026-03-01T12:00:00Z",
        shares={"books": share},
    )


def test_a_record_is_the_federations_and_names_one_vocabulary(made, record, vocabulary, tmp_path):
    data, key = make_record(record, made.federation), signing_text(made.federation)
    assert read_record(data, "file", "groceries", key) == record
    path = tmp_path / "vocabulary"
    path.write_bytes(vocabulary_bytes(vocabulary))
    assert recorded_vocabulary(path, record).keys == vocabulary.keys
    other = vocabulary.grown([PublicCatalogue(("code:x",), ("x",), ("",), ("",))], ENCODERS, 3)
    path.write_bytes(vocabulary_bytes(other))
    with pytest.raises(WrongPartyError, match="the signed record names"):
        recorded_vocabulary(path, record)


def test_a_record_of_another_key_federation_or_with_a_changed_byte_is_refused(made, record):
    data, key = make_record(record, made.federation), signing_text(made.federation)
    with pytest.raises(TamperedError, match="not signed by the federation's signing key"):
        read_record(make_record(record, made.identity), "file", "groceries", key)
    with pytest.raises(WrongPartyError, match="and this is 'toys'"):
        read_record(data, "file", "toys", key)
    with pytest.raises(TamperedError):
        read_record(data.replace(b'"products": 2', b'"products": 3', 1), "file", "groceries", key)
    odd = sign("fedcart-vocabulary/1", record.model_dump() | {"digest": "x"}, made.federation)
    with pytest.raises(TamperedError, match="no record that fedcart wrote"):
        read_record(odd, "file", "groceries", key)
    odd = sign("fedcart-vocabulary/1", record.model_dump() | {"encoders": "{"}, made.federation)
    with pytest.raises(TamperedError, match="no record that fedcart wrote"):
        read_record(odd, "file", "groceries", key)
