"""The audit catches what was planted in the recommender's own training, and accuses nobody honest."""

import dataclasses

import numpy as np
import pytest
import torch

from clients.audit import SelfTest, audit_training, run_selftest, training
from clients.audit.canaries import draw_places
from clients.audit.defects import (
    ClippedPerBatch,
    EveryoneSampled,
    InBatchNegatives,
    NoNoise,
    RepeatedNoise,
    cohort_loss,
    misstated,
)
from clients.audit.selftest import cases
from privacy.audit import Canaries
from privacy.errors import PlanError
from privacy.noise import ReproducibleNoise
from shared_model.model import initial_shared


def quiet(_):
    """Say nothing."""


def selftest(subject, m=1200, seed=1, **options):
    rows = run_selftest(subject, m, seed=seed, confidence=0.95, quick=True, say=quiet, **options)
    return SelfTest("toys", tuple(rows))


def test_every_planted_defect_is_caught_and_the_honest_training_is_not_accused(subject):
    said = []
    rows = run_selftest(subject, 1200, seed=1, confidence=0.95, quick=True, say=said.append)
    found = SelfTest("toys", tuple(rows))
    assert (found.missed, found.accused, found.exit_code) == ([], [], 0)
    assert sum(o.honest is False for o in found.outcomes) == 10
    assert sum(o.honest is True for o in found.outcomes) == 1
    for outcome in found.outcomes:
        assert outcome.violation is (outcome.bound.epsilon > outcome.claimed) is (not outcome.honest)
    assert "10 of 10 planted defects caught; 1 of 1 honest trainings not accused" in found.verdict
    assert len(said) == len(rows)
    assert found.markdown().count("VIOLATION") == 10


def test_a_self_test_that_misses_or_accuses_says_so(make_subject):
    found = selftest(make_subject(steps=4), m=20)  # with twenty canaries nothing can be proved
    assert len(found.missed) == 10
    assert found.exit_code == 1
    assert "0 of 10 planted defects caught (missed: no noise, " in found.verdict
    honest = found.outcomes[0]
    bound = dataclasses.replace(honest.bound, gaussian=99.0)
    accused = SelfTest("toys", (dataclasses.replace(honest, bound=bound), *found.outcomes[1:]))
    assert accused.exit_code == 3
    assert "REFUTED though honest: honest, ε = 2" in accused.verdict
    assert "not accused" not in accused.verdict


def test_rows_around_a_plan(subject):
    rows = cases(subject.plan, quick=False)
    assert [row.claim.epsilon for row in rows if row.honest] == [0.5, 1.0, 2.0, 4.0]
    assert len(rows) == 14
    reset = rows[-1]
    assert (reset.claim.epsilon, reset.claim.steps, reset.steps) == (1.0, 2, 80)
    everybody = dataclasses.replace(subject.plan, sample_rate=1.0, epsilon=20.0)
    names = [row.name for row in cases(everybody, quick=True)]
    assert "everybody in every batch" not in names  # is what the plan says
    assert len(names) == 10


def test_an_audit_repeats_under_its_seed_whatever_the_threads_do(make_subject):
    subject = make_subject(steps=8)
    first, again = (selftest(subject, m=60, seed=5).outcomes for _ in range(2))
    assert [o.bound for o in first] == [o.bound for o in again]
    assert len({o.bound for o in first}) > 3


def test_without_a_seed_coins_and_noise_are_drawn_anew(subject):
    places = draw_places(subject.parameters, 100, np.random.default_rng(0))

    def run(seed):
        coins, noise = training.sources(seed, "a name")
        canaries = Canaries.draw(100, coins)
        seen = training.Training(subject, subject.plan, noise).run(canaries, places, 4, quiet)
        return (*canaries.included, *seen.noised.ravel(), *seen.released.ravel())

    assert run(4) == run(4)
    assert len({run(4), run(5), run(None), run(None)}) == 4


