"""Evaluation against a full sort, and a local layer that never takes what does not help."""

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch

from clients import recommender
from clients.data import build_catalogue, items_table, leave_one_out
from clients.data.sequences import Sequences
from clients.evaluation import (
    CHOICE_USERS,
    DECAYS,
    POPULARITY_WEIGHTS,
    choose_blend,
    choose_blends,
    choose_local,
    choose_popularity,
    evaluate,
    evaluate_models,
)
from clients.platform import Platform
from clients.recommender import ZERO_SHOT_PRIOR, LocalLayer, Popularity, Recommender, ScoreParts, retrieve
from clients.transitions import transition_scores
from shared_model.model import Items, ModelSpec, block_norms, initial_shared
from shared_model.model import scores as model_scores


def platform_of(shoppers, features, *, width=None, filter_seen=True):
    """Make a platform from each shopper's items, one event a basket, and the catalogue's (I, F) features."""
    count, F = features.shape
    spec = ModelSpec((F,), width or F, 8)
    frame = pd.DataFrame(
        {"item_id": [f"i{n}" for n in range(count)], "title": [f"t{n}" for n in range(count)]}
    )
    catalogue, report = build_catalogue(items_table(frame))
    lengths = [len(items) for items in shoppers]
    sequences = Sequences(
        tuple(f"u{n:04}" for n in range(len(shoppers))),
        np.array([i for items in shoppers for i in items], np.int64),
        np.array([n for items in shoppers for n in range(len(items))], np.int64),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )
    split = leave_one_out(sequences, first_time_only=filter_seen, seed=0)
    features = features.float()
    return Platform(
        name="crafted",
        catalogue=catalogue,
        split=split,
        spec=spec,
        features=features,
        norms=block_norms(spec, features),
        filter_seen=filter_seen,
        reports=(report, report),
        fingerprint="",
        scoring=torch.float32,
    )


def some_platform(filter_seen=True, shoppers=40, items=30, seed=0):
    rng = np.random.default_rng(seed)
    features = torch.nn.functional.normalize(
        torch.randn(items, 12, generator=torch.Generator().manual_seed(seed))
    )
    histories = [rng.integers(0, items, size=int(rng.integers(3, 12))).tolist() for _ in range(shoppers)]
    return platform_of(histories, features, width=3, filter_seen=filter_seen)


def trained(platform, scale=0.3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: t + scale * torch.randn(t.shape, generator=generator)
        for name, t in initial_shared(platform.spec).items()
    }


# The recommender


@pytest.mark.parametrize("which", ["valid", "test"])
def test_scores_equal_the_plain_model(reference, which):
    platform = some_platform()
    shared = trained(platform)
    users = platform.test_users[:6]
    local = LocalLayer(blend=0.25, popularity=0.3)
    got = Recommender(platform, shared, local).scores(which, users)
    double, start = reference.double(shared), reference.double(initial_shared(platform.spec))
    counts = popularity_by_hand(platform, which)
    for row, u in zip(got, users, strict=True):
        items, groups = (x[-8:] for x in platform.split.history(which, int(u)))
        now = platform.split.history(which, int(u))[1][-1] + 1
        events = [(platform.features[i], float(now - g)) for i, g in zip(items, groups, strict=True)]
        for i in range(30):
            prior = reference.score(start, (12,), events, platform.features[i])
            model = reference.score(double, (12,), events, platform.features[i])
            expected = 0.75 * prior + 0.25 * model + 0.3 * math.log1p(counts[i])
            assert float(row[i]) == pytest.approx(float(expected), abs=2e-4)


def test_transitions_enter_the_score_with_their_weight():
    platform = some_platform()
    start, users = initial_shared(platform.spec), platform.test_users
    without = Recommender(platform, start, LocalLayer(0.0, 0.1)).scores("test", users)
    near = Recommender(platform, start, LocalLayer(0.0, 0.1, transitions=2.0)).scores("test", users) - without
    items, ages = platform.split.padded("test", platform.spec.history_length)
    t = transition_scores(platform.transitions("test"), items[users], ages[users])
    assert t.max() > 0
    torch.testing.assert_close(near, 2 * torch.from_numpy(np.log1p(10 * t)), atol=1e-4, rtol=1e-4)


def test_parts_are_computed_once_for_all_layers_that_share_them(monkeypatch):
    platform, passes = some_platform(), []
    models = [trained(platform), initial_shared(platform.spec)]
    monkeypatch.setattr(recommender, "scores", lambda *args: (passes.append(1), model_scores(*args))[1])
    parts = ScoreParts(platform, "test", platform.test_users)
    layers = [LocalLayer(a, 0.3, 1.0, d, s) for a in (0.0, 0.5, 1.0) for d in (0.2, 0.9) for s in (1.0, 3.0)]
    asked = list(itertools.product(models, layers))
    got = [parts.blended(*model) for model in asked]
    assert len(passes) == 2  # one untrained, one of the trained model with its residual
    for model, scored in zip(asked, got, strict=True):
        assert torch.equal(scored, ScoreParts(platform, "test", platform.test_users).blended(*model))


