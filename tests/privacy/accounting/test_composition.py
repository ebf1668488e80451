"""Many releases: the closed form, dp-accounting's composition, extended precision; never below the truth."""

import math
import random

import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant, privacy_loss_distribution
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft

from privacy.accounting import epsilon
from privacy.accounting.composition import _power, _window, compose
from privacy.accounting.gaussian import gaussian_loss
from privacy.accounting.loss import GRID, TAIL, LossMass, PrivacyLoss
from privacy.events import Gaussian, PoissonGaussian

DELTA = 1e-6


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.5, 20.0, 300.0])
@pytest.mark.parametrize("count", [1, 7, 400])
@pytest.mark.parametrize("delta", [1e-6, 1e-10])
def test_unsampled_composition_is_the_closed_form_and_never_below(exact, noise, count, delta):
    truth = exact(noise / math.sqrt(count), delta)
    ours = epsilon([Gaussian(noise, count)], delta)
    assert truth <= ours + 1e-12
    assert ours == pytest.approx(truth, rel=5e-3, abs=3e-3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(2.0, 50.0), min_size=1, max_size=25), st.integers(1, 20))
def test_different_gaussians_compose_to_the_closed_form_and_never_below(exact, noises, count):
    truth = exact(sum(count / s**2 for s in noises) ** -0.5, DELTA)
    ours = epsilon([Gaussian(s, count) for s in noises], DELTA)
    assert truth <= ours <= truth * (1 + 2e-3) + 1e-3


@pytest.mark.parametrize(
    ("events", "grid", "apart"),
    [
        ([PoissonGaussian(0.05, 1.0, 100)], 1e-4, 1e-4),
        ([PoissonGaussian(0.02, 0.7, 50), PoissonGaussian(0.1, 2.0, 30), Gaussian(5.0, 3)], 1e-4, 1e-4),
        ([PoissonGaussian(1e-4, 1.0, 5000), Gaussian(300.0)], GRID, 1e-5),
        ([PoissonGaussian(0.01 * i, 0.8 + 0.1 * i, 5 * i) for i in range(1, 8)], GRID, 1e-6),
    ],
)
def test_composition_equals_dp_accounting(events, grid, apart):
    """On its own finer grid nearly, on ours as far as round-off goes."""
    theirs = PLDAccountant(value_discretization_interval=grid)
    for event in events:
        theirs.compose(event.to_dp_event())
    assert epsilon(events, DELTA) == pytest.approx(theirs.get_epsilon(DELTA), rel=apart)


@pytest.mark.parametrize(
    ("q", "noise", "steps", "grid", "slack"),
    [(0.05, 0.9, 60, 1e-4, 0.01), (0.003, 0.5, 200, 2e-4, 0.02), (1e-4, 1.0, 5000, 1e-5, 0.04)],
)
def test_epsilon_is_not_below_an_optimistic_estimate(q, noise, steps, grid, slack):
    """A lower bound on the truth, from dp-accounting's optimistic rounding."""
    optimistic = privacy_loss_distribution.from_gaussian_mechanism(
        noise,
        pessimistic_estimate=False,
        value_discretization_interval=grid,
        sampling_prob=q,
        use_connect_dots=False,
    ).self_compose(steps)
    lower = optimistic.get_epsilon_for_delta(DELTA)
    assert lower <= epsilon([PoissonGaussian(q, noise, steps)], DELTA) <= lower * 1.01 + slack


def test_infinite_loss_and_lost_mass_are_never_forgotten():
    """Composition keeps the mass at infinity, and missing mass counts as such."""
    half_lost = LossMass(GRID, 0, np.array([0.5, 0.25]), 0.25)
    twice = compose([(PrivacyLoss(half_lost, half_lost), 2)]).remove
    assert twice.infinity == pytest.approx(1 - 0.75**2, abs=1e-9)
    incomplete = LossMass(GRID, 0, np.array([0.5, 0.25]), 0.0)  # a quarter of the mass is missing
    assert compose([(PrivacyLoss(incomplete, incomplete), 2)]).remove.lost == pytest.approx(1 - 0.75**2)
    many = compose([(gaussian_loss(0.05, 1.0), 9)]).remove
    assert many.lost >= many.allowance > 0.0


def test_order_and_splitting_do_not_matter():
    whole = epsilon([PoissonGaussian(0.05, 1.0, 30), Gaussian(8.0, 2)], DELTA)
    pieces = [Gaussian(8.0), *[PoissonGaussian(0.05, 1.0, 10)] * 3, Gaussian(8.0)]
    random.Random(0).shuffle(pieces)
    assert epsilon(pieces, DELTA) == whole


@settings(max_examples=10, deadline=None)
@given(st.floats(1e-4, 1.0), st.floats(0.4, 30.0), st.integers(2, 300))
def test_the_window_holds_all_but_the_tail(q, noise, count):
    """The whole sum, without a window, has no more than TAIL outside it, up to the transform's own noise."""
    mass = gaussian_loss(q, noise).remove
    low, high = _window([(mass, count)])
    span = (len(mass.probs) - 1) * count + 1
    if span > 1 << 22:
        return
    points = fft.next_fast_len(span, real=True)
    whole = fft.irfft(fft.rfft(mass.probs, points) ** count, points)[:span]
    inside = slice(low - mass.lower * count, high - mass.lower * count + 1)
    outside = float(np.abs(whole).sum() - np.abs(whole[inside]).sum())
    assert outside <= TAIL + count * 2.0**-52 * math.sqrt(points) * float(np.linalg.norm(whole))


def extended(parts):
    """The composition again, at once, in extended precision."""
    low, high = _window(parts)
    points = fft.next_fast_len(max(high - low + 1, *(len(m.probs) for m, _ in parts)), real=True)
    spectrum = np.ones(points // 2 + 1, np.clongdouble)
    for mass, count in parts:
        spectrum = spectrum * _power(fft.rfft(mass.probs.astype(np.longdouble), points), count)
    lowest = sum(mass.lower * count for mass, count in parts)
    return np.roll(fft.irfft(spectrum, points), lowest - low)[: high - low + 1]


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="no extended precision on this machine")
@pytest.mark.parametrize("how", ["powers", "tree", "one by one"])
def test_round_off_is_within_its_allowance(how):
    rng = random.Random(5)
    units = [gaussian_loss(rng.uniform(0.005, 0.1), rng.uniform(0.6, 4.0)) for _ in range(40)]
    if how == "powers":
        parts = [(gaussian_loss(1e-4, 1.0), 5000)]
        loss = compose(parts)
    elif how == "tree":
        parts = [(unit, rng.randint(1, 50)) for unit in units]
        loss = compose(parts)
    else:
        parts = [(unit, 4) for unit in units]
        loss = units[0]
        for unit in (units * 4)[1:]:
            loss = compose([(loss, 1), (unit, 1)])
    for side in ("remove", "add"):
        ours = getattr(loss, side)
        truth = extended([(getattr(unit, side), count) for unit, count in parts])
        assert len(ours.probs) == len(truth)
        error = float(np.abs(ours.probs - truth).sum())
        assert 0.0 < error < ours.allowance / 2
