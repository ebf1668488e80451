"""Membership inference: the numbers by hand, and their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from privacy.audit import clopper_pearson, likelihood_ratio, lira
from privacy.errors import PlanError


def test_by_hand_with_ties():
    found = lira(np.array([3.0, 2.0, 1.0]), np.array([2.0, 0.0]), target_fpr=0.5)
    assert found.auc == pytest.approx((2 + 1.5 + 1) / 6)
    # one of two others may be a false positive: the threshold is the second highest of them
    assert (found.threshold, found.fpr, found.tpr) == (0.0, 0.5, 1.0)
    assert found.tpr_interval == clopper_pearson(3, 3, 0.95)


def test_without_enough_others_no_false_positive_is_allowed():
    found = lira(np.array([5.0, 0.0]), np.arange(5.0), target_fpr=0.001)
    assert (found.fpr, found.tpr, found.threshold) == (0.0, 0.5, 4.0)


def test_gaussian_scores_give_the_known_rates():
    rng, mu = np.random.default_rng(5), 2.0
    found = lira(rng.normal(mu, 1, 20_000), rng.normal(0, 1, 20_000))
    auc = stats.norm.cdf(mu / math.sqrt(2))
    assert found.auc_interval[0] < auc < found.auc_interval[1]
    assert found.fpr <= 0.001
    assert found.tpr == pytest.approx(stats.norm.sf(stats.norm.isf(0.001) - mu), abs=0.03)


def test_the_auc_interval_covers_as_often_as_it_says():
    rng, mu = np.random.default_rng(6), 1.0
    truth = stats.norm.cdf(mu / math.sqrt(2))
    intervals = [lira(rng.normal(mu, 1, 80), rng.normal(0, 1, 120)).auc_interval for _ in range(400)]
    assert 0.92 < np.mean([low < truth < high for low, high in intervals]) < 0.98


def test_likelihood_ratios_of_members_are_larger():
    rng = np.random.default_rng(8)
    hardness = rng.normal(0, 3, 500)  # users differ more than membership changes them
    shadows = [hardness + shift + rng.normal(0, 0.5, (16, 500)) for shift in (1.0, 0.0)]
    member = rng.random(500) < 0.5
    observed = hardness + member + rng.normal(0, 0.5, 500)
    scores = likelihood_ratio(observed, *shadows)
    assert lira(scores[member], scores[~member]).auc > 0.9
    assert lira(observed[member], observed[~member]).auc < 0.65


def test_unusable_scores_are_refused():
    good = np.zeros(3)
    for bad in (np.zeros(1), np.array([0.0, math.nan]), np.zeros((2, 2))):
        with pytest.raises(PlanError):
            lira(bad, good)
        with pytest.raises(PlanError):
            lira(good, bad)
    with pytest.raises(PlanError):
        lira(good, good, target_fpr=0.0)
    with pytest.raises(PlanError):
        likelihood_ratio(good, np.zeros((1, 3)), np.zeros((4, 3)))