def test_models_that_share_a_pass_are_ranked_as_each_alone():
    platform = some_platform(items=80, shoppers=30)
    models = {
        "trained": (trained(platform), LocalLayer(0.5, 0.3, 1.0)),
        "untrained": (initial_shared(platform.spec), LocalLayer(0.0, 0.1)),
    }
    together = evaluate_models(platform, models, "test", platform.test_users, k=5)
    for name, model in models.items():
        alone = evaluate(platform, Recommender(platform, *model), "test", platform.test_users, k=5)
        np.testing.assert_array_equal(together[name].ranks, alone.ranks)
        np.testing.assert_array_equal(together[name].top, alone.top)


def test_blends_chosen_together_are_those_chosen_alone():
    platform = some_platform(items=80, shoppers=60)
    models = {str(seed): trained(platform, 0.2, seed) for seed in range(3)}
    found = choose_blends(platform, models, PRIOR)
    assert found == {name: choose_blend(platform, shared, PRIOR) for name, shared in models.items()}


@pytest.mark.parametrize("blend", [0.0, 0.5, 1.0])
def test_retrieving_gives_the_recommender_s_scores_and_order(blend):
    platform = some_platform(items=300, shoppers=20)
    shared, user = trained(platform, 0.1), platform.test_users[:1]
    local = LocalLayer(blend, 0.3, 2.0, 0.7, 2.0)
    parts = ScoreParts(platform, "test", user)
    expected = parts.blended(shared, local)[0]
    added = 0.3 * parts.log_popularity + 2.0 * parts.log_transitions[0]
    added[7] = -torch.inf
    items, ages = (part[user[0]] for part in platform.recent("test"))
    rows, ages = torch.from_numpy(items[items >= 0]), torch.from_numpy(ages[items >= 0])
    history = Items(platform.features[rows], platform.norms[rows])
    catalogue = Items(platform.table, platform.norms)
    for best in (300, 50, 5):
        found, scored = retrieve(platform.spec, shared, local, history, ages, catalogue, added, best)
        assert len(found) == min(best, 299)
        assert 7 not in found
        torch.testing.assert_close(scored, expected[found], atol=1e-4, rtol=1e-4)
        assert (scored.diff() <= 0).all()
    whole = expected.clone()
    whole[7] = -torch.inf
    found, _ = retrieve(platform.spec, shared, local, history, ages, catalogue, added, 100)
    assert set(found[:10].tolist()) == set(whole.topk(10).indices.tolist())


def test_retrieving_for_nobody_s_history_ranks_by_what_is_added():
    platform = some_platform()
    nothing, added = Items(platform.features[:0], platform.norms[:0]), torch.arange(30).float()
    found, scored = retrieve(
        platform.spec,
        trained(platform),
        LocalLayer(0.5, 1.0),
        nothing,
        torch.zeros(0),
        Items(platform.table, platform.norms),
        added,
        4,
    )
    assert found.tolist() == [29, 28, 27, 26]
    assert scored.tolist() == [29.0, 28.0, 27.0, 26.0]


def test_a_platform_chooses_its_own_decay_where_its_shoppers_ask_for_it():
    """Each shopper's next item is like the *first* of a long history: the slowest decay finds it."""
    rng = np.random.default_rng(1)
    features = torch.nn.functional.normalize(torch.randn(60, 40, generator=torch.Generator().manual_seed(4)))
    features[30:] = features[:30] + 0.1 * features[30:]
    shoppers = []
    for _ in range(150):
        first, *others = rng.permutation(30)[:4].tolist()
        shoppers.append([first, *others, first + 30, others[0] + 30])
    platform = platform_of(shoppers, torch.nn.functional.normalize(features), width=3)
    assert choose_local(platform).decay == min(DECAYS)


def test_shoppers_who_follow_each_other_choose_the_transitions():
    """Item n is always followed by n + 1, which no text tells: validation sees it and asks for the memory."""
    rng = np.random.default_rng(3)
    starts = rng.integers(0, 40, size=150)
    platform = platform_of(
        [[(int(s) + n) % 40 for n in range(6)] for s in starts],
        torch.nn.functional.normalize(torch.randn(40, 12, generator=torch.Generator().manual_seed(2))),
        width=3,
    )
    assert choose_local(platform).transitions > 0
    random = some_platform(shoppers=150, items=400, seed=5)
    assert choose_local(random).blend == 0


def popularity_by_hand(platform, which):
    return [
        sum(i in platform.split.history(which, u)[0] for u in range(len(platform)))
        for i in range(len(platform.catalogue))
    ]


def test_untrained_every_blend_of_zero_and_one_is_the_prior_bit_for_bit():
    platform = some_platform()
    start = initial_shared(platform.spec)
    users = platform.test_users
    prior = Recommender(platform, start, LocalLayer(0.0, 0.1)).scores("test", users)
    for blend in (0.0, 0.25, 0.5, 0.75, 1.0):
        assert torch.equal(Recommender(platform, start, LocalLayer(blend, 0.1)).scores("test", users), prior)


