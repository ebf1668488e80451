"""The approximate index: its candidates are scored exactly, filters hold, and its recall is measured."""

import numpy as np
import pytest

from clients.serving.asks import RecommendAsk, Who
from clients.serving.engine import recommend
from clients.serving.index import load_index
from clients.serving.recall import index_recall
from clients.serving.shelf import Filters


@pytest.fixture
def both(make, monkeypatch):
    """Return the exact and the approximate snapshot of one shop of 4,000 items."""
    monkeypatch.setattr("clients.serving.candidates.GATHERED", 0)
    return make(items=4000).snapshot, make(items=4000, index="approximate").snapshot


def test_scores_are_exact_and_filters_hold(both):
    exact, near = both
    for name in exact.shoppers.sequences.user_ids:
        filters = Filters(categories=frozenset({"lamp", "milk"}), max_price=3000)
        asks = [RecommendAsk(Who(name), count=20, filters=filters)]
        (one,), (other,) = recommend(exact, asks), recommend(near, asks)
        scores = {i.item: i.score for i in one.items}
        for item in other.items:
            row = near.shelf.rows[item.item]
            assert near.shelf.prices[row] <= 3000
            assert row % 8 in {0, 2}
            if item.item in scores:
                assert item.score == pytest.approx(scores[item.item], abs=1e-4)


def test_recall_is_measured(both):
    exact, near = both
    found = index_recall(near, "model")
    assert found.shoppers == 12
    assert 0.8 < found.share <= 1
    assert index_recall(exact, "model") is None


def test_a_kept_index_is_read_again_and_a_damaged_one_built_anew(make, tmp_path):
    make(items=400, index="approximate")
    (file,) = (tmp_path / "serving").glob("*.faiss")
    before = file.stat().st_mtime_ns
    make(items=400, index="approximate")
    assert file.stat().st_mtime_ns == before
    file.write_bytes(file.read_bytes()[:100])
    assert load_index(file, 400, 24) is None
    assert make(items=400, index="approximate").snapshot.arms["model"].index is not None
    assert len(file.read_bytes()) > 100
    assert np.all(make(items=400, index="approximate").snapshot.arms["model"].index.popular < 400)
