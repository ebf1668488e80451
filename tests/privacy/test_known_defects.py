"""Defects seen in the leading examples of the field, each shown and each impossible here."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from opacus.accountants import GaussianAccountant

from privacy.accounting import epsilon
from privacy.errors import BudgetRefusedError, PlanError
from privacy.events import Gaussian, PoissonGaussian
from privacy.ledger import Ledger
from privacy.noise import ReproducibleNoise, SecureNoise
from privacy.optimizer import SourcedDPOptimizer
from privacy.plan import PrivacyPlan

SHOWN_ELSEWHERE = {
    "2 noise divided by weights that data decide": (
        "clients/test_training.py",
        "test_the_noise_has_the_standard_deviation_of_its_stage",
    ),
    "7 user tables joined across platforms": (
        "shared_model/test_stages.py",
        "test_each_stage_sends_its_own_sum_and_gets_what_it_needs",
    ),
    "8 losses that mix the users of a batch": (
        "clients/test_training.py",
        "test_a_shopper_s_row_depends_on_that_shopper_alone",
    ),
    "9 a private table of item ids": (
        "server/test_replies.py",
        "test_arrays_that_the_spec_does_not_admit_are_refused",
    ),
    "10 negatives that were bought": (
        "clients/test_evaluation.py",
        "test_filtering_takes_out_what_was_seen_and_never_the_target",
    ),
    "wrong gradients of a table of items": (
        "clients/test_release.py",
        "test_edges_equal_a_loop",
    ),
    "chunks that are not one batch": (
        "clients/test_release.py",
        "test_chunks_do_not_matter",
    ),
    "empty batches left out": (
        "clients/test_training.py",
        "test_nobody_s_sum_is_noise_of_the_same_kind",
    ),
    "clip bound that noise does not follow": (
        "clients/test_training.py",
        "test_the_noise_has_the_standard_deviation_of_its_stage",
    ),
    "gradients used twice": (
        "privacy/test_optimizer.py",
        "test_gradients_cannot_be_used_twice",
    ),
    "state dict keys with a prefix": (
        "privacy/test_optimizer.py",
        "test_state_dict_keys_carry_no_prefix",
    ),
    "shuffled batches accounted as Poisson": (
        "privacy/test_noise.py",
        "test_batch_sizes_vary_as_poisson_sampling_says",
    ),
    "the same noise in two rounds or copies": (
        "privacy/test_noise.py",
        "test_a_copy_does_not_repeat_the_noise",
    ),
    "RDP that ignores replace-one": (
        "privacy/accounting/test_groups.py",
        "test_dp_accounting_rdp_is_not_used_because_it_ignores_the_relation",
    ),
    "PRV that ends in inf": (
        "privacy/accounting/test_cross_checks.py",
        "test_prv_is_not_asked_where_it_was_seen_to_fail",
    ),
    "groups that dp-accounting understates": (
        "privacy/accounting/test_gaussian.py",
        "test_dp_accounting_understates_large_groups",
    ),
    "seconds for every different event": (
        "privacy/accounting/test_epsilon.py",
        "test_ten_thousand_heterogeneous_rounds_take_one_convolution_more",
    ),
}
"""Defects of the field and hazards of its libraries that another test is about."""

ROUND = PoissonGaussian(32 / 400, 1.0, 12)
"""One round of a federated example: σ = 1, twelve batches of 32 from 400 users, δ = 1e-5."""


def reserve(ledger, event, key, run="run"):
    return ledger.reserve(event, run=run, purpose="update", key=key, model_fingerprint="m", code_version="1")


def test_1_rounds_compose_even_when_every_round_is_a_new_process(tmp_path):
    """A new accountant per round reports one round's ε (2.5) for ever; after 100 rounds the truth is 21.5."""
    Ledger.create(tmp_path / "l", population="p", epsilon_cap=30.0, delta=1e-5)
    for number in range(3):
        fresh = Ledger.open(tmp_path / "l", population="p")
        fresh.settle(reserve(fresh, ROUND, f"{number}"), "ab" * 32)
    assert fresh.budget().spent == pytest.approx(epsilon([ROUND.with_count(36)], 1e-5), rel=1e-6)
    assert epsilon([ROUND], 1e-5) == pytest.approx(2.52, abs=0.01)
    assert epsilon([ROUND.with_count(1200)], 1e-5) == pytest.approx(21.45, abs=0.01)


def test_3_an_all_zero_update_divides_nothing_by_zero():
    """min(1, C / norm) at norm 0."""
    plan = PrivacyPlan(50.0, 1e-6, 1.0, 0.1, 100, 5, 1.0)
    weight = torch.nn.Parameter(torch.zeros(4))
    optimizer = SourcedDPOptimizer(torch.optim.SGD([weight], lr=1.0), plan=plan, noise=SecureNoise())
    weight.grad_sample = torch.zeros(3, 4)
    optimizer.step()
    assert bool(torch.isfinite(weight).all())


