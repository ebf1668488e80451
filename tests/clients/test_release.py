"""The two sums against loops over shoppers, and what one shopper can move them by."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients import release
from clients.release import edge_sum, popularity_sum
from privacy.errors import MechanismError

V = 7
EDGES = np.array([[0, 1], [0, 4], [1, 2], [1, 5], [2, 3], [3, 4], [3, 6], [5, 6]])
event = st.tuples(st.integers(-1, V - 1), st.integers(0, 2))
shoppers = st.lists(st.lists(event, max_size=30), max_size=8)
tempers = st.lists(st.floats(0.01, 1e4), min_size=V, max_size=V).map(np.array)


def flat(histories):
    """Return users, products and groups of histories of (product, baskets since the last event)."""
    users = [3 * u for u, history in enumerate(histories) for _ in history]
    products = [product for history in histories for product, _ in history]
    groups = [g for history in histories for g in np.cumsum([0] + [step for _, step in history])[1:]]
    return tuple(np.array(part, dtype=np.int64) for part in (users, products, groups))


def popularity_by_hand(histories):
    total = np.zeros(V)
    for history in histories:
        held = {product for product, _ in history if product >= 0}
        for product in held:
            total[product] += len(held) ** -0.5
    return total


def edges_by_hand(histories, temper):
    total = np.zeros(len(EDGES))
    for history in histories:
        row = np.zeros(len(EDGES))
        when = np.cumsum([step for _, step in history])
        for i in range(len(history)):
            for j in range(i + 1, min(i + 21, len(history))):
                for e, (a, b) in enumerate(EDGES):
                    if {history[i][0], history[j][0]} == {a, b}:
                        row[e] += max(when[j] - when[i], 1) ** -0.5 * (temper[a] * temper[b]) ** -0.25
        if row.any():
            total += row / np.sqrt((row**2).sum())
    return total


@given(shoppers)
def test_popularity_equals_a_loop(histories):
    users, products, _ = flat(histories)
    np.testing.assert_allclose(popularity_sum(users, products, V), popularity_by_hand(histories), atol=1e-7)


@given(shoppers, tempers)
def test_edges_equal_a_loop(histories, temper):
    got = edge_sum(*flat(histories), EDGES, V, temper)
    np.testing.assert_allclose(got, edges_by_hand(histories, temper), atol=1e-7)


@given(shoppers, tempers, st.integers(1, 9))
@settings(max_examples=30)
def test_chunks_do_not_matter(histories, temper, size):
    parts = flat(histories)
    whole = popularity_sum(*parts[:2], V), edge_sum(*parts, EDGES, V, temper)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(release, "CHUNK", size)
        chunked = popularity_sum(*parts[:2], V), edge_sum(*parts, EDGES, V, temper)
    for one, other in zip(whole, chunked, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@given(shoppers.filter(len), tempers)
def test_each_shopper_moves_each_sum_by_one_at_most(histories, temper):
    users, products, groups = flat(histories)
    popularity, edges = (
        popularity_sum(users, products, V),
        edge_sum(users, products, groups, EDGES, V, temper),
    )
    for u in range(len(histories)):
        rest = users != 3 * u
        without = popularity_sum(users[rest], products[rest], V)
        assert np.linalg.norm(popularity - without) <= 1 + 1e-9
        without = edge_sum(users[rest], products[rest], groups[rest], EDGES, V, temper)
        assert np.linalg.norm(edges - without) <= 1 + 1e-9


@given(st.lists(event, min_size=1, max_size=60), tempers)
def test_one_shopper_alone_is_a_row_of_norm_one_or_zero(history, temper):
    users, products, groups = flat([history])
    for row in (popularity_sum(users, products, V), edge_sum(users, products, groups, EDGES, V, temper)):
        assert np.linalg.norm(row) <= 1
        assert not row.any() or np.linalg.norm(row) == pytest.approx(1)


@pytest.mark.parametrize("temper", [np.full(V, 1e-300), np.full(V, 1e300), np.geomspace(1e-300, 1e300, V)])
def test_no_temper_makes_a_row_longer(temper):
    row = edge_sum(*flat([[(p, 1) for p in range(V)] * 3]), EDGES, V, temper)
    assert np.linalg.norm(row) <= 1


def test_shoppers_in_two_places_are_refused():
    users, products, groups = np.array([0, 1, 0]), np.array([0, 1, 1]), np.array([0, 0, 1])
    for call in (
        lambda: popularity_sum(users, products, V),
        lambda: edge_sum(users, products, groups, EDGES, V, np.ones(V)),
    ):
        with pytest.raises(MechanismError, match="two places"):
            call()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1.0])
def test_a_temper_that_is_none_is_refused(bad):
    temper = np.ones(V)
    temper[3] = bad
    with pytest.raises(MechanismError, match="temper"):
        edge_sum(*flat([[(0, 0), (1, 1)]]), EDGES, V, temper)


@pytest.mark.parametrize("edges", [EDGES[::-1], EDGES[:, ::-1], np.repeat(EDGES, 2, 0), EDGES + 1])
def test_edges_that_are_none_are_refused(edges):
    with pytest.raises(MechanismError, match="edges"):
        edge_sum(*flat([[(0, 0), (1, 1)]]), edges, V, np.ones(V))


@pytest.mark.parametrize("product", [-2, V])
def test_products_outside_the_vocabulary_are_refused(product):
    with pytest.raises(MechanismError, match="vocabulary"):
        popularity_sum(np.array([0]), np.array([product]), V)


def test_parts_of_other_lengths_are_refused():
    with pytest.raises(MechanismError, match="one of each"):
        popularity_sum(np.array([0]), np.array([1, 2]), V)


def test_nothing_gives_nothing():
    nothing = np.zeros(0, dtype=np.int64)
    assert not popularity_sum(nothing, nothing, V).any()
    assert edge_sum(nothing, nothing, nothing, EDGES, V, np.ones(V)).shape == (len(EDGES),)
    empty = np.zeros((0, 2), dtype=np.int32)
    assert edge_sum(*flat([[(0, 0), (1, 1)]]), empty, V, np.ones(V)).shape == (0,)
    assert popularity_sum(nothing, nothing, 0).shape == (0,)
