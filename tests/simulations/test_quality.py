"""The quality of a ranking, by hand on a small platform."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from clients.data.catalogue import Catalogue
from clients.data.sequences import Sequences
from clients.data.split import leave_one_out
from clients.evaluation import Ranking
from clients.platform import Platform
from shared_model.model import ModelSpec, block_norms
from simulations.quality import CUTOFFS, quality

HISTORIES = [[0, 1, 2], [0, 1, 3], [0, 4], [5]]  # the last has nothing held out
FEATURES = torch.eye(6)


def platform() -> Platform:
    lengths = [len(h) for h in HISTORIES]
    sequences = Sequences(
        tuple(f"u{n}" for n in range(4)),
        np.array([i for h in HISTORIES for i in h], np.int64),
        np.array([n for length in lengths for n in range(length)], np.int64),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )
    spec = ModelSpec((6,), 4)
    return Platform(
        name="crafted",
        catalogue=Catalogue(tuple(f"i{n}" for n in range(6)), pd.DataFrame(index=range(6))),
        split=leave_one_out(sequences, first_time_only=True, seed=0),
        spec=spec,
        features=FEATURES,
        norms=block_norms(spec, FEATURES),
        isolation=torch.zeros(6),
        filter_seen=True,
        reports=(None, None),  # type: ignore[arg-type]
        fingerprint="",
        scoring=torch.float32,
    )


def measured(ranks, lists):
    return quality(platform(), Ranking(np.array(ranks), np.array(lists)), np.random.default_rng(0))


def test_every_metric_by_hand():
    """Before the test items 2, 3 and 4, three shoppers had item 0, two item 1, one item 5."""
    found = measured([1.0, 15.0, 40.0], [[2, 3], [2, 5], [1, -1]])
    means = {name: e.mean for name, e in found.means.items()}
    for k, hits in zip(CUTOFFS, ([1], [1, 15], [1, 15, 40]), strict=True):
        assert means[f"recall@{k}"] == pytest.approx(len(hits) / 3)
        assert means[f"precision@{k}"] == pytest.approx(len(hits) / 3 / k)
        assert means[f"f1@{k}"] == pytest.approx(2 * len(hits) / 3 / (k + 1))
        assert means[f"ndcg@{k}"] == pytest.approx(sum(1 / math.log2(1 + r) for r in hits) / 3)
        assert means[f"mrr@{k}"] == means[f"map@{k}"] == pytest.approx(sum(1 / r for r in hits) / 3)
    assert means["mrr"] == pytest.approx((1 + 1 / 15 + 1 / 40) / 3)
    assert means["novelty@10"] == pytest.approx((2 + 2 + 1) / 3)  # −log2 of 1/4, 1/4 and 1/4, and 2/4
    assert means["serendipity@10"] == pytest.approx((1 / 2 + 0 + 0) / 3)  # nobody had item 2: p = 1 − 0
    assert means["diversity@10"] == pytest.approx(1.0)  # the third list has no pair
    assert found.totals["coverage@10"] == pytest.approx(4 / 6)
    assert found.totals["gini@10"] == pytest.approx((-5 * 0 - 3 * 0 - 1 + 1 + 3 + 5 * 2) / (6 * 5))
    assert found.totals["popularity_lift@10"] == pytest.approx((0 + 0.5 + 2) / (2.5 + 2.5 + 3) - 1)
    for estimate in found.means.values():
        assert estimate.low <= estimate.mean <= estimate.high


def test_lists_are_measured_to_their_tenth_place():
    longer = measured([1.0, 2.0, 3.0], [[2, 3] + [-1] * 8 + [5]] * 3)
    assert longer.to_json() == measured([1.0, 2.0, 3.0], [[2, 3]] * 3).to_json()


def test_the_result_names_values_and_intervals():
    found = measured([1.0, 15.0, 40.0], [[2, 3], [2, 5], [1, -1]]).to_json()
    intervals = found.pop("intervals")
    assert set(found) - set(intervals) == {"coverage@10", "gini@10", "popularity_lift@10"}
    assert all(intervals[n][0] <= found[n] <= intervals[n][1] for n in intervals)
