"""Membership inference: the numbers by hand, and their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import sparse, stats

from privacy.audit import clopper_pearson, linear_scores, membership_inference
from privacy.errors import PlanError


def measured(inside, outside, **options):
    """Measure one run's members and others."""
    scores = np.array([[*inside, *outside]], dtype=float)
    members = np.arange(scores.shape[1])[None] < len(inside)
    return membership_inference(scores, members, rng=np.random.default_rng(0), **options)


def test_by_hand_with_ties():
    found = measured([3, 2, 1], [2, 0], target_fprs=[0.5])
    assert found.auc == pytest.approx((2 + 1.5 + 1) / 6)
    (rate,) = found.rates  # one of two others may be a false positive
    assert (rate.fpr, rate.tpr) == (0.5, 1.0)
    assert rate.tpr_interval[0] <= clopper_pearson(3, 3, 0.95)[0]
    assert (found.members, found.others, found.users, found.runs) == (3, 2, 5, 1)


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


def summed(noise, *, runs=20, users=80, seed=8):
    """Sums over users drawn by coins, of sparse rows of length 1."""
    rng = np.random.default_rng(seed)
    rows = rng.random((users, 200)) * (rng.random((users, 200)) < 0.05)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    members = rng.random((runs, users)) < 0.5
    return sparse.csr_array(rows), members @ rows + noise * rng.normal(size=(runs, 200)), members


def test_scores_are_the_posterior_means_in_their_other_form():
    rows, sums, _ = summed(0.7)
    dense = rows.toarray()
    gain = 0.25 * dense @ np.linalg.inv(0.25 * dense.T @ dense + 0.49 * np.eye(200))
    expected = 0.5 + (sums - 0.5 * dense.sum(axis=0)) @ gain.T
    np.testing.assert_allclose(linear_scores(rows, sums, 0.7), expected, atol=1e-9)


def test_without_noise_who_is_in_is_solved_for_and_in_much_noise_nothing_is():
    rows, sums, members = summed(0.0)
    np.testing.assert_allclose(linear_scores(rows, sums, 1e-6), members, atol=1e-6)
    rows, sums, members = summed(1e6)
    np.testing.assert_allclose(linear_scores(rows, sums, 1e6), 0.5, atol=1e-4)


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0])
def test_no_noise_is_beaten_by_more_than_it_allows(noise):
    """A row of length 1 behind Gaussian noise: whoever knows all others reaches Φ(1/(σ√2)), and this attacker less."""
    rows, sums, members = summed(noise, runs=60)
    found = membership_inference(
        linear_scores(rows, sums, noise), members, rng=np.random.default_rng(0), resamples=200
    )
    assert found.auc_interval[0] <= stats.norm.cdf(1 / (noise * math.sqrt(2)))
    assert found.auc_interval[0] > 0.5


def test_where_nothing_leaks_nothing_is_found():
    rows, sums, members = summed(1.0, runs=60)
    nothing = linear_scores(rows, np.random.default_rng(3).normal(size=sums.shape), 1.0)
    found = membership_inference(nothing, members, rng=np.random.default_rng(0), resamples=200)
    assert found.auc_interval[0] < 0.5 < found.auc_interval[1]


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
    rows = sparse.csr_array(np.eye(3))
    for wrong in (np.full((4, 3), math.inf), np.full((4, 3), math.nan), np.zeros((4, 2)), np.zeros(3)):
        with pytest.raises(PlanError):
            linear_scores(rows, wrong, 1.0)
    for noise in (0.0, -1.0, math.nan):
        with pytest.raises(PlanError):
            linear_scores(rows, np.zeros((4, 3)), noise)
