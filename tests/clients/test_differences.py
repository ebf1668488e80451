"""Differences of ranks: what they are, what bounds them, and whom they depend on."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from clients import training
from clients.differences import STEP, rank_differences
from clients.training import CHUNK, LocalRecipe, RankedShoppers, train_plain, train_private
from privacy.noise import ReproducibleNoise
from privacy.plan import PrivacyPlan
from shared_model.loss import shopper_utility
from shared_model.model import initial_shared, scaled_items

RECIPE = LocalRecipe(steps=1, sample_rate=1.0, learning_rate=0.1, scalar_learning_rate=0.05, negatives=12)
PLAN = PrivacyPlan(1000.0, 1e-6, 0.02, 1.0, 20, 1, 1.0)


class Silence(ReproducibleNoise):
    """Everyone is in the batch, and nothing is added."""

    def normal(self, n):
        return np.zeros(n)

    def poisson_mask(self, n, q):
        return np.ones(n, bool)


@pytest.fixture
def scalars(setting):
    """Return the setting without a residual, and so much isolation that a step of it moves ranks."""
    setting.spec = dataclasses.replace(setting.spec, width=0)
    setting.shared = {n: t for n, t in setting.shared.items() if not n.startswith("residual")}
    setting.shared["log_isolation"] += 2.5
    prepare = setting.of

    def of(events, **kwargs):
        taken = prepare(events, **kwargs)
        taken.data = dataclasses.replace(taken.data, spec=setting.spec)
        return taken

    setting.of = of
    return setting


def rows_of(scalars, data, users, seed=0):
    of = RankedShoppers(scalars.spec, data, 12).gradients(np.random.default_rng(seed))
    return of(scalars.shared, np.asarray(users), torch.ones(len(users)))


def test_rows_are_central_differences_of_the_utility_and_bounded(scalars, events):
    data = scalars.of(events()).data
    users = np.arange(len(data))
    rows = data.nearest(users, 12)
    example, candidates = data.chunk(users, rows), data.negatives(rows)
    got = rank_differences(scalars.shared, scalars.spec, example, candidates, torch.ones(len(users)))
    assert set(got) == set(initial_shared(scalars.spec))
    for name, row in got.items():
        assert row.shape == (len(users), *scalars.shared[name].shape)
        assert row.abs().max() <= 1 / (2 * STEP)
        for k in range(row.shape[1]):
            values = []
            for sign in (1, -1):
                moved = scalars.shared[name].clone()
                moved[k] += sign * STEP
                shared = scalars.shared | {name: moved}
                values.append(shopper_utility(shared, scalars.spec, example, candidates))
            torch.testing.assert_close(row[:, k], -(values[0] - values[1]) / (2 * STEP))
    assert sum(row.abs().sum() for row in got.values()) > 0


def test_candidates_are_what_a_shopper_s_own_events_speak_for_under_several_weights_of_isolation(
    scalars, events
):
    taken = scalars.of(events())
    data = taken.data
    units = scaled_items(scalars.spec, data.features, data.norms)
    for u in range(len(data)):
        own = data.items[u][data.items[u] >= 0]
        met = set(taken.split.train_history(u)[0].tolist())
        mean = units[own].mean(0) if len(own) else torch.zeros(units.shape[1])
        left, expected = [i for i in range(len(units)) if i not in met], []
        for weight in (1 / 6, 0.0, 0.5, 1.5):
            score = units @ mean.double() + weight * data.isolation
            best = sorted(left, key=lambda i: -float(score[i]))[:3]
            expected += [float(score[i]) for i in best]
            left = [i for i in left if i not in best]
        got = data.nearest(np.array([u]), 12)[0].tolist()
        assert not met & set(got)
        assert len(set(got)) == 12
        weights = np.repeat([1 / 6, 0.0, 0.5, 1.5], 3)
        scored = [
            float(units[i] @ mean.double() + w * data.isolation[i]) for i, w in zip(got, weights, strict=True)
        ]
        np.testing.assert_allclose(scored, expected, atol=1e-6)
    assert data.nearest(np.array([0]), 10_000).shape == (1, len(data.features))


def test_a_row_is_its_own_shopper_s_alone_to_the_last_bit(scalars, events):
    data = scalars.of(events()).data
    together = rows_of(scalars, data, [3, 1, 4, 1])
    others = rows_of(scalars, data, [3, 0, 0, 2])
    for name in together:
        assert torch.equal(together[name][0], others[name][0])
        assert torch.equal(together[name][1], together[name][3])


def test_a_row_of_weight_zero_is_zero_and_so_is_one_of_a_broken_catalogue(scalars, events):
    data = scalars.of(events()).data
    of = RankedShoppers(scalars.spec, data, 12).gradients(np.random.default_rng(0))
    rows = of(scalars.shared, np.arange(4), torch.tensor([1.0, 0.0, 1.0, 0.0]))
    assert all(not row[[1, 3]].any() for row in rows.values())
    broken = dataclasses.replace(data, features=torch.full_like(data.features, torch.nan))
    assert all(row.isfinite().all() for row in rows_of(scalars, broken, [0, 1]).values())


@pytest.mark.parametrize("clip_norm", [0.02, 2.0])
def test_no_shopper_moves_the_sum_by_more_than_the_clip_norm(scalars, events, clip_norm, monkeypatch):
    """Remove each shopper in turn from the raw rows: plain SGD at rate 1 shows the sum in the weights."""
    monkeypatch.setattr(training, "_adam", lambda p, _: torch.optim.SGD(list(p.values()), lr=1.0))
    plan = dataclasses.replace(PLAN, clip_norm=clip_norm)

    def total(frame):
        data = scalars.of(frame).data
        after = train_private(
            scalars.shared, scalars.spec, data, RECIPE, plan, Silence(0), np.random.default_rng(1)
        )
        return {n: (scalars.shared[n] - after[n]) * plan.normaliser for n in after}

    frame = events()
    whole, moved = total(frame), []
    for user in sorted(set(frame["user_id"])):
        rest = total(frame[frame["user_id"] != user])
        moved.append(math.sqrt(sum(float((whole[n] - rest[n]).square().sum()) for n in whole)) / clip_norm)
    assert max(moved) <= 1 + 1e-6
    assert max(moved) > 0
    assert min(moved) == 0  # "short" has too few events to take part


def test_plain_training_takes_the_mean_of_the_rows_over_chunks(scalars, events, monkeypatch):
    monkeypatch.setattr(training, "_adam", lambda p, _: torch.optim.SGD(list(p.values()), lr=1.0))
    data = scalars.of(events(shoppers=CHUNK + 37)).data
    after = train_plain(scalars.shared, scalars.spec, [data], RECIPE, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    rng.random(len(data))
    rows = RankedShoppers(scalars.spec, data, 12).gradients(rng)(
        scalars.shared, np.arange(len(data)), torch.ones(len(data))
    )
    for name in after:
        torch.testing.assert_close(
            after[name], scalars.shared[name] - rows[name].mean(0), atol=1e-7, rtol=1e-6
        )


def test_training_raises_the_utility_of_a_model_that_starts_badly(scalars, events):
    """All weight on isolation: differences of ranks find the way back."""
    data = scalars.of(events(shoppers=150)).data
    rows = data.nearest(np.arange(len(data)), 80)
    example, candidates = data.chunk(np.arange(len(data)), rows), data.negatives(rows)

    def utility(shared):
        return float(shopper_utility(shared, scalars.spec, example, candidates).mean())

    good = {n: torch.zeros_like(t) for n, t in scalars.shared.items()}
    bad = good | {"log_isolation": torch.tensor([3.0]).double()}
    recipe = dataclasses.replace(RECIPE, steps=60, negatives=80)
    plain = train_plain(bad, scalars.spec, [data], recipe, np.random.default_rng(0))
    assert utility(good) > 1.05 * utility(bad)
    assert utility(plain) > utility(bad) + 0.3 * (utility(good) - utility(bad))
    assert plain["log_isolation"] < 2
