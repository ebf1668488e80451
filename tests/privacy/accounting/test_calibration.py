"""The least noise for a target ε."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.accounting import calibrate_noise, epsilon
from privacy.accounting.calibration import round_up
from privacy.errors import PlanError
from privacy.events import PoissonGaussian

DELTA = 1e-6


@pytest.mark.parametrize(
    ("target", "q", "steps"), [(1.0, 0.025, 400), (8.0, 0.1, 50), (0.1, 0.01, 100), (2.0, 1.0, 30)]
)
def test_cost_is_within_one_per_mille_below_the_target(target, q, steps):
    noise = calibrate_noise(target, DELTA, q, steps)
    cost = epsilon([PoissonGaussian(q, noise, steps)], DELTA)
    assert target * (1 - 2e-3) <= cost <= target


def test_it_needs_less_noise_than_rdp_asks_for():
    from opacus.accountants.utils import get_noise_multiplier

    rdp = get_noise_multiplier(
        target_epsilon=2.0, target_delta=DELTA, sample_rate=0.025, steps=400, accountant="rdp"
    )
    assert calibrate_noise(2.0, DELTA, 0.025, 400) < 0.97 * rdp


def test_what_cannot_be_met_is_refused():
    with pytest.raises(PlanError, match="cannot be met"):
        calibrate_noise(1e-9, 1e-10, 1.0, 10_000)


def test_a_generous_target_gets_the_least_noise_allowed():
    assert calibrate_noise(900.0, DELTA, 0.01, 1) == 0.1


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1.0, True, 1e9])
def test_bad_targets_are_refused(bad):
    with pytest.raises(PlanError, match="epsilon"):
        calibrate_noise(bad, DELTA, 0.1, 10)


@given(st.floats(1e-6, 1e6))
def test_rounding_never_lowers(value):
    assert value <= round_up(value) <= value * 1.0011
