"""ε of record: right against independent values, never below the truth, closed on failure."""

from __future__ import annotations

import math
import random

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant, privacy_loss_distribution
from dp_accounting.pld.privacy_loss_mechanism import GaussianPrivacyLoss
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from privacy.accounting import (
    Accountant,
    calibrate_noise,
    cross_checks,
    delta_at,
    epsilon,
    group_epsilon,
    replace_one_epsilon,
    tally,
)
from privacy.accounting import accountant as accountant_module
from privacy.accounting.calibration import round_up
from privacy.accounting.gaussian import ADD, REMOVE, gaussian_deltas
from privacy.accounting.loss import GRID, LossMass, PrivacyLoss, compose, gaussian_loss
from privacy.errors import AccountingError, PlanError
from privacy.events import Gaussian, PoissonGaussian

DELTA = 1e-6


def exact_gaussian_epsilon(noise: float, delta: float) -> float:
    """ε of one Gaussian release, from its closed form (Balle & Wang 2018)."""

    def excess(eps: float) -> float:
        half, slope = 1 / (2 * noise), eps * noise
        return stats.norm.cdf(half - slope) - math.exp(eps + stats.norm.logcdf(-half - slope)) - delta

    return 0.0 if excess(0.0) <= 0 else float(optimize.brentq(excess, 0.0, 9000.0, xtol=1e-12))


@pytest.mark.parametrize("noise", [0.1, 0.3, 1.0, 5.0, 1e4])
@pytest.mark.parametrize("q", [1e-9, 1e-3, 0.3, 0.999])
@pytest.mark.parametrize("adjacency", [REMOVE, ADD])
def test_array_formula_equals_dp_accounting(noise, q, adjacency):
    loss = GaussianPrivacyLoss(noise, sampling_prob=q, adjacency_type=adjacency)
    bounds = loss.connect_dots_bounds()
    grid = np.linspace(bounds.epsilon_lower, bounds.epsilon_upper, 101)
    np.testing.assert_allclose(
        gaussian_deltas(loss, grid), loss.get_delta_for_epsilon(grid), rtol=1e-9, atol=1e-13
    )


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.5, 20.0, 300.0])
@pytest.mark.parametrize("count", [1, 7, 400])
def test_unsampled_composition_is_the_closed_form_and_never_below(noise, count):
    truth = exact_gaussian_epsilon(noise / math.sqrt(count), DELTA)
    ours = epsilon([Gaussian(noise, count)], DELTA)
    assert truth <= ours + 1e-12
    assert ours == pytest.approx(truth, rel=3e-3, abs=3e-3)


@pytest.mark.parametrize(
    "events",
    [
        [PoissonGaussian(0.05, 1.0, 100)],
        [PoissonGaussian(0.02, 0.7, 50), PoissonGaussian(0.1, 2.0, 30), Gaussian(5.0, 3)],
    ],
)
def test_composition_equals_dp_accounting(events):
    theirs = PLDAccountant(value_discretization_interval=1e-4)
    for event in events:
        theirs.compose(event.to_dp_event())
    assert epsilon(events, DELTA) == pytest.approx(theirs.get_epsilon(DELTA), rel=1e-4)


def test_epsilon_is_not_below_an_optimistic_estimate():
    """A lower bound on the truth, from dp-accounting's optimistic rounding."""
    optimistic = privacy_loss_distribution.from_gaussian_mechanism(
        0.9, pessimistic_estimate=False, sampling_prob=0.05, use_connect_dots=False
    ).self_compose(60)
    lower = optimistic.get_epsilon_for_delta(DELTA)
    assert lower <= epsilon([PoissonGaussian(0.05, 0.9, 60)], DELTA) <= lower * 1.01 + 0.01


def test_infinite_loss_and_lost_mass_are_never_forgotten():
    """Composition keeps the mass at infinity, and counts what the finite window cannot hold as such."""
    half_lost = LossMass(GRID, 0, np.array([0.5, 0.25]), 0.25)
    twice = compose([(PrivacyLoss(half_lost, half_lost), 2)]).remove
    assert twice.infinity == pytest.approx(1 - 0.75**2, abs=1e-9)
    incomplete = LossMass(GRID, 0, np.array([0.5, 0.25]), 0.0)  # a quarter of the mass is missing
    assert compose([(PrivacyLoss(incomplete, incomplete), 2)]).remove.infinity >= 1 - 0.75**2
    assert compose([(gaussian_loss(0.05, 1.0), 9)]).remove.infinity > 0.0


