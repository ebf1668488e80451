"""Scores against the plain formula, and evaluation against a full sort."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import sparse

from clients import recommender
from clients.evaluation import DECAYS, choose_local, evaluate, evaluate_layers
from clients.memory import Memory, transition_scores
from clients.recommender import LocalLayer, Memories, Popularity, Recommender, ScoreParts
from shared_model.model import TextWeights
from shared_model.model import scores as model_scores
from tests.clients.scored import others_of, platform_of, some_platform

# The recommender


@pytest.mark.parametrize("which", ["valid", "test"])
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("others", [True, False])
def test_scores_equal_the_plain_formula(reference, which, own, others):
    """Own and others' counts are summed before they are normalised."""
    platform = some_platform()
    users, theirs = platform.test_users[:6], others_of(platform)
    local = LocalLayer(0.3, 2.0, own, others, decay=0.8, sharpness=2.0, isolation=0.2)
    got = Recommender(platform, local, theirs).scores(which, users)
    counts = own * np.array(popularity_by_hand(platform, which)) + others * theirs.popularity
    pairs = own * platform.memory(which).pairs.toarray() + others * theirs.pairs.toarray()
    n = np.maximum(counts, 1)
    for row, u in zip(got, users, strict=True):
        items, groups = (x[-8:] for x in platform.split.history(which, int(u)))
        now = platform.split.history(which, int(u))[1][-1] + 1
        events = [(platform.features[i].double(), float(now - g)) for i, g in zip(items, groups, strict=True)]
        for j in range(30):
            item = (platform.features[j].double(), platform.isolation[j].double())
            text = reference.score(TextWeights(0.8, 2.0, 0.2), events, item)
            taken = sum(
                math.exp(-0.31 * (now - g)) * pairs[i, j] / n[i] ** 0.5 / n[j] ** 0.25
                for i, g in zip(items, groups, strict=True)
            )
            expected = float(text) + 0.3 * math.log1p(counts[j]) + 2.0 * math.log1p(10 * taken)
            assert float(row[j]) == pytest.approx(expected, abs=3e-4)


def test_transitions_enter_the_score_with_their_weight():
    platform, users = some_platform(), some_platform().test_users
    without = Recommender(platform, LocalLayer(0.1)).scores("test", users)
    near = Recommender(platform, LocalLayer(0.1, transitions=2.0)).scores("test", users) - without
    items, ages = platform.split.padded("test", platform.spec.history_length)
    t = transition_scores(platform.memory("test").matrix, items[users], ages[users])
    assert t.max() > 0
    torch.testing.assert_close(near, 2 * torch.from_numpy(np.log1p(10 * t)), atol=1e-4, rtol=1e-4)


def test_parts_are_computed_once_for_all_layers_that_share_them(monkeypatch):
    platform, passes = some_platform(), []
    monkeypatch.setattr(recommender, "scores", lambda *args: (passes.append(1), model_scores(*args))[1])
    memories = Memories(platform.memory("test"), others_of(platform))
    parts = ScoreParts(platform, "test", platform.test_users, memories)
    layers = [
        LocalLayer(0.3, 1.0, True, others, d, s, apart)
        for others in (True, False)
        for d in (0.2, 0.9)
        for s in (1.0, 3.0)
        for apart in (0.0, 0.3)
    ]
    got = [parts.blended(layer) for layer in layers]
    assert len(passes) == 1
    for layer, scored in zip(layers, got, strict=True):
        assert torch.equal(scored, ScoreParts(platform, "test", platform.test_users, memories).blended(layer))


def test_layers_that_share_a_pass_are_ranked_as_each_alone():
    platform = some_platform(items=80, shoppers=30)
    layers = {"joined": LocalLayer(0.3, 1.0, others=True), "alone": LocalLayer(0.1), "text": LocalLayer()}
    theirs = others_of(platform)
    together = evaluate_layers(platform, layers, theirs, "test", platform.test_users, k=5)
    for name, layer in layers.items():
        alone = evaluate(platform, Recommender(platform, layer, theirs), "test", platform.test_users, k=5)
        np.testing.assert_array_equal(together[name].ranks, alone.ranks)
        np.testing.assert_array_equal(together[name].top, alone.top)


def test_a_platform_chooses_its_own_decay_where_its_shoppers_ask_for_it():
    """Each shopper's next item is like the *first* of a long history: the slowest decay finds it."""
    rng = np.random.default_rng(1)
    features = torch.nn.functional.normalize(torch.randn(60, 40, generator=torch.Generator().manual_seed(4)))
    features[30:] = features[:30] + 0.1 * features[30:]
    shoppers = []
    for _ in range(150):
        first, *others = rng.permutation(30)[:4].tolist()
        shoppers.append([first, *others, first + 30, others[0] + 30])
    platform = platform_of(shoppers, torch.nn.functional.normalize(features))
    assert choose_local(platform).decay == min(DECAYS)


def test_shoppers_who_follow_each_other_choose_the_transitions():
    """Item n is always followed by n + 1, which no text tells: validation sees it and asks for the memory."""
    rng = np.random.default_rng(3)
    starts = rng.integers(0, 40, size=150)
    platform = platform_of(
        [[(int(s) + n) % 40 for n in range(6)] for s in starts],
        torch.nn.functional.normalize(torch.randn(40, 12, generator=torch.Generator().manual_seed(2))),
    )
    chosen = choose_local(platform)
    assert chosen.transitions > 0
    assert (chosen.own, chosen.others) == (True, False)


def popularity_by_hand(platform, which):
    return [
        sum(i in platform.split.history(which, u)[0] for u in range(len(platform)))
        for i in range(len(platform.catalogue))
    ]


@pytest.mark.parametrize("local", [LocalLayer(), LocalLayer(1.0, 3.0, own=False)])
def test_without_counts_the_score_is_the_prior_whatever_they_hold(local):
    platform, users = some_platform(), some_platform().test_users
    prior = Recommender(platform, LocalLayer()).scores("test", users)
    wild = Memory(np.full(30, 1e30), sparse.csr_matrix(np.full((30, 30), 1e30)))
    assert torch.equal(Recommender(platform, local, wild).scores("test", users), prior)


def test_scores_ask_for_what_they_are_given_and_change_nothing():
    platform = some_platform()
    both = Recommender(platform, LocalLayer(0.5, 0.3))
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
