"""Sensitivity: the guarantee rests on this. Each shopper in turn is removed from the raw rows."""

import dataclasses
from zlib import crc32

import numpy as np
import pytest
import torch

from clients import training
from clients.training import train_private
from shared_model.loss import Negatives, shopper_loss, shopper_utility
from shared_model.model import block_products
from tests.clients.one_step import RECIPE, Silence, clipped_sum, length, plan


def movements(setting, frame, clip_norm, prepare=lambda taken: taken.data):
    """Return how far the sum moves when each shopper's raw rows are removed, over C."""
    whole = clipped_sum(setting, prepare(setting.of(frame)), clip_norm=clip_norm)
    for user in sorted(set(frame["user_id"])):
        without = setting.of(frame[frame["user_id"] != user])
        rest = clipped_sum(setting, prepare(without), clip_norm=clip_norm)
        yield length({name: whole[name] - rest[name] for name in whole}) / clip_norm


@pytest.mark.parametrize("clip_norm", [0.02, 2.0])
def test_no_shopper_moves_the_sum_by_more_than_the_clip_norm(setting, events, clip_norm):
    moved = list(movements(setting, events(), clip_norm))
    assert len(moved) == 10
    assert max(moved) <= 1 + 1e-6
    assert max(moved) > 0.5
    assert min(moved) == 0  # "short" has too few events to take part


@pytest.mark.parametrize("setting", [("tiny",)], indirect=True)
def test_the_sensitivity_test_finds_in_batch_negatives(setting, events, monkeypatch):
    honest = training.per_shopper_gradients

    def mixing(shared, spec, example, negatives, weights, **options):
        """Everyone else's targets are the negatives: the defect of contrastive losses."""
        others = weights.bool()
        in_batch = Negatives(
            example.targets[others].flatten(0, 1),
            example.target_norms[others].flatten(0, 1),
            example.target_isolation[others].flatten(0, 1),
        )
        everything = torch.ones(len(weights), len(in_batch.features), dtype=torch.bool)
        products = block_products(spec, example.history, in_batch.features)
        mixed = dataclasses.replace(example, negative_mask=everything, negative_products=products)
        return honest(shared, spec, mixed, in_batch, weights, **options)

    monkeypatch.setattr(training, "per_shopper_gradients", mixing)
    assert max(movements(setting, events(), 0.02)) > 1.05


@pytest.mark.parametrize("setting", [("tiny",)], indirect=True)
def test_the_sensitivity_test_finds_a_feature_that_counts_shoppers(setting, events):
    def with_popularity(taken):
        counts = np.bincount(taken.split.seen("train")[1], minlength=80)
        features = taken.data.features.clone()
        features[:, 0] = torch.from_numpy(np.log1p(counts))
        return dataclasses.replace(taken.data, features=features)

    assert max(movements(setting, events(), 0.02, with_popularity)) > 1.05


def test_a_gradient_too_large_to_square_is_still_clipped(setting, events, monkeypatch):
    data = setting.of(events(), dtype=torch.float32).data
    honest = training.per_shopper_gradients

    def huge(*arguments, **options):
        return {name: g * 1e30 for name, g in honest(*arguments, **options).items()}

    monkeypatch.setattr(training, "per_shopper_gradients", huge)
    monkeypatch.setattr(training, "_adam", lambda p, _: torch.optim.SGD(list(p.values()), lr=1.0))
    shared = {name: t.float() for name, t in setting.shared.items()}
    after = train_private(shared, setting.spec, data, RECIPE, plan(0.5), Silence(), np.random.default_rng(1))
    assert length({n: (shared[n] - after[n]) * 20 for n in shared}) <= 0.5 * len(data)


# Weights of events


def weighed(taken):
    """The training data with weights from 0.001 to 1000, as from one shopper's own events and nothing else."""
    weights = [[10.0 ** (crc32(f"{user}/{n}".encode()) % 7 - 3) for n in range(6)] for user in taken.users]
    return dataclasses.replace(taken.data, weights=torch.tensor(weights, dtype=torch.float32))


@pytest.mark.parametrize("clip_norm", [0.02, 2.0])
def test_no_weight_lets_a_shopper_move_the_sum_further(setting, events, clip_norm):
    moved = list(movements(setting, events(), clip_norm, weighed))
    assert max(moved) <= 1 + 1e-6
    assert max(moved) > 0.5
    plain = clipped_sum(setting, setting.of(events()).data, clip_norm=clip_norm)
    changed = clipped_sum(setting, weighed(setting.of(events())), clip_norm=clip_norm)
    assert any(not torch.allclose(plain[name], changed[name]) for name in plain)


@pytest.mark.parametrize("setting", [("tiny",)], indirect=True)
def test_the_sensitivity_test_finds_weights_that_look_at_all_shoppers(setting, events):
    def relative(taken):
        """Weights by how many shoppers there are: a shopper who is removed turns everyone else's step around."""
        sign = 1.0 if len(taken.users) % 2 else -1.0
        weights = torch.full(taken.data.items.shape, sign)
        return dataclasses.replace(taken.data, weights=weights)

    assert max(movements(setting, events(), 0.02, relative)) > 1.05


def test_the_loss_and_the_utility_are_means_by_weight(setting, events):
    """Against one target at a time; targets that weigh less than 1 together count as much as they weigh."""
    taken = setting.of(events())
    users, rows = np.arange(len(taken.data)), torch.tensor([0, 7, 11, 20, 33, 79])
    plain, data = taken.data.chunk(users, rows), weighed(taken)
    example, negatives = data.chunk(users, rows), data.negatives(rows)
    weights = torch.where(plain.target_mask > 0, data.weights[:, -data.targets :], 0.0)
    assert torch.equal(example.target_mask, weights)

    def alone(measure, at):
        only = dataclasses.replace(plain, target_mask=torch.eye(data.targets)[at].expand_as(weights))
        return measure(setting.shared, setting.spec, only, negatives)

    for measure in (shopper_loss, shopper_utility):
        values = torch.stack([alone(measure, at) for at in range(data.targets)], -1)
        expected = (values * weights).nan_to_num(0.0).sum(-1) / weights.sum(-1).clamp(min=1)
        torch.testing.assert_close(measure(setting.shared, setting.spec, example, negatives), expected)
    assert (shopper_utility(setting.shared, setting.spec, example, negatives) <= 1).all()