def test_order_and_splitting_do_not_matter():
    whole = epsilon([PoissonGaussian(0.05, 1.0, 30), Gaussian(8.0, 2)], DELTA)
    pieces = [Gaussian(8.0), *[PoissonGaussian(0.05, 1.0, 10)] * 3, Gaussian(8.0)]
    random.Random(0).shuffle(pieces)
    assert epsilon(pieces, DELTA) == whole


def test_nothing_costs_nothing_and_everything_costs_something():
    assert epsilon([], DELTA) == 0.0
    assert replace_one_epsilon([], DELTA) == 0.0
    assert epsilon([PoissonGaussian(1e-9, 1e6, 1)], 1e-10) >= 0.0
    assert epsilon([PoissonGaussian(0.01, 2.0, 1)], DELTA) > 0.0


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([(0.05, 1.0), (0.1, 2.0), (1.0, 9.0)]), st.integers(1, 40)), max_size=5
    )
)
def test_remembered_compositions_equal_fresh_ones_and_only_grow(steps):
    """The incremental cache: same value as from scratch, and ε never falls as events are added."""
    accountant, events, last = Accountant(), [], 0.0
    for (q, noise), count in steps:
        events.append(PoissonGaussian(q, noise, count))
        value = accountant.epsilon(tally(events), DELTA)
        assert value == pytest.approx(epsilon(events, DELTA), rel=1e-6)
        assert value >= last * (1 - 1e-9)
        last = value


def test_ten_thousand_heterogeneous_rounds_take_one_convolution_more():
    """The work after a cache is counted, not timed: one remembered part and one new mechanism."""
    rng = random.Random(4)
    kinds = [(rng.uniform(0.01, 0.05), rng.uniform(1.0, 3.0)) for _ in range(6)]
    rounds = [PoissonGaussian(*rng.choice(kinds), rng.randint(1, 3)) for _ in range(10_000)]
    accountant = Accountant()
    counts = tally(rounds)
    before = accountant.epsilon(counts, DELTA)
    counts[kinds[0]] += 2
    parts, _ = accountant._shortest(dict(counts))
    assert len(parts) == 2
    after = accountant.epsilon(counts, DELTA)
    assert before < after < before * 1.01
    assert after == pytest.approx(Accountant().epsilon(counts, DELTA), rel=1e-6)


def test_delta_and_epsilon_are_inverse():
    events = [PoissonGaussian(0.05, 1.0, 50), Gaussian(6.0)]
    eps = epsilon(events, DELTA)
    assert delta_at(events, eps) == pytest.approx(DELTA, rel=1e-3)
    assert delta_at(events, 0.0) > delta_at(events, 1.0) > delta_at(events, 50.0) >= 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1e-6, 1e-11, 0.2, 1.0, True, "1e-6", None])
def test_bad_deltas_are_refused(bad):
    with pytest.raises(PlanError, match="delta"):
        epsilon([Gaussian(1.0)], bad)
    with pytest.raises(PlanError, match="delta"):
        epsilon([], bad)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0])
def test_values_that_are_no_epsilon_are_refused(value):
    with pytest.raises(AccountingError):
        accountant_module._finite(value)


def test_unbounded_spending_is_refused_rather_than_reported():
    with pytest.raises(AccountingError):
        epsilon([PoissonGaussian(1.0, 0.1, 1_000_000)], DELTA)


class TestReplaceOne:
    def test_pld_gives_what_the_closed_form_says(self):
        """Replacing one user moves the sum by 2C: the Gaussian with half the noise multiplier."""
        truth = exact_gaussian_epsilon(0.5, 1e-5)
        assert replace_one_epsilon([Gaussian(1.0)], 1e-5) == pytest.approx(truth, rel=1e-3)

    def test_dp_accounting_rdp_is_not_used_because_it_ignores_the_relation(self):
        """The hazard itself: its RDP accountant answers REPLACE_ONE as if it were add-or-remove."""
        rdp = dp_accounting.rdp.RdpAccountant(
            neighboring_relation=dp_accounting.NeighboringRelation.REPLACE_ONE
        )
        rdp.compose(dp_accounting.GaussianDpEvent(1.0))
        assert rdp.get_epsilon(1e-5) < 0.6 * replace_one_epsilon([Gaussian(1.0)], 1e-5)

    def test_it_costs_more_than_add_or_remove_and_at_most_a_group_of_two(self):
        events = [PoissonGaussian(0.1, 2.0, 50)]
        assert epsilon(events, DELTA) < replace_one_epsilon(events, DELTA)


