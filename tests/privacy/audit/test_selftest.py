"""The audit catches what was planted, accuses nobody honest, and its parts do what they say."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from rich.console import Console

from privacy.audit import Canaries, TrainingMechanism, audit, markdown, run, run_selftest, table
from privacy.audit.canaries import likelihood_scores, metric_scores
from privacy.audit.mechanism import CHUNK
from privacy.audit.selftest import ExactMetric, InBatchNegatives, NoNoise
from privacy.errors import PlanError
from privacy.noise import ReproducibleNoise
from privacy.plan import PrivacyPlan


def make_plan(q=0.1, steps=20, epsilon=4.0, clip=0.5):
    return PrivacyPlan.calibrated(
        epsilon=epsilon, delta=1e-5, clip_norm=clip, sample_rate=q, population_size=300, steps=steps
    )


@pytest.fixture(scope="module")
def outcomes():
    torch.set_num_threads(1)
    return run_selftest(seed=1, canaries=2000)


def test_every_planted_defect_is_caught_and_no_honest_mechanism_accused(outcomes):
    assert [o.mechanism for o in outcomes if not o.as_expected] == []
    assert sum(o.honest is True for o in outcomes) == 4
    assert sum(o.honest is False for o in outcomes) == 9
    for outcome in outcomes:
        assert outcome.violation is (outcome.bound.epsilon > outcome.claimed) is (not outcome.honest)


def test_the_words_never_claim_that_epsilon_was_verified(outcomes):
    out = io.StringIO()
    Console(file=out, width=220).print(table(outcomes))
    for text in (out.getvalue(), markdown(outcomes)):
        assert "verified" not in text.lower()
        assert text.count("no violation found, lower bound") == 4
        assert text.count("VIOLATION") == 9
    assert len(markdown(outcomes).splitlines()) == len(outcomes) + 2
    assert outcomes[0].to_dict()["violation"] is False


def test_a_run_repeats_under_its_seed():
    few = {"canaries": 60, "epsilons": (4.0,), "steps": 20}
    first, second, other = (run_selftest(seed=s, **few) for s in (5, 5, 6))
    assert [o.bound for o in first] == [o.bound for o in second] != [o.bound for o in other]


def test_a_canary_moves_the_sum_by_c_in_its_own_direction():
    plan, m = make_plan(q=1.0), 2 * CHUNK + 50
    canaries = Canaries(np.arange(m) % 3 == 0)
    release = NoNoise(plan, ReproducibleNoise(0), m).step(canaries)
    np.testing.assert_allclose(release.noised, plan.clip_norm * canaries.included, rtol=1e-5)


def test_chunks_are_one_batch_with_one_noise():
    plan, m = make_plan(q=1.0, clip=1.0), 4 * CHUNK
    mechanism = TrainingMechanism(plan, ReproducibleNoise(3), m)
    sums = run(mechanism, Canaries(np.ones(m, bool)), 20).noised
    assert sums.shape == (20, m)
    assert sums.mean() == pytest.approx(1.0, abs=0.1)
    assert sums.std() == pytest.approx(plan.noise_multiplier, rel=0.03)


def test_an_empty_batch_is_noised_and_counted():
    plan = make_plan()
    sums = run(TrainingMechanism(plan, ReproducibleNoise(3), 50), Canaries(np.zeros(50, bool)), 20).noised
    assert len(sums) == 20
    assert (sums != 0.0).all()


def test_in_batch_negatives_pass_the_clip_norm():
    plan, m = make_plan(q=1.0), 100
    honest = InBatchNegatives(plan, ReproducibleNoise(1), m)
    honest.optimizer.noise_multiplier = 0.0
    everyone = np.ones(m, bool)
    without = everyone.copy()
    without[0] = False
    moved = honest.step(Canaries(everyone)).noised - honest.step(Canaries(without)).noised
    assert np.linalg.norm(moved) > 5 * plan.clip_norm


def test_the_likelihood_score_is_its_formula():
    y, q, sigma, clip = np.array([[0.3, -1.0], [2.0, 0.4]]), 0.2, 0.9, 0.5
    expected = np.log(1 - q + q * np.exp((2 * y / clip - 1) / (2 * sigma**2))).sum(axis=0)
    got = likelihood_scores(y, clip_norm=clip, sample_rate=q, noise_multiplier=sigma)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    huge = likelihood_scores(np.full((3, 1), 1e6), clip_norm=clip, sample_rate=1.0, noise_multiplier=sigma)
    assert np.isfinite(huge).all()


def test_exact_metrics_give_every_member_away():
    plan, m = make_plan(steps=40), 80
    canaries = Canaries.draw(m, ReproducibleNoise(4))
    seen = run(ExactMetric(plan, ReproducibleNoise(2), m), canaries, 40)
    np.testing.assert_allclose(metric_scores(seen.pad, seen.metrics), canaries.included, atol=1e-6)


def test_any_mechanism_can_be_audited():
    plan, m = make_plan(), 200
    canaries = Canaries.draw(m, ReproducibleNoise(4))
    outcome = audit("ours", TrainingMechanism(plan, ReproducibleNoise(9), m), canaries, plan)
    assert outcome.as_expected
    assert outcome.verdict.startswith("no violation found, lower bound")
    assert outcome.claimed == pytest.approx(plan.cost())


def test_secret_randomness_by_default():
    few = {"canaries": 60, "epsilons": (), "steps": 20}
    assert [o.bound for o in run_selftest(**few)] != [o.bound for o in run_selftest(**few)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"canaries": 3},
        {"steps": 2},
        {"delta": 0.0},
        {"confidence": 1.0},
        {"fractions": ()},
        {"sample_rate": 2.0},
    ],
)
def test_unusable_values_are_refused(wrong):
    with pytest.raises(PlanError):
        run_selftest(**{"seed": 1, "canaries": 60, "epsilons": (4.0,), "steps": 20, **wrong})
