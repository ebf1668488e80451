"""Scores that are what they say, and verdicts that accuse what should be accused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from privacy.audit import Canaries, Transcript, above_gaussian, assess, attacks, markdown
from privacy.audit.canaries import likelihood_scores, metric_scores, movement_scores, spread_scores
from privacy.errors import PlanError
from privacy.events import PoissonGaussian
from privacy.noise import ReproducibleNoise
from privacy.plan import PrivacyPlan

M = 1000


def make_plan(q=0.2, steps=20, epsilon=4.0):
    return PrivacyPlan.calibrated(
        epsilon=epsilon, delta=1e-5, clip_norm=0.5, sample_rate=q, population_size=300, steps=steps
    )


def played(plan, canaries, *, noise=1.0, seed=0):
    """What an honest mechanism shows of its canaries, straight from the definition; `noise` scales σ."""
    rng = np.random.default_rng(seed)
    shape = (plan.steps, len(canaries.included))
    sampled = canaries.included & (rng.random(shape) < plan.sample_rate)
    sums = plan.clip_norm * (sampled + noise * plan.noise_multiplier * rng.normal(size=shape))
    parameters = np.concatenate([np.zeros((1, shape[1])), -np.cumsum(sums, axis=0)])
    return Transcript(sums, parameters)


def verdict(plan, canaries, seen, **options):
    return assess("it", attacks(seen, plan), canaries, plan, steps=plan.steps, **options)


def test_the_likelihood_score_is_its_formula():
    y, q, sigma, clip = np.array([[0.3, -1.0], [2.0, 0.4]]), 0.2, 0.9, 0.5
    expected = np.log(1 - q + q * np.exp((2 * y / clip - 1) / (2 * sigma**2))).sum(axis=0)
    got = likelihood_scores(y, clip_norm=clip, sample_rate=q, noise_multiplier=sigma)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    huge = likelihood_scores(np.full((3, 1), 1e6), clip_norm=clip, sample_rate=1.0, noise_multiplier=sigma)
    assert np.isfinite(huge).all()


def test_a_parameter_that_went_down_scores_higher():
    released = np.array([[1.0, 1.0], [5.0, -5.0], [0.5, 2.0]])
    assert movement_scores(released).tolist() == [0.5, -1.0]
    assert spread_scores(np.array([[1.0, 0.0], [1.0, 2.0]])).tolist() == [0.0, 1.0]


def test_exact_metrics_give_every_member_away():
    canaries, rng = Canaries.draw(80, ReproducibleNoise(4)), np.random.default_rng(1)
    parameters = rng.normal(size=(40, 80))
    sums = np.stack([(parameters * canaries.included)[:, k::4].sum(axis=1) for k in range(4)], axis=1)
    np.testing.assert_allclose(metric_scores(parameters, sums), canaries.included, atol=1e-6)
    seen = Transcript(np.zeros((40, 80)), np.vstack([np.zeros(80), parameters]), sums)
    assert set(attacks(seen, make_plan())) == {"likelihood", "spread", "movement", "metric"}


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


@pytest.mark.parametrize("epsilon", [1.0, 2.0, 4.0, 8.0])
@pytest.mark.parametrize(("rate", "steps"), [(0.1, 80), (0.1, 4), (1.0, 8)])
def test_plans_of_an_audit_may_be_held_to_the_gaussian_curve(epsilon, rate, steps):
    plan = make_plan(q=rate, steps=steps, epsilon=epsilon)
    assert above_gaussian(plan.event, plan.cost(), plan.delta)


def test_without_the_gaussian_curve_only_the_one_run_bound_speaks(monkeypatch):
    event = PoissonGaussian(1.0, 1.0, 4)
    assert not above_gaussian(event, 0.5, 1e-5)  # a claim that the event does not keep
    plan, canaries = make_plan(), Canaries.draw(M, ReproducibleNoise(1))
    seen = played(plan, canaries, noise=0.2)
    both = verdict(plan, canaries, seen)
    monkeypatch.setattr("privacy.audit.attack.above_gaussian", lambda *_: False)
    alone = verdict(plan, canaries, seen)
    assert alone.bound.gaussian == 0.0
    assert alone.bound.one_run >= both.bound.one_run > 0.0
    assert alone.bound.correct > 0


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
