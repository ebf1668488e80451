"""The loss against a plain float64 loop over target moments."""

import dataclasses

import numpy as np
import pytest
import torch

from shared_model import loss
from shared_model.loss import Negatives, ShopperExample, shopper_loss, shopper_utility
from shared_model.model import block_norms, block_products


def example_of(spec, items, history, ages, targets, mask, negatives, allowed):
    """Build what the loss sees from catalogue rows."""
    return (
        ShopperExample(
            history=items[history],
            history_norms=block_norms(spec, items[history]),
            ages=ages,
            targets=items[targets],
            target_norms=block_norms(spec, items[targets]),
            target_isolation=ISOLATION[targets],
            target_mask=mask,
            negative_mask=allowed,
            target_products=block_products(spec, items[history], items[targets]),
            negative_products=block_products(spec, items[history], items[negatives]),
        ),
        Negatives(items[negatives], block_norms(spec, items[negatives]), ISOLATION[negatives]),
    )


ISOLATION = torch.linspace(0, 0.9, 12, dtype=torch.float64)
HISTORY = [0, 2, 5, 5, 7, 3]
INF = torch.inf
AGES = torch.tensor(
    [[1.0, 1.0, INF, INF, INF, INF], [3.0, 3.0, 2.0, 1.0, INF, INF], [4.0, 4.0, 3.0, 2.0, 1.0, INF]]
).double()
TARGETS = [5, 7, 3]
NEGATIVES = [1, 1, 4, 6, 11, 2]
ALLOWED = torch.tensor([True, True, True, False, True, False])


def a_case(draws, mask):
    items = draws.items(12)
    return items, *example_of(draws.spec, items, HISTORY, AGES, TARGETS, mask, NEGATIVES, ALLOWED)


def moments_of(items, mask):
    for ages, target, counts in zip(AGES, TARGETS, mask, strict=True):
        if counts:
            events = [(items[i], a) for i, a in zip(HISTORY, ages, strict=True) if torch.isfinite(a)]
            yield events, (items[target], ISOLATION[target])


def test_loss_is_the_mean_cross_entropy_over_the_shopper_s_own_targets(draws, reference):
    shared = draws.shared()
    for mask in ([1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 1.0]):
        items, example, negatives = a_case(draws, torch.tensor(mask).double())
        got = shopper_loss(shared, draws.spec, example, negatives)
        others = [(items[n], ISOLATION[n]) for n, keep in zip(NEGATIVES, ALLOWED, strict=True) if keep]
        expected = reference.loss(
            shared, draws.spec.encoder_dimensions, list(moments_of(items, mask)), others
        )
        torch.testing.assert_close(got, expected, atol=1e-10, rtol=1e-10)


def test_a_masked_negative_has_no_influence(draws):
    shared = draws.shared()
    _, example, negatives = a_case(draws, torch.ones(3).double())
    other = negatives.features.clone()
    other[~ALLOWED] = draws.normal(2, draws.spec.feature_width)
    apart = torch.where(ALLOWED, negatives.isolation, 1.0)
    changed = dataclasses.replace(
        negatives, features=other, norms=block_norms(draws.spec, other), isolation=apart
    )
    products = block_products(draws.spec, example.history, other)
    moved = dataclasses.replace(example, negative_products=products)
    before = shopper_loss(shared, draws.spec, example, negatives)
    assert torch.equal(shopper_loss(shared, draws.spec, moved, changed), before)
    open_mask = dataclasses.replace(example, negative_mask=torch.ones(6, dtype=torch.bool))
    assert shopper_loss(shared, draws.spec, open_mask, negatives) > before


def test_without_targets_or_without_negatives_loss_and_gradient_are_zero(draws):
    _, example, negatives = a_case(draws, torch.zeros(3).double())
    nobody = dataclasses.replace(
        example, target_mask=torch.ones(3).double(), negative_mask=torch.zeros(6, dtype=torch.bool)
    )
    for case in (example, nobody):
        shared = {name: t.requires_grad_() for name, t in draws.shared().items()}
        value = shopper_loss(shared, draws.spec, case, negatives)
        value.backward()
        assert value == 0
        assert all(not t.grad.any() for t in shared.values())


def test_candidates_of_each_shopper_s_own_give_what_shared_ones_would(draws):
    """Two shoppers with two sets of candidates at once, and each alone."""
    shared, items = draws.shared(), draws.items(12)
    sets, alone = ([1, 4, 6, 11], [9, 0, 8, 2]), []
    for rows in sets:
        allowed = torch.tensor([True, True, False, True])
        alone.append(
            example_of(draws.spec, items, HISTORY, AGES, TARGETS, torch.ones(3).double(), rows, allowed)
        )
    together = [
        kind(
            **{
                f.name: torch.stack([getattr(one[at], f.name) for one in alone])
                for f in dataclasses.fields(kind)
            }
        )
        for at, kind in ((0, ShopperExample), (1, Negatives))
    ]
    for measure in (shopper_loss, shopper_utility):
        expected = torch.stack([measure(shared, draws.spec, *one) for one in alone])
        torch.testing.assert_close(measure(shared, draws.spec, *together), expected)


def test_a_batch_gives_each_shopper_the_loss_it_has_alone(draws):
    shared = draws.shared()
    cases = [
        a_case(draws, torch.tensor(m).double())[1:] for m in ([1.0, 1.0, 0.0], [0.0] * 3, [0.0, 1.0, 1.0])
    ]
    negatives = cases[0][1]
    columns = {
        f.name: torch.stack([getattr(example, f.name) for example, _ in cases])
        for f in dataclasses.fields(ShopperExample)
    }
    together = shopper_loss(shared, draws.spec, ShopperExample(**columns), negatives)
    assert together.shape == (3,)
    for (example, _), got in zip(cases, together, strict=True):
        torch.testing.assert_close(shopper_loss(shared, draws.spec, example, negatives), got)


@pytest.mark.parametrize("top", [10, 2, 1])
def test_utility_is_the_mean_of_what_each_target_s_rank_is_worth(draws, reference, top, monkeypatch):
    monkeypatch.setattr(loss, "TOP", top)
    shared = draws.shared()
    for mask in ([1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]):
        items, example, negatives = a_case(draws, torch.tensor(mask).double())
        got = shopper_utility(shared, draws.spec, example, negatives)
        worth = []
        for events, target in moments_of(items, mask):
            score = lambda x: reference.score(shared, draws.spec.encoder_dimensions, events, x)  # noqa: E731, B023
            above = sum(
                bool(score((items[n], ISOLATION[n])) >= score(target))
                for n, keep in zip(NEGATIVES, ALLOWED, strict=True)
                if keep
            )
            worth.append(1 / np.log2(2 + above) if above < top else 0.0)
        assert float(got) == pytest.approx(np.mean(worth) if worth else 0.0)
        assert 0 <= got <= 1
