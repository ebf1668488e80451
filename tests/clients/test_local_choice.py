"""How a platform chooses its local layer: what clearly helps on validation shoppers, and nothing else."""

import dataclasses

import numpy as np
import pytest
import torch

from clients.evaluation import (
    CHOICE_USERS,
    POPULARITY_WEIGHTS,
    choose_blend,
    choose_blends,
    choose_popularity,
    evaluate,
)
from clients.recommender import ZERO_SHOT_PRIOR, LocalLayer, Recommender
from shared_model.model import initial_shared
from tests.clients.scored import platform_of, some_platform, trained


def test_blends_chosen_together_are_those_chosen_alone():
    platform = some_platform(items=80, shoppers=60)
    models = {str(seed): trained(platform, 0.2, seed) for seed in range(3)}
    found = choose_blends(platform, models, PRIOR)
    assert found == {name: choose_blend(platform, shared, PRIOR) for name, shared in models.items()}


def chain(filter_seen=True, shoppers=60, noise=0):
    """Everyone who has item i buys i + 1 next; features are one-hot, so that the prior cannot know."""
    rng = np.random.default_rng(noise)
    starts = rng.integers(0, 24, size=shoppers)
    return platform_of([[int(s + n) % 24 for n in range(4)] for s in starts], torch.eye(24))


def moving(platform, matrix, strength):
    """Return shared tensors whose residual moves the user by `strength` times a matrix."""
    shared = initial_shared(platform.spec)
    shared["residual_in"] = torch.eye(platform.spec.feature_width)
    shared["residual_out"] = strength * matrix
    return shared


PRIOR = LocalLayer(blend=0.0, popularity=0.1)


def test_a_shared_part_that_clearly_helps_is_taken():
    platform = chain()
    shared = moving(platform, torch.eye(24).roll(1, dims=1), 5.0)  # i → i + 1
    chosen = choose_blend(platform, shared, PRIOR)
    assert chosen.blend > 0
    assert chosen.popularity == PRIOR.popularity
    users = platform.test_users
    with_it = evaluate(platform, Recommender(platform, shared, chosen), "test", users).ranks
    without = evaluate(platform, Recommender(platform, shared, PRIOR), "test", users).ranks
    assert with_it.mean() < 2 < without.mean()


def close_pairs():
    """Items 2k and 2k + 1 are alike, and who has one buys the other: the prior is right."""
    features = torch.eye(24)
    features[1::2] = torch.nn.functional.normalize(features[0::2] + 0.5 * features[1::2])
    return platform_of(
        [[(2 * k + 6) % 24, 2 * k, 2 * k + 1, (2 * k + 7) % 24] for k in range(12)] * 4, features
    )


@pytest.mark.parametrize("kind", ["opposite", "elsewhere", "diverged", "untrained"])
def test_a_shared_part_that_does_not_help_is_left_out(kind):
    platform = close_pairs()
    shared = {
        "opposite": lambda: moving(platform, torch.eye(24), -3.0),
        "elsewhere": lambda: moving(platform, torch.eye(24).roll(9, dims=1), 20.0),
        "diverged": lambda: moving(platform, torch.eye(24), 1.0) | {"log_sharpness": torch.tensor([200.0])},
        "untrained": lambda: initial_shared(platform.spec),
    }[kind]()
    assert choose_blend(platform, shared, PRIOR) == PRIOR


def test_noise_alone_is_seldom_taken_for_help():
    """The one-standard-error rule: over many meaningless models, most leave the prior in place."""
    platform = some_platform(shoppers=120)
    kept = sum(choose_blend(platform, trained(platform, 0.2, seed), PRIOR) == PRIOR for seed in range(20))
    assert kept >= 12


def test_without_validation_shoppers_the_prior_stays():
    platform = platform_of([[0, 1]] * 3, torch.eye(6))
    assert len(platform.valid_users) == 0
    shared = moving(platform, torch.eye(6).roll(1, dims=1), 5.0)
    assert choose_blend(platform, shared, PRIOR) == PRIOR
    assert choose_popularity(platform) == ZERO_SHOT_PRIOR


def test_the_weight_of_popularity_is_the_best_on_validation():
    rng = np.random.default_rng(0)
    random = [rng.permutation(24)[:3].tolist() for _ in range(60)]
    unpopular = platform_of([[i, (i + 1) % 12 + 12, i + 12] for i in range(12)] * 3, torch.eye(24))
    popular = platform_of(
        [[r[0], 0, 1] if 0 not in r[:1] and 1 not in r[:1] else [5, 0, 1] for r in random], torch.eye(24)
    )
    for platform in (popular, unpopular):
        chosen = choose_popularity(platform)
        assert chosen.blend == 0
        shared = initial_shared(platform.spec)
        users = platform.valid_users[:CHOICE_USERS]
        values = {}
        for weight in POPULARITY_WEIGHTS:
            scorer = Recommender(platform, shared, LocalLayer(0.0, weight))
            ranks = evaluate(platform, scorer, "valid", users).ranks
            values[weight] = np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0).mean()
        assert values[chosen.popularity] == max(values.values())


def test_no_choice_looks_at_the_test_items():
    """Whatever the test targets are, the same layer is chosen."""
    platform = chain()
    shared = moving(platform, torch.eye(24).roll(1, dims=1), 5.0)
    split = dataclasses.replace(platform.split, test_target=platform.split.test_target[::-1].copy())
    other = dataclasses.replace(platform, split=split)
    assert choose_blend(other, shared, PRIOR) == choose_blend(platform, shared, PRIOR)
    assert choose_popularity(other) == choose_popularity(platform)
