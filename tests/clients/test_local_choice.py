"""How a platform chooses its weights, and whether the others' counts help: by its own validation shoppers alone."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import sparse

from clients.evaluation import MANY, choose_joined, choose_local, evaluate
from clients.memory import Memory
from clients.recommender import LocalLayer, Recommender, federation_default
from tests.clients.scored import others_of, platform_of, some_platform


def chain(shoppers=60, seed=0):
    """Everyone who has item i buys i + 1 next; features are one-hot, so that the prior cannot know."""
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, 24, size=shoppers)
    return platform_of([[int(s + n) % 24 for n in range(4)] for s in starts], torch.eye(24))


def steps(by, strength=50.0):
    """What shoppers elsewhere do who go from i to i + by."""
    pairs = strength * np.eye(24)[:, (np.arange(24) - by) % 24]
    return Memory(np.full(24, strength), sparse.csr_matrix(pairs + pairs.T))


NOTHING_OWN = LocalLayer(popularity=0.0, transitions=0.0)
PUBLIC = federation_default(20_000)


def test_counts_of_others_that_clearly_help_are_used():
    platform, theirs = chain(shoppers=12), steps(1)
    chosen = choose_joined(platform, theirs, NOTHING_OWN, PUBLIC)
    assert chosen.others
    assert chosen.transitions > 0
    users = platform.test_users
    with_it = evaluate(platform, Recommender(platform, chosen, theirs), "test", users).ranks
    without = evaluate(platform, Recommender(platform, NOTHING_OWN), "test", users).ranks
    assert with_it.mean() < without.mean()


def test_counts_of_others_that_mislead_are_left_out():
    platform = chain(shoppers=MANY + 100)
    alone = choose_local(platform)
    assert choose_joined(platform, steps(7, 1e4), alone, PUBLIC) == alone


def test_a_platform_of_many_shoppers_that_gains_nothing_loses_next_to_nothing():
    """Over meaningless counts, what is chosen is never clearly worse on the test than what it had."""
    platform = chain(shoppers=MANY + 200)
    alone, users = choose_local(platform), platform.test_users
    base = (evaluate(platform, Recommender(platform, alone), "test", users).ranks <= 10).mean()
    for seed in range(3):
        theirs = others_of(platform, shoppers=2, seed=seed)
        chosen = choose_joined(platform, theirs, alone, PUBLIC)
        got = (evaluate(platform, Recommender(platform, chosen, theirs), "test", users).ranks <= 10).mean()
        assert got >= base - 0.01


def test_a_platform_that_cannot_tell_uses_the_federation_s_weights():
    platform = platform_of([[0, 1]] * 3, torch.eye(6))
    assert len(platform.valid_users) == 0
    chosen = choose_joined(platform, others_of(platform), LocalLayer(0.3, 1.0, decay=0.9), PUBLIC)
    assert (chosen.own, chosen.others) == (True, True)
    assert (chosen.popularity, chosen.transitions) == (
        PUBLIC.popularity,
        PUBLIC.transitions,
    )
    assert chosen.decay == 0.9, "how text is pooled stays the platform's own"


def test_noise_alone_is_seldom_taken_for_help():
    """The one-standard-error rule: over many platforms whose shoppers buy at random, most keep where they start."""
    from clients.evaluation import FIRST

    kept = sum(choose_local(some_platform(shoppers=80, seed=seed)) == FIRST for seed in range(8))
    assert kept >= 2


@pytest.mark.parametrize("choose", ["alone", "joined"])
def test_no_choice_looks_at_the_test_items(choose):
    """Whatever the test targets are, the same layer is chosen."""
    platform = chain()
    split = dataclasses.replace(platform.split, test_target=platform.split.test_target[::-1].copy())
    other = dataclasses.replace(platform, split=split)
    if choose == "alone":
        assert choose_local(other) == choose_local(platform)
    else:
        assert choose_joined(other, steps(1), NOTHING_OWN, PUBLIC) == choose_joined(
            platform, steps(1), NOTHING_OWN, PUBLIC
        )