class TestGroups:
    @pytest.mark.parametrize("size", [1, 2, 3])
    def test_unsampled_groups_are_the_closed_form(self, size):
        truth = exact_gaussian_epsilon(4.0 / size, DELTA)
        assert group_epsilon([Gaussian(4.0)], DELTA, size) == pytest.approx(truth, rel=1e-3)

    def test_a_group_of_one_is_one_user(self):
        events = [PoissonGaussian(0.1, 2.0, 50)]
        assert group_epsilon(events, DELTA, 1) == pytest.approx(epsilon(events, DELTA), rel=1e-3)

    def test_groups_cost_more(self):
        events = [PoissonGaussian(0.1, 2.0, 20)]
        values = [group_epsilon(events, DELTA, size) for size in (1, 2, 3)]
        assert values == sorted(values)
        assert values[0] < values[-1]

    @pytest.mark.parametrize("bad", [0, 33, True, 1.0, math.nan])
    def test_bad_sizes_are_refused(self, bad):
        with pytest.raises(PlanError, match="size"):
            group_epsilon([Gaussian(1.0)], DELTA, bad)


class TestCalibration:
    @pytest.mark.parametrize(
        ("target", "q", "steps"), [(1.0, 0.025, 400), (8.0, 0.1, 50), (0.1, 0.01, 100), (2.0, 1.0, 30)]
    )
    def test_cost_is_within_one_per_mille_below_the_target(self, target, q, steps):
        noise = calibrate_noise(target, DELTA, q, steps)
        cost = epsilon([PoissonGaussian(q, noise, steps)], DELTA)
        assert target * (1 - 2e-3) <= cost <= target

    def test_it_needs_less_noise_than_rdp_asks_for(self):
        from opacus.accountants.utils import get_noise_multiplier

        rdp = get_noise_multiplier(
            target_epsilon=2.0, target_delta=DELTA, sample_rate=0.025, steps=400, accountant="rdp"
        )
        assert calibrate_noise(2.0, DELTA, 0.025, 400) < 0.97 * rdp

    def test_what_cannot_be_met_is_refused(self):
        with pytest.raises(PlanError, match="cannot be met"):
            calibrate_noise(1e-9, 1e-10, 1.0, 10_000_000)

    def test_a_generous_target_gets_the_least_noise_allowed(self):
        assert calibrate_noise(900.0, DELTA, 0.01, 1) == 0.1

    @pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1.0, True, 1e9])
    def test_bad_targets_are_refused(self, bad):
        with pytest.raises(PlanError, match="epsilon"):
            calibrate_noise(bad, DELTA, 0.1, 10)

    @given(st.floats(1e-6, 1e6))
    def test_rounding_never_lowers(self, value):
        assert value <= round_up(value) <= value * 1.0011


class TestCrossChecks:
    def test_other_accountants_agree(self):
        checks = cross_checks([PoissonGaussian(0.05, 1.0, 60)], DELTA)
        assert {c.name for c in checks} == {"Opacus RDP", "Opacus PRV", "dp-accounting PLD"}
        assert all(c.agrees and c.epsilon for c in checks), checks

    def test_a_disagreement_is_reported(self, monkeypatch):
        monkeypatch.setattr("privacy.accounting.cross._rdp", lambda counts, delta: 0.5)
        monkeypatch.setattr("privacy.accounting.cross._prv", lambda counts, delta: math.inf)
        rdp, prv, _ = cross_checks([PoissonGaussian(0.05, 1.0, 60)], DELTA)
        assert not rdp.agrees
        assert "claims 0.5" in rdp.note
        assert not prv.agrees
        assert prv.epsilon is None

    def test_a_failing_accountant_is_reported(self, monkeypatch):
        def broken(counts, delta):
            raise ZeroDivisionError

        monkeypatch.setattr("privacy.accounting.cross._pld", broken)
        assert cross_checks([PoissonGaussian(0.05, 1.0, 60)], DELTA)[2].note == "failed: ZeroDivisionError"

    def test_prv_is_not_asked_where_it_was_seen_to_fail(self):
        prv = cross_checks([PoissonGaussian(0.05, 0.8, 5000)], DELTA)[1]
        assert prv.epsilon is None
        assert prv.note.startswith("not asked")

    def test_nothing_released_needs_no_check(self):
        assert all(c.epsilon == 0.0 for c in cross_checks([], DELTA))