def test_4_a_client_that_joins_late_or_restarts_is_charged_and_bounded(tmp_path):
    """DP set up only ``if current_round == 0`` leaves the rest unprotected and the past forgotten."""
    Ledger.create(tmp_path / "l", population="p", epsilon_cap=3.0, delta=1e-5)
    first = Ledger.open(tmp_path / "l", population="p")
    first.settle(reserve(first, ROUND, "run/0"), "ab" * 32)
    late = Ledger.open(tmp_path / "l", population="p")
    assert late.budget().spent == first.budget().spent > 0
    with pytest.raises(BudgetRefusedError):
        reserve(late, ROUND.with_count(48), "run/57")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 0.0, -1.0])
def test_5_ranges_are_checked_so_that_nan_and_inf_fail(bad):
    """``if x <= 0: raise`` lets NaN through: no noise at all."""
    with pytest.raises(PlanError):
        PoissonGaussian(0.1, bad, 1)
    with pytest.raises(PlanError):
        PoissonGaussian(bad, 1.0, 1)
    with pytest.raises(PlanError):
        epsilon([Gaussian(1.0)], bad)
    plan = PrivacyPlan(50.0, 1e-6, 1.0, 0.1, 100, 5, 1.0)
    for field in ("epsilon", "delta", "clip_norm", "sample_rate", "noise_multiplier"):
        with pytest.raises(PlanError):
            replace(plan, **{field: bad})


def test_6_the_budget_is_enforced_and_kept_across_runs_not_planned_once(tmp_path):
    """ε planned before training and never enforced or persisted; noise per round without composition."""
    plan = PrivacyPlan.calibrated(
        epsilon=2.0, delta=1e-6, clip_norm=1.0, sample_rate=0.05, population_size=1000, steps=20
    )
    Ledger.create(tmp_path / "l", population="p", epsilon_cap=2.1, delta=1e-6)
    for run, rounds in (("first", 2), ("second", 2)):
        ledger = Ledger.open(tmp_path / "l", population="p")
        outcomes = []
        for number in range(rounds):
            try:
                ledger.settle(reserve(ledger, plan.event_of(10), f"{run}/{number}", run), "ab" * 32)
                outcomes.append("granted")
            except BudgetRefusedError:
                outcomes.append("refused")
        assert "refused" in outcomes or run == "first"
    assert 1.99 <= ledger.budget().spent <= 2.1


@pytest.mark.parametrize("cap", [0.0, 5e-324, 2.2250738585072014e-308])
def test_11_subnormal_caps_and_spends_open_nothing(tmp_path, cap):
    """A ledger elsewhere let spends through when the numbers were subnormal."""
    ledger = Ledger.create(tmp_path / "l", population="p", epsilon_cap=cap, delta=1e-6)
    with pytest.raises(BudgetRefusedError):
        reserve(ledger, Gaussian(1000.0), "k")
    with pytest.raises(PlanError):
        PoissonGaussian(5e-324, 1.0, 1)
    with pytest.raises(PlanError):
        Gaussian(5e-324)


def test_opacus_gdp_is_below_the_truth_and_never_asked():
    """Its central-limit value undercuts an *optimistic* composition; no module here names it."""
    from dp_accounting.pld import privacy_loss_distribution

    q, noise, steps, delta = 0.01, 0.7, 1000, 1e-6
    optimistic = privacy_loss_distribution.from_gaussian_mechanism(
        noise, pessimistic_estimate=False, sampling_prob=q, use_connect_dots=False
    ).self_compose(steps)
    gdp = GaussianAccountant()
    gdp.history = [(noise, q, steps)]
    assert gdp.get_epsilon(delta) < optimistic.get_epsilon_for_delta(delta)
    assert epsilon([PoissonGaussian(q, noise, steps)], delta) >= optimistic.get_epsilon_for_delta(delta)


def test_torch_seeds_have_32_bits_and_ours_do_not():
    """manual_seed(s) equals manual_seed(s + 2^32): the noise of one update was searched for and found."""

    def draw(seed):
        return torch.randn(4, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(draw(5), draw(5 + 2**32))
    assert not np.array_equal(ReproducibleNoise(5).normal(4), ReproducibleNoise(5 + 2**32).normal(4))
    assert not np.array_equal(SecureNoise().normal(4), SecureNoise().normal(4))


def test_the_update_is_divided_by_a_public_number():
    """``q = 1 / len(loader)`` and a mean over the batch reveal the private number of users."""
    plan = PrivacyPlan(50.0, 1e-6, 1.0, 0.1, 100, 5, 1.0)
    sizes = []
    for batch in (1, 7):
        weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        noise = ReproducibleNoise(1, "same")
        optimizer = SourcedDPOptimizer(torch.optim.SGD([weight], lr=1.0), plan=plan, noise=noise)
        weight.grad_sample = torch.full((batch, 1), 0.5, dtype=torch.float64)
        optimizer.step()
        sizes.append(float(weight.detach()))
    assert sizes[0] - sizes[1] == pytest.approx(6 * 0.5 / plan.normaliser)


@pytest.mark.parametrize("defect", SHOWN_ELSEWHERE)
def test_the_others_have_a_test_of_their_own(defect):
    file, name = SHOWN_ELSEWHERE[defect]
    assert f"def {name}(" in (Path(__file__).parents[1] / file).read_text(encoding="utf-8")