def test_the_training_as_it_is_is_not_accused_and_has_no_noise_to_hide_behind(subject, monkeypatch):
    every_step, model_only = audit_training(subject, 1000, seed=3, confidence=0.95, say=quiet)
    assert not every_step.violation
    assert every_step.steps == subject.plan.steps
    assert every_step.claimed == pytest.approx(subject.plan.cost())
    assert 0.1 < every_step.bound.epsilon < every_step.ceiling
    assert model_only.bound.epsilon < every_step.claimed
    real = training.sources
    monkeypatch.setattr(training, "sources", lambda *a: (real(*a)[0], NoNoise(real(*a)[1])))
    every_step, model_only = audit_training(subject, 1000, seed=3, confidence=0.95, say=quiet)
    assert every_step.violation
    assert model_only.violation


@pytest.mark.parametrize("m", [0, -1, 19, 10_000])
def test_an_unusable_number_of_canaries_is_refused(subject, m):
    for run in (
        lambda: audit_training(subject, m, seed=1, confidence=0.95, say=quiet),
        lambda: selftest(subject, m=m),
    ):
        with pytest.raises(PlanError, match="canaries"):
            run()


# the defects are what they are called


def test_misstated_plans_keep_the_noise_and_change_the_clipping(subject):
    plan = subject.plan
    std = plan.noise_multiplier * plan.clip_norm
    for clip, noise in ((1.0, 1 / 3), (1e9, 1.0), (3.0, 1.0)):
        wrong = misstated(plan, clip=clip, noise=noise)
        assert wrong.clip_norm == clip * plan.clip_norm
        assert wrong.noise_multiplier * wrong.clip_norm == pytest.approx(noise * std)
        assert wrong.normaliser == plan.normaliser


def test_noise_sources_change_one_thing_each():
    def source():
        return ReproducibleNoise(1)

    mask = source().poisson_mask(50, 0.3)
    assert (NoNoise(source()).poisson_mask(50, 0.3) == mask).all()
    assert (RepeatedNoise(source()).poisson_mask(50, 0.3) == mask).all()
    assert EveryoneSampled(source()).poisson_mask(50, 0.3).all()
    assert not NoNoise(source()).normal(5).any()
    assert (EveryoneSampled(source()).normal(5) == source().normal(5)).all()
    repeated = RepeatedNoise(source())
    first = repeated.normal(5)
    assert (repeated.normal(5) == first).all()
    assert (first == source().normal(5)).all()


def gradients(population, subject, users, weights):
    of = population.gradients(np.random.default_rng(0))
    rows = of(initial_shared(subject.spec), np.asarray(users), torch.tensor(weights))
    return torch.cat([tensor.flatten(1) for tensor in rows.values()], dim=1)


def test_in_batch_negatives_let_one_shopper_move_every_row(subject):
    mixed = InBatchNegatives(subject.shoppers)
    assert len(mixed) == len(subject.data)
    users = [1, 2, 3, 0]
    with_all = gradients(mixed, subject, users, [1.0, 1.0, 1.0, 0.0])
    without = gradients(mixed, subject, users, [1.0, 1.0, 0.0, 0.0])
    alone = gradients(subject.shoppers, subject, users, [1.0, 1.0, 1.0, 0.0])
    assert alone[2].any()
    torch.testing.assert_close(with_all[0], without[0] - alone[2])
    assert not with_all[3].any()


def test_clipping_per_batch_bounds_the_mean_alone(subject):
    batch = ClippedPerBatch(subject.shoppers, 0.01)
    assert len(batch) == len(subject.data)
    users, weights = [1, 2, 3, 0], [1.0, 1.0, 1.0, 0.0]
    got, honest = (gradients(p, subject, users, weights) for p in (batch, subject.shoppers))
    assert got.sum(0).norm() / 3 == pytest.approx(0.01, rel=1e-4)
    torch.testing.assert_close(got / got.norm(), honest / honest.norm())
    assert got.norm(dim=1).max() > 0.01
    assert not gradients(batch, subject, [0, 0], [0.0, 0.0]).any()


def test_cohort_losses_are_sums_over_members():
    canaries = Canaries(np.arange(40) % 2 == 0)
    parameters = np.arange(40.0)
    losses = cohort_loss(canaries, parameters)
    assert losses.tolist() == [sum(i for i in range(0, 40, 2)), 0.0]
