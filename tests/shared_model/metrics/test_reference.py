"""Metrics against RecTools and LensKit, whose values on random cases are kept in files (see make_reference.py).

Where fedcart differs on purpose, it is written here: RecTools gives a list of one item diversity 0 and a shopper
without relevant items serendipity 0 (fedcart: no value), and has no value for a shopper with an empty list.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from shared_model.metrics import (
    average_popularity,
    average_precision_at,
    coverage,
    f1_at,
    gini,
    intra_list_diversity,
    list_ranks,
    ndcg_at,
    novelty,
    precision_at,
    recall_at,
    reciprocal_rank,
    rmse,
    serendipity,
)

HERE = Path(__file__).parent
RECTOOLS = json.loads((HERE / "reference_rectools.json").read_text("utf-8"))
LENSKIT = json.loads((HERE / "reference_lenskit.json").read_text("utf-8"))
CUTOFFS = (1, 3, 5, 10, 20)
ACCURACY = {
    "recall": recall_at,
    "precision": precision_at,
    "f1": f1_at,
    "ndcg": ndcg_at,
    "mrr": reciprocal_rank,
    "map": average_precision_at,
}
CASES = pytest.mark.parametrize("case", RECTOOLS["cases"], ids=range(len(RECTOOLS["cases"])))


def floats(values):
    return np.array([np.nan if v is None else v for v in values])


@CASES
@pytest.mark.parametrize("k", CUTOFFS)
@pytest.mark.parametrize("name", ACCURACY)
def test_accuracy_equals_rectools(case, k, name):
    got = ACCURACY[name](list_ranks(case["lists"], case["relevant"]), k)
    theirs = floats(case["values"][f"{name}@{k}"])
    assert theirs.max(initial=0, where=~np.isnan(theirs)) > 0
    assert got == pytest.approx(theirs, abs=1e-12, nan_ok=True)


@CASES
@pytest.mark.parametrize("k", CUTOFFS)
def test_lists_equal_rectools(case, k):
    lists, values, items = np.array(case["lists"])[:, :k], case["values"], case["items"]
    histories = np.array(case["histories"])
    counts = np.bincount(histories[histories >= 0], minlength=items)
    theirs = {
        name: floats(values[f"{name}@{k}"]) for name in ("novelty", "popularity", "diversity", "serendipity")
    }
    assert novelty(lists, counts, len(lists)) == pytest.approx(theirs["novelty"], abs=1e-12, nan_ok=True)
    assert average_popularity(lists, counts) == pytest.approx(theirs["popularity"], abs=1e-12, nan_ok=True)
    assert coverage(lists, items) == pytest.approx(values[f"coverage@{k}"])
    several = (lists >= 0).sum(axis=1) > 1
    diversity = intra_list_diversity(lists, torch.tensor(case["features"], dtype=torch.float64))
    assert diversity[several] == pytest.approx(theirs["diversity"][several], abs=1e-12)
    assert np.isnan(diversity[~several]).all()
    assert set(theirs["diversity"][(lists >= 0).sum(axis=1) == 1]) <= {0}
    listed, asked = lists[:, 0] >= 0, np.array(case["relevant"])[:, 0] >= 0
    surprise = serendipity(lists, case["relevant"], counts)
    assert (listed & asked).any()
    assert surprise[listed & asked] == pytest.approx(theirs["serendipity"][listed & asked], abs=1e-12)
    assert np.isnan(surprise[~asked]).all()
    assert set(theirs["serendipity"][listed & ~asked]) <= {0}
    assert np.isnan(theirs["serendipity"][~listed]).all()


@pytest.mark.parametrize("case", LENSKIT["cases"], ids=range(len(LENSKIT["cases"])))
@pytest.mark.parametrize("k", CUTOFFS)
def test_gini_equals_lenskit(case, k):
    got = gini(np.array(case["lists"])[:, :k], case["items"])
    assert got == pytest.approx(case["values"][f"gini@{k}"], abs=1e-12)


def test_errors_of_ratings_equal_lenskit():
    ratings = LENSKIT["ratings"]
    width = max(map(len, ratings["actual"]))
    padded = [
        np.array([row + [np.nan] * (width - len(row)) for row in ratings[name]])
        for name in ("predicted", "actual")
    ]
    assert rmse(*padded) == pytest.approx(ratings["rmse"])


def test_the_files_say_which_versions_made_them():
    assert RECTOOLS["versions"]["rectools"] == "0.19.0"
    assert LENSKIT["versions"]["lenskit"] == "2025.8.1"
