"""Encoders: the same text gives the same numbers everywhere, and a different encoder is noticed."""

import dataclasses
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model import encoders
from shared_model.encoders import (
    EncoderIdentity,
    HashedWordsEncoder,
    identities_from_json,
    identities_to_json,
    require_same_identity,
)
from shared_model.errors import EncoderError

SMALL = HashedWordsEncoder(dimension=64, buckets=2**10)
CATALOGUE = [
    "Organic oat milk 1 L",
    "oat milk organic barista",
    "Garden hose 25 m with reel",
    "garden shears",
    "the and of",
    "",
]


@pytest.mark.parametrize(
    "change",
    [
        {"dimension": 72},
        {"buckets": 2**11},
        {"word_weight": 1.5},
        {"number_weight": 0.31},
        {"bigram_weight": 0.0},
    ],
)
def test_identity_changes_with_every_setting(change):
    assert dataclasses.replace(SMALL, **change).identity != SMALL.identity


def test_the_settings_above_are_all_there_are():
    assert {f.name for f in dataclasses.fields(SMALL) if f.compare} == {
        "dimension",
        "buckets",
        "word_weight",
        "number_weight",
        "bigram_weight",
    }


def test_identity_changes_with_stop_words_and_tokens(monkeypatch):
    def identity():
        return HashedWordsEncoder(dimension=8, buckets=2**4).identity

    before = identity()
    monkeypatch.setattr(encoders, "_STOP_WORDS", encoders._STOP_WORDS - {"the"})
    without = identity()
    monkeypatch.setattr(encoders, "_TOKEN", re.compile("[a-z]+"))
    assert len({before, without, identity()}) == 3


def test_equal_settings_have_equal_identities():
    assert HashedWordsEncoder(dimension=64, buckets=2**10).identity == SMALL.identity
    assert SMALL.identity.dimension == 64


