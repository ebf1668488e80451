"""The product table: what adds up, what is taken off, and counts against their formula written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_model.errors import ExchangeError, NotFiniteError
from shared_model.posterior import posterior_mean
from shared_model.table import ProductTable, release_share

EDGES = np.array([[0, 1], [0, 2], [1, 2], [2, 3]])
TEMPER = np.array([4.0, 1.0, 9.0, 16.0], dtype=np.float32)


def table(seed=0, noise=1.0, runs=1, temper=TEMPER):
    rng = np.random.default_rng(seed)
    return ProductTable(rng.exponential(5, 4), rng.exponential(3, 4), temper, noise, 2 * noise, runs)


def numbers_of(one):
    return one.popularity, one.edges, one.temper, one.popularity_variance, one.edges_variance, one.runs


def same(one, other):
    for a, b in zip(numbers_of(one), numbers_of(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_an_empty_table_counts_nothing():
    counts = ProductTable.empty(4, 4).counts(EDGES)
    assert not counts.popularity.any()
    assert not counts.pairs.any()
    assert counts.popularity.shape == counts.pairs.shape == (4,)


def test_what_is_added_in_any_order_is_the_same_and_can_be_taken_off():
    a, b, c = (table(seed, noise=1.0 + seed, runs=0 if seed else 1) for seed in range(3))
    same(a.plus(b).plus(c), c.plus(a).plus(b))
    same(a.plus(b).minus(b), a)
    assert a.plus(b).popularity_variance == 3.0


def test_the_table_of_one_member_without_its_own_is_empty():
    left = table().minus(table())
    assert (left.popularity_variance, left.edges_variance) == (0.0, 0.0)
    assert not left.counts(EDGES).popularity.any()
    assert not left.counts(EDGES).pairs.any()


@given(st.integers(1, 5), st.floats(0, 9))
def test_counts_are_posterior_means_brought_back_to_shoppers(runs, noise):
    one = table(3, noise, runs)
    counts = one.counts(EDGES)
    expected = posterior_mean(one.popularity / runs, noise**0.5 / runs) * 6**0.5
    np.testing.assert_allclose(counts.popularity, expected)
    shrunk = posterior_mean(one.edges / runs, (2 * noise) ** 0.5 / runs) * 0.3
    tempers = [(TEMPER[a] * TEMPER[b]) ** 0.25 for a, b in EDGES]
    np.testing.assert_allclose(counts.pairs, shrunk * tempers)


def test_pairs_are_judged_by_those_of_products_as_popular():
    rng = np.random.default_rng(0)
    edges = np.stack([np.arange(16_000), np.full(16_000, 16_000)], axis=1)
    temper = np.append(rng.permutation(np.repeat([1.0, 100.0], 8000)), 1.0)
    noised = rng.standard_normal(16_000) + np.where(temper[:-1] > 1, 3.0, 0.0)
    shrunk = (
        ProductTable(np.zeros(16_001), noised, temper, 1.0, 1.0, 1).counts(edges).pairs / temper[:-1] ** 0.25
    )
    alike = (noised > 2) & (noised < 2.5)
    assert shrunk[alike & (temper[:-1] > 1)].mean() > 3 * shrunk[alike & (temper[:-1] == 1)].mean()


def test_the_same_run_twice_counts_the_same_shoppers_with_less_noise():
    once, exact = table(noise=0.0), table(noise=0.0).plus(table(noise=0.0))
    np.testing.assert_allclose(exact.counts(EDGES).pairs, once.counts(EDGES).pairs)
    noisy = table(noise=4.0)
    most = int(noisy.popularity.argmax())  # what stands out is shrunk less
    assert noisy.plus(noisy).counts(EDGES).popularity[most] > noisy.counts(EDGES).popularity[most]


def test_the_temper_is_fixed_once():
    first = table(noise=0.0, temper=np.zeros(4))
    assert not first.counts(EDGES).pairs.any()
    fixed = first.fixed_temper()
    np.testing.assert_allclose(fixed.temper, np.maximum(first.counts(EDGES).popularity, 1), rtol=1e-6)
    assert fixed.plus(first).fixed_temper() is not None
    np.testing.assert_array_equal(fixed.plus(first).fixed_temper().temper, fixed.temper)
    assert (ProductTable.empty(4, 4).fixed_temper().temper == 1).all()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ExchangeError, match="another vocabulary"):
        table().plus(ProductTable.empty(5, 4))
    with pytest.raises(ExchangeError, match="another vocabulary"):
        table().minus(ProductTable.empty(4, 3))
    with pytest.raises(ExchangeError, match="temper differs"):
        table().plus(table(temper=TEMPER + 1))
    with pytest.raises(ExchangeError, match="not a part of it"):
        table(noise=1.0).minus(table(noise=2.0))
    with pytest.raises(ExchangeError, match="4 edges"):
        table().counts(EDGES[:3])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused(bad):
    for at in range(3):
        parts = [np.ones(4), np.ones(4), np.ones(4)]
        parts[at][2] = bad
        with pytest.raises(NotFiniteError):
            ProductTable(*parts)
    with pytest.raises(ExchangeError):
        ProductTable(np.ones(4), np.ones(4), np.ones(4), bad)


@pytest.mark.parametrize(
    "parts",
    [
        (np.ones((2, 2)), np.ones(4), np.ones(4)),
        (np.ones(4), np.ones(4), np.ones(3)),
        (np.ones(4), np.ones(4), np.array([1.0, 0.0, 1.0, 1.0])),
        (np.ones(4), np.ones(4), np.ones(4), -1.0),
        (np.ones(4), np.ones(4), np.ones(4), 1.0, 1.0, -1),
    ],
)
def test_tables_that_are_none_are_refused(parts):
    with pytest.raises(ExchangeError):
        ProductTable(*parts)


@given(st.integers(0, 10**8), st.integers(0, 10**8))
def test_both_parts_of_a_release_have_a_share_and_popularity_less_of_it_with_more_shoppers(one, other):
    few, many = sorted((one, other))
    assert 0 < release_share(many) <= release_share(few) < 1
