"""Scores that are what they say, and verdicts that accuse what should be accused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from privacy.audit import Canaries, assess, likelihood_scores, markdown
from privacy.errors import PlanError
from privacy.noise import ReproducibleNoise
from privacy.release import ReleasePlan

M = 1000


def make_plan(epsilon=4.0, shares=(0.25, 0.75)):
    return ReleasePlan.calibrated(epsilon=epsilon, delta=1e-5, shares=shares)


def played(plan, canaries, *, noise=1.0, seed=0):
    """What an honest mechanism shows of its canaries, straight from the definition; `noise` scales σ."""
    rng = np.random.default_rng(seed)
    sigmas = [plan.noise_of(number) for number in range(len(plan.shares))]
    shown = [canaries.included + noise * sigma * rng.normal(size=len(canaries.included)) for sigma in sigmas]
    return {"likelihood": likelihood_scores(np.stack(shown), sigmas)}


def verdict(plan, canaries, scores, **options):
    return assess("it", scores, canaries, plan, runs=1, **options)


def test_the_likelihood_score_is_the_ratio_of_the_densities():
    y, sigmas = np.array([[0.3, -1.0], [2.0, 0.4]]), [0.9, 2.5]
    expected = sum(
        stats.norm.logpdf(row, 1, sigma) - stats.norm.logpdf(row, 0, sigma)
        for row, sigma in zip(y, sigmas, strict=True)
    )
    np.testing.assert_allclose(likelihood_scores(y, sigmas), expected, rtol=1e-12)


def test_the_honest_are_not_accused_and_too_little_noise_is():
    plan, canaries = make_plan(epsilon=2.0), Canaries.draw(M, ReproducibleNoise(1))
    honest = verdict(plan, canaries, played(plan, canaries), honest=True)
    quiet = verdict(plan, canaries, played(plan, canaries, noise=0.2), honest=False)
    for outcome in (honest, quiet):
        assert outcome.as_expected
        assert outcome.claimed == pytest.approx(plan.cost())
        assert outcome.violation is (outcome.bound.epsilon > outcome.claimed) is (not outcome.honest)
        assert outcome.bound.epsilon <= outcome.ceiling
        assert json.loads(json.dumps(outcome.to_dict()))["violation"] is outcome.violation
    assert honest.bound.epsilon > 0.2


@pytest.mark.parametrize("shares", [(1.0,), (0.1, 0.9), (0.5, 0.5)])
def test_honest_plans_are_accused_no_more_often_than_they_may(shares):
    plan, accused = make_plan(epsilon=1.0, shares=shares), 0
    for seed in range(40):
        canaries = Canaries.draw(300, ReproducibleNoise(seed))
        accused += verdict(plan, canaries, played(plan, canaries, seed=seed), confidence=0.9).violation
    assert accused <= 4


def test_the_words_never_claim_that_epsilon_was_verified():
    plan, canaries = make_plan(epsilon=2.0), Canaries.draw(M, ReproducibleNoise(1))
    rows = [verdict(plan, canaries, played(plan, canaries, noise=n), honest=n == 1.0) for n in (1.0, 0.2)]
    text = markdown(rows)
    assert "verified" not in text.lower()
    assert text.count("no violation found, lower bound") == text.count("VIOLATION") == 1
    assert len(text.splitlines()) == len(rows) + 2
    assert "NOT as expected" not in text
    assert "NOT as expected" in markdown([verdict(plan, canaries, played(plan, canaries), honest=False)])


def test_nothing_can_be_proved_beyond_what_recognising_every_canary_proves():
    plan = make_plan()
    few, many = (Canaries.draw(m, ReproducibleNoise(2)) for m in (100, 2000))
    low, high = (verdict(plan, c, played(plan, c, noise=0.0)) for c in (few, many))
    assert low.bound.epsilon == pytest.approx(low.ceiling, rel=0.05)
    assert low.ceiling < high.ceiling


@pytest.mark.parametrize(
    "wrong", [{"confidence": 1.0}, {"confidence": float("nan")}, {"fractions": ()}, {"fractions": (0.7,)}]
)
def test_unusable_values_are_refused(wrong):
    plan, canaries = make_plan(), Canaries.draw(100, ReproducibleNoise(1))
    with pytest.raises(PlanError):
        verdict(plan, canaries, played(plan, canaries), **wrong)


@pytest.mark.parametrize("m", [0, -1, 1, 10**7])
def test_an_unusable_number_of_canaries_is_refused(m):
    with pytest.raises(PlanError):
        Canaries.draw(m, ReproducibleNoise(1))
