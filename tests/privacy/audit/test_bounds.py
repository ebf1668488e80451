"""Lower bounds: equal to a second implementation, and never above the truth more often than they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from privacy.audit import (
    best_bound,
    clopper_pearson,
    clopper_pearson_bound,
    gaussian_bound,
    one_run_bound,
)
from privacy.audit.bounds import gaussian_epsilon, one_run_p_value
from privacy.errors import PlanError

DELTA = 1e-5

# canaries, guesses, right ones; ε of an independent implementation of both papers at 95 %
KNOWN = [
    (1000, 200, 170, 1.3974, 2.2407),
    (1000, 1000, 1000, 5.7823, 12.3346),
    (500, 100, 92, 1.8150, 3.0307),
    (2000, 400, 300, 0.9028, 1.3908),
    (5000, 500, 480, 2.7830, 4.0627),
    (1000, 100, 55, 0.0, 0.0),
]


@pytest.mark.parametrize(("m", "r", "v", "one_run", "gaussian"), KNOWN)
def test_both_bounds_equal_an_independent_implementation(m, r, v, one_run, gaussian):
    assert one_run_bound(m, r, v, delta=DELTA, confidence=0.95) == pytest.approx(one_run, abs=2e-4)
    assert gaussian_bound(m, r, v, delta=DELTA, confidence=0.95) == pytest.approx(gaussian, abs=2e-4)


def test_the_p_value_is_binomial_without_delta_and_grows_with_it():
    assert one_run_p_value(100, 50, 40, 1.0, 0.0) == pytest.approx(
        stats.binom.sf(39, 50, math.e / (1 + math.e))
    )
    assert one_run_p_value(1000, 200, 170, 1.0, 1e-5) == pytest.approx(6.178602714948735e-4)
    assert one_run_p_value(1000, 200, 170, 1.0, 1e-3) > one_run_p_value(1000, 200, 170, 1.0, 1e-5)


def test_no_guesses_show_nothing():
    assert one_run_bound(100, 0, 0, delta=DELTA, confidence=0.95) == 0.0
    assert gaussian_bound(100, 0, 0, delta=DELTA, confidence=0.95) == 0.0


@pytest.mark.parametrize("true", [0.0, 0.5, 2.0])
def test_randomised_response_is_accused_no_more_often_than_alpha(true):
    """Each guess is right with probability e^ε/(1 + e^ε): the worst that ε-DP allows, so the test is sharp."""
    rng, alpha, repeats, m = np.random.default_rng(7), 0.1, 400, 300
    right = rng.binomial(m, math.exp(true) / (1 + math.exp(true)), repeats)
    bounds = {v: one_run_bound(m, m, int(v), delta=1e-10, confidence=1 - alpha) for v in set(right.tolist())}
    above = sum(bounds[int(v)] > true for v in right)
    assert above <= alpha * repeats + 2 * math.sqrt(alpha * (1 - alpha) * repeats)
    if true:
        assert above >= 0.25 * alpha * repeats  # not empty words: the bound is near the truth


@pytest.mark.parametrize("mu", [0.0, 0.5, 1.5])
def test_gaussian_noise_is_accused_no_more_often_than_alpha(mu):
    """Scores of a Gaussian mechanism with true ε(μ), through the whole search over guesses and attacks."""
    rng, alpha, repeats, m = np.random.default_rng(11), 0.1, 60, 300
    truth, above = gaussian_epsilon(mu, DELTA), 0
    for _ in range(repeats):
        included = rng.random(m) < 0.5
        attacks = {"good": mu * included + rng.normal(size=m), "useless": rng.normal(size=m)}
        bound = best_bound(attacks, included, delta=DELTA, confidence=1 - alpha)
        above += bound.epsilon > truth
    assert above <= alpha * repeats


@pytest.mark.parametrize("alpha", [0.1, 0.05, 0.005])
@pytest.mark.parametrize(("m", "r"), [(200, 100), (200, 200), (2000, 400)])
def test_with_nothing_to_find_the_chance_of_an_accusation_is_at_most_alpha(m, r, alpha):
    """Without any leak v is Binomial(r, ½): the chance of the least accusing v is known exactly."""
    levels = range(r // 2, r + 1)
    least = [
        next(v for v in levels if bound(m, r, v, delta=DELTA, confidence=1 - alpha) > 0.0)
        for bound in (one_run_bound, gaussian_bound)
    ]
    for v in least:
        assert 0.3 * alpha < stats.binom.sf(v - 1, r, 0.5) <= alpha


def test_searching_more_costs_confidence():
    rng = np.random.default_rng(0)
    included = rng.random(500) < 0.5
    scores = included + 0.5 * rng.normal(size=500)
    alone = best_bound({"a": scores}, included, delta=DELTA, confidence=0.95)
    among = best_bound(
        {"a": scores, "b": rng.normal(size=500), "c": rng.normal(size=500)},
        included,
        delta=DELTA,
        confidence=0.95,
    )
    assert 0.0 < among.epsilon < alone.epsilon


def test_clopper_pearson():
    low, high = clopper_pearson(3, 100, 0.95)
    assert (low, high) == pytest.approx((0.0062299715, 0.0851760530), abs=1e-9)
    assert clopper_pearson(0, 10, 0.95) == pytest.approx((0.0, 1 - 0.025**0.1))
    assert clopper_pearson(10, 10, 0.95) == pytest.approx((0.025**0.1, 1.0))


def test_independent_trials_bound_epsilon_from_either_side():
    expected = math.log((clopper_pearson(90, 100, 0.95)[0] - DELTA) / clopper_pearson(10, 100, 0.95)[1])
    assert clopper_pearson_bound(90, 100, 10, 100, delta=DELTA, confidence=0.95) == pytest.approx(expected)
    few_missed = clopper_pearson_bound(1000, 1000, 500, 1000, delta=DELTA, confidence=0.95)
    assert few_missed > 4.0
    assert clopper_pearson_bound(50, 100, 50, 100, delta=DELTA, confidence=0.95) == 0.0


@pytest.mark.parametrize(
    ("m", "r", "v", "delta", "confidence"),
    [
        (0, 0, 0, DELTA, 0.95),
        (10, 11, 5, DELTA, 0.95),
        (10, 5, 6, DELTA, 0.95),
        (10, 5, -1, DELTA, 0.95),
        (10, 5, 4, 0.0, 0.95),
        (10, 5, 4, math.nan, 0.95),
        (10, 5, 4, DELTA, 1.0),
        (10, 5, 4, DELTA, math.nan),
        (10, 5, 4, DELTA, 0.05),
    ],
)
@pytest.mark.parametrize("bound", [one_run_bound, gaussian_bound])
def test_unusable_counts_are_refused(bound, m, r, v, delta, confidence):
    with pytest.raises(PlanError):
        bound(m, r, v, delta=delta, confidence=confidence)


def test_unusable_scores_are_refused():
    included = np.array([True, False, True, False])
    for attacks in ({}, {"a": np.zeros(3)}, {"a": np.array([0.0, np.nan, 1.0, 2.0])}):
        with pytest.raises(PlanError):
            best_bound(attacks, included, delta=DELTA, confidence=0.95)
    for fractions in ((), (0.6,), (0.0,), (math.nan,)):
        with pytest.raises(PlanError):
            best_bound({"a": np.zeros(4)}, included, delta=DELTA, confidence=0.95, fractions=fractions)
