"""The benchmark of the vocabulary, small."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks.vocabulary import app, made_up, nearest_of
from shared_model import neighbours
from shared_model.features import make_encoders
from shared_model.neighbours import text_rows


def measured(*arguments):
    done = CliRunner().invoke(app, ["--format", "json", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_one_by_one_it_finds_all_neighbours():
    found = measured("--products", 300, "--neighbours", 5, "--sample", 40)
    assert found["recall"] == 1.0
    assert found["edges"] > 300
    assert set(found["stages"]) == {"encoded", "compared"}


def test_real_titles_are_used_and_the_index_is_judged(tmp_path, monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr(neighbours, "EXACT_UP_TO", 100)
    names = made_up(np.random.default_rng(1), [], 600)
    pd.DataFrame({"item_id": range(600), "title": names}).to_parquet(tmp_path / "items.parquet")
    found = measured("--products", 900, "--neighbours", 5, "--sample", 100, "--titles", tmp_path)
    assert found["real_titles"] == 600
    assert 0.5 < found["recall"] <= 1.0


def test_the_exact_neighbours_are_those_of_a_full_comparison():
    texts = made_up(np.random.default_rng(2), [], 200)
    encode = text_rows(make_encoders(["hashed-words"]), texts)
    rows = encode(texts)
    similar = rows @ rows.T
    np.fill_diagonal(similar, -1)
    sample = np.array([3, 50, 199])
    found = nearest_of(encode, texts, sample, 4)
    for number, near in zip(sample, found, strict=True):
        assert np.sort(similar[number, near]) == pytest.approx(np.sort(similar[number])[-4:], abs=1e-6)
