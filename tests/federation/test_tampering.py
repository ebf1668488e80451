"""Requests and kits are accepted in exactly one form: any changed, lost or added byte is refused."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import EnrolmentError, TamperedError, WrongPartyError
from federation.keys import signing_text
from federation.kit import read_kit
from federation.request import read_request
from federation.signed import parse, sign


@pytest.fixture(scope="session", params=["request", "rotation", "kit"])
def file(request, made):
    """Return the bytes of a signed file and what reads it."""
    data = getattr(made, request.param)
    if request.param == "kit":
        return data, lambda d: read_kit(d, "file")
    return data, lambda d: read_request(d, "file", "groceries", made.time)


def test_what_was_written_is_read(file):
    data, read = file
    read(data)


def test_every_byte_counts(file):
    data, read = file
    for place, byte in enumerate(data):
        for bit in {place % 8, 5}:  # 5 changes the case of a letter
            changed = data[:place] + bytes([byte ^ 1 << bit]) + data[place + 1 :]
            with pytest.raises(EnrolmentError):
                read(changed)


def test_every_length_counts(file):
    data, read = file
    for length in range(0, len(data), 7):
        with pytest.raises(TamperedError):
            read(data[:length])
    for more in (b"\n", b" ", b"{}", b"\x00", data):
        with pytest.raises(TamperedError):
            read(data + more)
        with pytest.raises(TamperedError):
            read(more + data)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_no_other_bytes_mean_the_same(file, data):
    whole, read = file
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 40)))
    changed = whole[:start] + data.draw(st.binary(max_size=40)) + whole[end:]
    if changed != whole:
        with pytest.raises(EnrolmentError):
            read(changed)


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_no_field_can_be_changed_by_someone_without_the_key(file, data):
    whole, read = file
    document = json.loads(whole)
    path = data.draw(st.sampled_from(list(leaves(document["body"]))))
    holder = document["body"]
    for key in path[:-1]:
        holder = holder[key]
    old = holder[path[-1]]
    holder[path[-1]] = data.draw(
        st.one_of(st.none(), st.integers(-5, 5), st.text(max_size=9), st.just([]), st.floats(), st.just({}))
    )
    if holder[path[-1]] == old and type(holder[path[-1]]) is type(old):
        return
    with pytest.raises(EnrolmentError):
        read(json.dumps(document, sort_keys=True, indent=2).encode() + b"\n")


def leaves(value, path=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    else:
        yield path


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"platform": "books"', '"platform": "\\u0062ooks"'),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace('  "', '\t"'),
        lambda text: text.replace('"platform": "books"', '"platform": "books", "platform": "books"'),
        lambda text: json.dumps(json.loads(text), sort_keys=True),
        lambda text: json.dumps(json.loads(text), indent=2),
        lambda text: text.encode("utf-16").decode("latin-1"),
        lambda text: "\ufeff" + text,
    ],
    ids=["escape", "crlf", "tabs", "twice", "compact", "order", "utf-16", "bom"],
)
def test_another_spelling_is_another_file(file, change):
    data, read = file
    changed = change(data.decode()).encode("utf-8")
    if changed == data:
        pytest.skip("this file is spelt so already")
    with pytest.raises(TamperedError, match="not byte for byte"):
        read(changed)


def test_one_kind_is_not_read_as_another(made):
    with pytest.raises(
        WrongPartyError, match=r"is a fedcart-kit/1 file; this command takes fedcart-request/1"
    ):
        read_request(made.kit, "file", "groceries", made.time)
    with pytest.raises(WrongPartyError, match=r"is a fedcart-request/1 file"):
        read_kit(made.request, "file")


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"format": 1}', b"PK\x03\x04" + bytes(100)],
)
def test_any_other_file_is_refused(data, made):
    with pytest.raises(TamperedError):
        read_request(data, "file", "groceries", made.time)


def test_the_signature_says_which_kind_it_is_of(made):
    """A body signed as one kind is not accepted as another."""
    body = json.loads(made.request)["body"]
    as_other = sign("fedcart-other/1", body, made.identity)
    moved = as_other.replace(b"fedcart-other/1", b"fedcart-request/1")
    with pytest.raises(TamperedError, match="not signed by"):
        parse(moved, "fedcart-request/1", "file").require(signing_text(made.identity), "its key")