def test_another_process_has_the_same_identity_and_features():
    program = (
        "import hashlib, json, sys\n"
        "from shared_model.encoders import HashedWordsEncoder, identities_to_json\n"
        "encoder = HashedWordsEncoder(dimension=64, buckets=2**10)\n"
        "texts = json.loads(sys.argv[1])\n"
        "rows = encoder.encode(texts, texts)\n"
        "print(identities_to_json([encoder.identity]), hashlib.sha256(rows.tobytes()).hexdigest())\n"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program, json.dumps(CATALOGUE)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    rows = hashlib.sha256(SMALL.encode(CATALOGUE, CATALOGUE).tobytes()).hexdigest()
    assert answers == {f"{identities_to_json([SMALL.identity])} {rows}"}


def test_a_known_text_keeps_its_features_for_ever():
    """A change of these numbers breaks every published model: raise the encoder's version instead."""
    assert SMALL.identity.sha256.startswith("27d460d256b9")
    assert HashedWordsEncoder().identity.sha256.startswith("a7c32474e9b8")
    first = SMALL.encode(["oat milk 2 l"], CATALOGUE)[0, :4]
    assert first.tolist() == pytest.approx([0.224783, 0.079869, -0.091483, 0.294585], abs=1e-5)


def naive_features(encoder, texts, catalogue):
    """Return the features from their definition, in float64 loops over tokens."""
    width = encoder.dimension // 8
    stream = hashlib.shake_256(b"fedcart hashed-words 1").digest(encoder.buckets * width)

    def sign_row(bucket):
        part = stream[bucket * width : (bucket + 1) * width]
        return np.array([1.0 if byte >> (7 - bit) & 1 else -1.0 for byte in part for bit in range(8)])

    def tokens_of(text):
        words = [
            w for w in re.findall(r"[a-z]+|\d+(?:\.\d+)?", text.lower()) if w not in encoders._STOP_WORDS
        ]
        kinds = [(w, encoder.number_weight if w[0].isdigit() else encoder.word_weight) for w in words]
        kinds += [(f"{a} {b}", encoder.bigram_weight) for a, b in itertools.pairwise(words)]
        return [(zlib.crc32(token.encode()) % encoder.buckets, weight) for token, weight in kinds]

    holding = [{bucket for bucket, _ in tokens_of(text)} for text in catalogue]
    rows = np.zeros((len(texts), encoder.dimension))
    for at, text in enumerate(texts):
        for bucket, weight in tokens_of(text):
            df = max(sum(bucket in buckets for buckets in holding), 1)
            rows[at] += weight * np.log1p(len(catalogue) / df) * sign_row(bucket)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


def test_features_are_what_the_definition_says():
    texts = [*CATALOGUE, "milk milk milk 3.5 %", "unheard words"]
    np.testing.assert_allclose(
        SMALL.encode(texts, CATALOGUE), naive_features(SMALL, texts, CATALOGUE), atol=2e-6
    )


def test_text_without_a_known_word_is_a_zero_row():
    rows = SMALL.encode(["", "   ", "the and of", "—", "oat"], CATALOGUE)
    assert not rows[:4].any()
    assert rows[4].any()


@given(st.lists(st.text(max_size=40), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_rows_are_unit_or_zero_and_do_not_depend_on_their_neighbours(texts):
    rows = SMALL.encode(texts, CATALOGUE)
    assert rows.shape == (len(texts), 64)
    assert rows.dtype == np.float32
    for text, row, norm in zip(texts, rows, np.linalg.norm(rows, axis=1), strict=True):
        assert norm == 0 or norm == pytest.approx(1, abs=1e-5)
        np.testing.assert_array_equal(SMALL.encode([text], CATALOGUE)[0], row)


def test_no_texts_give_no_rows():
    assert SMALL.encode([], CATALOGUE).shape == (0, 64)
    assert SMALL.encode(["oat"], []).shape == (1, 64)


def test_related_texts_are_closer_than_unrelated_ones():
    encoder = HashedWordsEncoder()
    milk, barista, hose, shears, *_ = encoder.encode(CATALOGUE, CATALOGUE)
    assert milk @ barista > 0.4
    assert hose @ shears > 0.1
    assert max(abs(milk @ hose), abs(barista @ shears)) < 0.1


def test_words_that_every_item_shares_count_little():
    catalogue = [f"acme product {word}" for word in ("lamp", "chair", "spoon", "kettle", "carpet", "mirror")]
    rows = HashedWordsEncoder().encode(catalogue, catalogue)
    alone = HashedWordsEncoder().encode(catalogue, [])
    assert rows[0] @ rows[1] < alone[0] @ alone[1] - 0.2


@pytest.mark.parametrize("dimension", [0, -8, 12])
def test_a_width_that_is_no_multiple_of_eight_is_refused(dimension):
    with pytest.raises(EncoderError, match=f"multiple of 8, not {dimension}"):
        HashedWordsEncoder(dimension=dimension)


IDENTITY = EncoderIdentity("hashed-words", "1", "ab" * 32, 768)


def test_identities_survive_their_journey():
    both = [IDENTITY, EncoderIdentity("minilm", "2.1", "cd" * 32, 384)]
    assert identities_from_json(identities_to_json(both)) == both


@pytest.mark.parametrize(
    "text",
    ["", "{", "5", "[5]", '[{"name": "x"}]', '[{"name":"x","version":"1","sha256":"","dim":3}]', "null"],
)
def test_identities_that_cannot_be_read_are_refused(text):
    with pytest.raises(EncoderError, match="cannot be read"):
        identities_from_json(text)


@pytest.mark.parametrize("weight", ["0", "-1", "NaN", "Infinity"])
def test_an_encoder_that_counts_for_nothing_or_no_number_is_refused(weight):
    text = identities_to_json([IDENTITY]).replace('"prior_weight":1.0', f'"prior_weight":{weight}')
    with pytest.raises(EncoderError, match="prior_weight must be a finite number above 0"):
        identities_from_json(text)


@pytest.mark.parametrize(
    "other",
    [
        [dataclasses.replace(IDENTITY, name="hashed")],
        [dataclasses.replace(IDENTITY, version="2")],
        [dataclasses.replace(IDENTITY, sha256="ef" * 32)],
        [dataclasses.replace(IDENTITY, dimension=760)],
        [dataclasses.replace(IDENTITY, prior_weight=0.5)],
        [],
        [IDENTITY, IDENTITY],
    ],
)
def test_another_identity_is_refused_and_both_are_named(other):
    require_same_identity([IDENTITY], [IDENTITY])
    with pytest.raises(EncoderError) as refusal:
        require_same_identity([IDENTITY], other)
    message = str(refusal.value)
    for identity in (IDENTITY, *other):
        assert f"{identity.name}/{identity.version} ({identity.dimension} wide" in message
        assert identity.sha256[:12] in message


def test_the_order_of_encoders_matters():
    second = dataclasses.replace(IDENTITY, name="minilm")
    with pytest.raises(EncoderError):
        require_same_identity([IDENTITY, second], [second, IDENTITY])