def test_with_blend_zero_the_shared_part_plays_no_part_whatever_it_holds():
    platform = some_platform()
    users = platform.test_users
    prior = Recommender(platform, initial_shared(platform.spec), LocalLayer(0.0, 0.0)).scores("test", users)
    wild = {name: torch.full_like(t, 1e30) for name, t in initial_shared(platform.spec).items()}
    assert torch.equal(Recommender(platform, wild, LocalLayer(0.0, 0.0)).scores("test", users), prior)


def test_scores_ask_for_what_they_are_given_and_change_nothing():
    platform = some_platform()
    shared = trained(platform)
    both = Recommender(platform, shared, LocalLayer(0.5, 0.3))
    users = platform.test_users
    first = both.scores("test", users)
    first += 1e9
    second = both.scores("test", users)
    assert second.max() < 1e6
    assert torch.allclose(both.scores("test", users[::-1].copy()), second.flip(0), atol=1e-5)
    assert torch.equal(
        platform.popularity("test"), torch.tensor(popularity_by_hand(platform, "test")).float()
    )


@pytest.mark.parametrize("which", ["train", "valid", "test"])
def test_popularity_counts_shoppers_before_what_is_held_out(which):
    platform = some_platform()
    counts = platform.popularity(which)
    assert counts.tolist() == popularity_by_hand(platform, which)
    assert counts.max() <= len(platform)
    users = platform.test_users[:3]
    assert torch.equal(Popularity(platform).scores(which, users), counts.expand(3, -1))


def test_nobody_s_held_out_item_is_counted_as_theirs():
    """Where a count includes the target itself, popularity looks better than it is."""
    features = torch.eye(6)
    platform = platform_of([[0, 1, 5], [0, 2, 5], [0, 3, 5]], features)
    assert platform.split.test_target.tolist() == [5, 5, 5]
    assert platform.popularity("test")[5] == 0
    assert platform.popularity("valid").tolist() == [3, 0, 0, 0, 0, 0]


# Evaluation


class Given:
    """A scorer with fixed scores."""

    def __init__(self, scores):
        self.values = scores

    def scores(self, which, users):
        return self.values[torch.from_numpy(users)]


def sorted_by_hand(platform, values, which, u, k):
    """Return rank and list of shopper u by sorting all candidates; no two scores tie."""
    target = int((platform.split.test_target if which == "test" else platform.split.valid_target)[u])
    met = set(platform.split.history(which, u)[0].tolist()) if platform.filter_seen else set()
    candidates = [i for i in range(len(platform.catalogue)) if i not in met or i == target]
    best = sorted(candidates, key=lambda i: -float(values[u, i]))
    return best.index(target) + 1, (best + [-1] * k)[:k]


@pytest.mark.parametrize("which", ["valid", "test"])
@pytest.mark.parametrize("filter_seen", [True, False])
def test_ranks_and_lists_equal_a_full_sort(which, filter_seen, monkeypatch):
    monkeypatch.setattr("clients.evaluation._CHUNK", 7)
    platform = some_platform(filter_seen)
    values = torch.randn(len(platform), 30, generator=torch.Generator().manual_seed(3))
    users = platform.test_users if which == "test" else platform.valid_users
    assert len(users) > 20
    got = evaluate(platform, Given(values), which, users, k=10)
    for row, u in enumerate(users):
        rank, best = sorted_by_hand(platform, values, which, int(u), 10)
        assert got.ranks[row] == rank
        assert got.top[row].tolist() == best


def test_filtering_takes_out_what_was_seen_and_never_the_target():
    features = torch.eye(6)
    platform = platform_of([[0, 1, 2, 0]], features, filter_seen=False)  # item 0 is bought again
    platform = dataclasses.replace(platform, filter_seen=True)
    assert platform.split.test_target.tolist() == [0]
    values = torch.tensor([[9.0, 8.0, 7.0, 3.0, 2.0, 1.0]])
    got = evaluate(platform, Given(values), "test", np.array([0]), k=6)
    assert got.ranks.tolist() == [1.0]
    assert got.top.tolist() == [[0, 3, 4, 5, -1, -1]]
    assert values.tolist() == [[9.0, 8.0, 7.0, 3.0, 2.0, 1.0]]  # the scorer's own numbers stay


def test_a_model_that_says_nothing_ranks_in_the_middle_and_a_diverged_one_no_better():
    platform = some_platform(filter_seen=False)
    users = platform.test_users
    for value in (0.0, math.nan):
        ranks = evaluate(platform, Given(torch.full((len(platform), 30), value)), "test", users).ranks
        assert (ranks == 15.5).all()
    partly = torch.zeros(len(platform), 30)
    partly.scatter_(1, torch.from_numpy(platform.split.test_target).clamp(min=0).unsqueeze(1), math.nan)
    got = evaluate(platform, Given(partly), "test", users)
    assert (got.ranks == 30).all()
    assert not (got.top == platform.split.test_target[users][:, None]).any()


def test_nobody_to_evaluate_gives_empty_results():
    platform = some_platform()
    got = evaluate(platform, Given(torch.zeros(40, 30)), "test", np.zeros(0, np.int64))
    assert got.ranks.shape == (0,)
    assert got.top.shape == (0, 10)


# The choice of the local layer


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
