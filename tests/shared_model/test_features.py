"""Features by name, concatenated, and a cache that never returns anything but what was computed."""

import hashlib
import io
import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared_model import features
from shared_model.encoders import EncoderIdentity, HashedWordsEncoder
from shared_model.errors import EncoderError
from shared_model.features import FeatureCache, catalogue_isolation, encode_catalogue, make_encoders
from shared_model.isolation import isolation
from shared_model.model import ModelSpec, block_norms

TEXTS = ["oat milk", "garden hose", ""]


class Counting:
    """An encoder that counts how often it is asked."""

    def __init__(self, name="counting"):
        self.identity = EncoderIdentity(name, "1", "00" * 32, 16)
        self.calls = 0
        self._inner = HashedWordsEncoder(dimension=16, buckets=2**8)

    def encode(self, texts, catalogue):
        self.calls += 1
        return self._inner.encode(texts, catalogue)


@pytest.fixture
def encoder():
    return Counting()


@pytest.mark.parametrize("names", [["nonsense"], ["hashed-words", "hashed-words"], [], ["hashed-words", ""]])
def test_names_that_cannot_be_used_are_shown_with_those_that_can(names):
    with pytest.raises(EncoderError) as refusal:
        make_encoders(names)
    assert repr(names) in str(refusal.value)
    assert "'hashed-words', 'minilm'" in str(refusal.value)


def test_encoders_come_in_the_order_asked_for():
    assert [e.identity.name for e in make_encoders(["hashed-words"])] == ["hashed-words"]


def test_features_stand_side_by_side():
    narrow, wide = HashedWordsEncoder(dimension=8), HashedWordsEncoder(dimension=24)
    rows = encode_catalogue([narrow, wide], TEXTS)
    np.testing.assert_array_equal(rows[:, :8], narrow.encode(TEXTS, TEXTS))
    np.testing.assert_array_equal(rows[:, 8:], wide.encode(TEXTS, TEXTS))


def test_the_second_time_nothing_is_encoded(encoder, tmp_path):
    folder = tmp_path / "not" / "there"
    first = encode_catalogue([encoder], TEXTS, FeatureCache(folder))
    again = encode_catalogue([encoder], TEXTS, FeatureCache(folder))
    assert encoder.calls == 1
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, encoder.encode(TEXTS, TEXTS))
    assert len(list(folder.iterdir())) == 1


def test_other_texts_or_another_identity_are_other_entries(encoder, tmp_path):
    cache = FeatureCache(tmp_path)
    contents = [["ab", "c"], ["a", "bc"], ["abc", ""], ["c", "ab"], ["ab", "c", ""]]
    for texts in contents:
        np.testing.assert_array_equal(cache.features(encoder, texts), encoder._inner.encode(texts, texts))
    assert encoder.calls == len(contents)
    other = Counting("other")
    cache.features(other, contents[0])
    assert other.calls == 1


def stored(encoder, folder):
    FeatureCache(folder).features(encoder, TEXTS)
    (path,) = folder.iterdir()
    return path


@given(data=st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_computed_again(data, tmp_path_factory):
    folder, encoder = tmp_path_factory.mktemp("cache"), Counting()
    path = stored(encoder, folder)
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1), label="at")
    if data.draw(st.booleans(), label="cut"):
        path.write_bytes(whole[:at])
    else:
        path.write_bytes(
            whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255), label="flip")]) + whole[at + 1 :]
        )
    rows = FeatureCache(folder).features(encoder, TEXTS)
    np.testing.assert_array_equal(rows, encoder._inner.encode(TEXTS, TEXTS))
    assert encoder.calls == 2
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((3, 16)),
        np.zeros((2, 16), np.float32),
        np.zeros((3, 8), np.float32),
        np.full((3, 16), np.nan, np.float32),
    ],
    ids=["float64", "rows", "columns", "nan"],
)
def test_a_whole_file_of_another_kind_is_computed_again(rows, encoder, tmp_path):
    path = stored(encoder, tmp_path)
    body = io.BytesIO()
    np.save(body, rows)
    path.write_bytes(hashlib.sha256(body.getvalue()).digest() + body.getvalue())
    np.testing.assert_array_equal(
        FeatureCache(tmp_path).features(encoder, TEXTS), encoder._inner.encode(TEXTS, TEXTS)
    )
    assert encoder.calls == 2


def test_a_crash_while_writing_leaves_no_half_entry(encoder, tmp_path, monkeypatch):
    def crash(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(OSError, match="no space"):
            FeatureCache(tmp_path).features(encoder, TEXTS)
    rows = FeatureCache(tmp_path).features(encoder, TEXTS)
    np.testing.assert_array_equal(rows, encoder._inner.encode(TEXTS, TEXTS))
    assert encoder.calls == 2


def test_isolation_is_computed_once_for_a_catalogue_and_again_for_another(tmp_path, monkeypatch):
    made, cache, spec = [], FeatureCache(tmp_path), ModelSpec((16,))
    monkeypatch.setattr(features, "isolation", lambda *args: made.append(1) or isolation(*args))

    def of(texts):
        rows = torch.from_numpy(encode_catalogue([Counting()], texts, cache))
        norms = block_norms(spec, rows)
        found = catalogue_isolation([Counting()], texts, spec, rows, norms, cache)
        torch.testing.assert_close(found, isolation(spec, rows, norms))

    for texts, calls in ((TEXTS, 1), (TEXTS, 1), ([*TEXTS, "another hose"], 2), (TEXTS, 2)):
        of(texts)
        assert len(made) == calls
