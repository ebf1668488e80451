"""Membership inference: the numbers by hand, and their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from privacy.audit import clopper_pearson, leave_one_out, membership_inference
from privacy.errors import PlanError


def measured(inside, outside, **options):
    """Measure one model's members and others."""
    scores = np.array([[*inside, *outside]], dtype=float)
    members = np.arange(scores.shape[1])[None] < len(inside)
    return membership_inference(scores, members, rng=np.random.default_rng(0), **options)


def test_by_hand_with_ties():
    found = measured([3, 2, 1], [2, 0], target_fprs=[0.5])
    assert found.auc == pytest.approx((2 + 1.5 + 1) / 6)
    (rate,) = found.rates  # one of two others may be a false positive
    assert (rate.fpr, rate.tpr) == (0.5, 1.0)
    assert rate.tpr_interval[0] <= clopper_pearson(3, 3, 0.95)[0]
    assert (found.members, found.others, found.users, found.models) == (3, 2, 5, 1)


def test_without_enough_others_no_false_positive_is_allowed():
    found = measured([5, 0], range(5), target_fprs=[0.001])
    assert (found.rates[0].fpr, found.rates[0].tpr) == (0.0, 0.5)


def test_gaussian_scores_give_the_known_rates():
    rng, mu = np.random.default_rng(5), 2.0
    found = measured(rng.normal(mu, 1, 20_000), rng.normal(0, 1, 20_000), resamples=50)
    auc = stats.norm.cdf(mu / math.sqrt(2))
    assert found.auc_interval[0] < auc < found.auc_interval[1]
    for rate in found.rates:
        assert rate.fpr <= rate.target_fpr
        assert rate.tpr == pytest.approx(stats.norm.sf(stats.norm.isf(rate.target_fpr) - mu), abs=0.03)
        assert rate.tpr_interval[0] < rate.tpr < rate.tpr_interval[1]


def test_intervals_cover_as_often_as_they_say_though_each_user_counts_many_times():
    """A user's pairs are alike here, so intervals from independent pairs would be far too narrow."""
    rng, mu, repeats, covered = np.random.default_rng(6), 1.0, 200, np.zeros(2)
    truth = stats.norm.cdf(mu / math.sqrt(2))
    tpr = stats.norm.sf(stats.norm.isf(0.1) - mu)
    for _ in range(repeats):
        own = rng.normal(size=60)
        members = rng.random((8, 60)) < 0.5
        scores = mu * members + math.sqrt(0.7) * own + math.sqrt(0.3) * rng.normal(size=(8, 60))
        found = membership_inference(scores, members, target_fprs=[0.1], rng=rng, resamples=200)
        low, high = found.rates[0].tpr_interval
        covered += [found.auc_interval[0] < truth < found.auc_interval[1], low < tpr < high]
    assert (covered / repeats > 0.9).all()


def shadows(mu, *, seed, models=16, users=300):
    """Statistics of users who differ more than membership changes them."""
    rng = np.random.default_rng(seed)
    members = rng.random((models, users)) < 0.5
    return rng.normal(0, 3, users) + mu * members + rng.normal(0, 0.5, (models, users)), members


def test_likelihood_ratios_see_what_the_plain_statistic_does_not():
    observed, members = shadows(1.0, seed=8)
    scores = leave_one_out(observed, members)
    assert np.isfinite(scores).mean() > 0.99
    rng = np.random.default_rng(0)
    assert membership_inference(scores, members, rng=rng, resamples=10).auc > 0.85
    assert membership_inference(observed, members, rng=rng, resamples=10).auc < 0.65


@pytest.mark.parametrize("models", [5, 8, 16])
def test_where_nothing_leaks_nothing_is_found(models):
    """Whatever the number of models: the shadows' own sizes must not tell who is a member."""
    aucs = []
    for seed in range(20):
        observed, members = shadows(0.0, seed=seed, models=models)
        found = membership_inference(
            leave_one_out(observed, members), members, rng=np.random.default_rng(0), resamples=2
        )
        aucs.append(found.auc)
    assert np.mean(aucs) == pytest.approx(0.5, abs=4 * np.std(aucs) / math.sqrt(len(aucs)))
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.02)


def test_a_ratio_is_its_formula():
    observed = np.array([[1.0], [4.0], [2.0], [0.0], [6.0]])
    members = np.array([[True], [True], [True], [False], [False]])
    (score,) = leave_one_out(observed, members)[0]
    inside = stats.norm.logpdf(1.0, 3.0, math.sqrt(2.0))  # from 4 and 2
    outside = stats.norm.logpdf(1.0, 3.0, math.sqrt(18.0))  # from 0 and 6
    assert score == pytest.approx(inside - outside)
    assert np.isnan(leave_one_out(observed, members)[3])  # one shadow without the user is too few


def test_unusable_scores_are_refused():
    rng = np.random.default_rng(0)
    scores, members = np.zeros((4, 3)), np.arange(12).reshape(4, 3) % 2 == 0
    for wrong in (
        (scores, members[:3]),
        (scores[0], members[0]),
        (scores, np.ones((4, 3), bool)),
        (scores, np.zeros((4, 3), bool)),
        (np.full((4, 3), np.nan), members),
    ):
        with pytest.raises(PlanError):
            membership_inference(*wrong, rng=rng)
    for rate in (0.0, math.nan, 0.7):
        with pytest.raises(PlanError):
            membership_inference(scores, members, target_fprs=[rate], rng=rng)
    with pytest.raises(PlanError):
        membership_inference(scores, members, confidence=1.0, rng=rng)
    for wrong in (np.full((4, 3), math.inf), np.full((4, 3), math.nan), np.zeros((3, 3))):
        with pytest.raises(PlanError):
            leave_one_out(wrong, members)
    with pytest.raises(PlanError):
        leave_one_out(np.zeros((4, 3)), members)
