"""Canaries enter as shoppers do, own what they add, and add as much as any shopper may."""

import numpy as np
import pytest

from clients.audit.canaries import owned_edges, with_canaries
from clients.training import ShopperEvents, exact_sum
from shared_model.stages import Stage


def owned_by(subject, most=1000):
    return owned_edges(subject.vocabulary.edges, most, np.random.default_rng(3))


def test_owned_edges_have_no_product_in_common(subject):
    owned = owned_by(subject)
    pairs = subject.vocabulary.edges[owned]
    assert 150 < len(owned) <= 200
    assert len(np.unique(pairs)) == 2 * len(owned)
    assert (owned_by(subject) == owned).all()
    assert (owned_by(subject, 7) == owned[:7]).all()
    assert len(owned_edges(np.zeros((0, 2), np.int32), 5, np.random.default_rng(0))) == 0


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("others", [True, False])
def test_a_canary_adds_its_unit_row_whatever_the_temper(subject, stage, others):
    edges, products, owned = subject.vocabulary.edges, len(subject.vocabulary), owned_by(subject)[:30]
    shoppers = subject.events if others else ShopperEvents(*np.zeros((3, 0), np.int64))
    inside = np.arange(30) % 3 == 0
    given = {"temper": np.linspace(1, 50, products)}
    pairs = edges[owned].astype(np.int64)
    with_them, without = (
        exact_sum(stage, events, edges, given, products)
        for events in (with_canaries(shoppers, pairs[inside]), shoppers)
    )
    rows = np.zeros((30, products if stage is Stage.POPULARITY else len(edges)))
    if stage is Stage.POPULARITY:
        np.put_along_axis(rows, pairs, 0.5**0.5, axis=1)
    else:
        rows[np.arange(30), owned] = 1.0
    np.testing.assert_allclose(with_them - without, rows[inside].sum(axis=0), atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1)
