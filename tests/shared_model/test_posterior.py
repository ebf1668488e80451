"""The posterior mean against numerical integration, and at the ends of what noise can be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import expon, norm

from shared_model.errors import ExchangeError, NotFiniteError
from shared_model.posterior import posterior_mean

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30).map(np.array)


def sparse_values(n=20_000, p=0.05, scale=3.0, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.random(n) < p) * rng.exponential(scale, n), rng.standard_normal(n)


def by_integration(x, sigma, p, scale):
    def mean_and_mass(value, power):
        return quad(
            lambda v: v**power * expon.pdf(v, scale=scale) * norm.pdf(x, v, sigma), 0, 60, points=[max(x, 0)]
        )[0]

    slab = p * mean_and_mass(x, 0)
    return p * mean_and_mass(x, 1) / (slab + (1 - p) * norm.pdf(x, 0, sigma))


def test_it_is_the_mean_that_integration_gives():
    values, noise = sparse_values()
    x = values + 0.7 * noise
    scale = (np.square(x).mean() - 0.49) / (2 * x.mean())
    got = posterior_mean(x, 0.7)
    for at in [*range(5), int(x.argmax()), int(x.argmin())]:
        assert got[at] == pytest.approx(by_integration(x[at], 0.7, x.mean() / scale, scale), rel=1e-6)


def test_it_is_closer_to_the_values_than_any_threshold():
    values, noise = sparse_values()
    x = values + 2.0 * noise
    error = np.square(posterior_mean(x, 2.0) - values).mean()
    assert error < 0.95 * min(np.square(np.where(x > t, x, 0) - values).mean() for t in np.arange(0, 12, 0.5))


@given(numbers, st.floats(0, 1e9))
def test_it_is_a_number_of_zero_or_more_whatever_comes(x, sigma):
    got = posterior_mean(x, sigma)
    assert got.shape == x.shape
    assert np.isfinite(got).all()
    assert (got >= 0).all()


@given(numbers)
def test_without_noise_it_is_the_identity_on_what_is_positive(x):
    np.testing.assert_array_equal(posterior_mean(x, 0.0), np.maximum(x, 0))


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=30).map(np.array))
def test_with_little_noise_it_is_nearly_that(x):
    np.testing.assert_allclose(posterior_mean(x, 1e-7), np.maximum(x, 0), atol=1e-5)


@given(numbers)
def test_with_endless_noise_nothing_is_left(x):
    np.testing.assert_array_equal(posterior_mean(x, 1e9), np.zeros(len(x)))


@given(numbers, st.floats(0.01, 100), st.integers(-20, 20))
def test_units_do_not_matter(x, sigma, power):
    np.testing.assert_allclose(
        posterior_mean(x * 2.0**power, sigma * 2.0**power), posterior_mean(x, sigma) * 2.0**power, rtol=1e-9
    )


@given(st.integers(0, 20))
def test_of_noise_alone_nearly_nothing_is_left(seed):
    x = np.random.default_rng(seed).standard_normal(5000)
    assert posterior_mean(x, 1.0).mean() < 0.05


def test_where_everything_stands_out_all_stay():
    values = np.random.default_rng(1).exponential(50, 2000) + 20
    np.testing.assert_allclose(posterior_mean(values, 1.0), values, rtol=0.01)


@pytest.mark.parametrize(("x", "expected"), [(-3.0, 0.0), (1.0, 0.0), (100.0, 100.0)])
def test_one_cell(x, expected):
    assert posterior_mean(np.array([x]), 1.0)[0] == pytest.approx(expected, abs=0.1)


def test_one_cell_among_a_million_is_found():
    x = np.random.default_rng(0).standard_normal(10**6)
    x[7] = 12.0
    got = posterior_mean(x, 1.0)
    assert got[7] > 10
    assert got.mean() < 0.01


def test_strata_of_what_is_alike_are_closer_to_the_values():
    values, noise = sparse_values(p=0.02)
    more, other = sparse_values(p=0.5, seed=1)
    x = np.concatenate([values + noise, more + other])
    alike = np.concatenate([np.ones(len(values)), np.full(len(more), 9.0)])
    both = np.concatenate([values, more])
    apart, together = (np.square(posterior_mean(x, 1.0, by) - both).mean() for by in (alike, None))
    assert apart < 0.97 * together


def test_each_stratum_is_as_if_it_were_alone():
    values, noise = sparse_values(n=16_000)
    x, alike = values + noise, np.repeat(np.arange(8.0), 2000)
    order = np.random.default_rng(0).permutation(len(x))
    alone = np.concatenate([posterior_mean(part, 1.0) for part in np.split(x, 8)])
    np.testing.assert_array_equal(posterior_mean(x, 1.0, alike), alone)
    np.testing.assert_allclose(posterior_mean(x[order], 1.0, alike[order]), alone[order], rtol=1e-9)


def test_few_numbers_are_one_stratum():
    x = np.random.default_rng(0).exponential(2, 500)
    np.testing.assert_array_equal(posterior_mean(x, 1.0, np.arange(500)), posterior_mean(x, 1.0))


def test_no_cell_is_no_cell():
    assert posterior_mean(np.zeros(0), 1.0).shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(bad):
    with pytest.raises(NotFiniteError):
        posterior_mean(np.array([1.0, bad]), 1.0)
    with pytest.raises(ExchangeError):
        posterior_mean(np.array([1.0]), bad)


def test_noise_below_zero_is_refused():
    with pytest.raises(ExchangeError, match="-1"):
        posterior_mean(np.array([1.0]), -1.0)
