"""Per-shopper gradients, the clipped and noised sum, and what training returns."""

import dataclasses
import math
import os
import shutil

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from clients import gradients, training
from clients.training import CHUNK, per_shopper_gradients, train_plain, train_private
from privacy.noise import ReproducibleNoise, SecureNoise
from tests.clients.one_step import RECIPE, SHARED, Silence, clipped_sum, length, plan


def rows_of(setting, data, users, negatives):
    """Return the gradient of each of `users`, name → (B, …)."""
    example = data.chunk(np.asarray(users), negatives)
    weights = torch.ones(len(users))
    return per_shopper_gradients(setting.shared, setting.spec, example, data.negatives(negatives), weights)


def moments_of(taken, u, length, targets):
    """Return shopper u's target moments from the split alone: events of earlier baskets, and the target."""
    items, groups = (x[-length:] for x in taken.split.train_history(u))
    for item, group in list(zip(items, groups, strict=True))[-targets:]:
        before = [(i, float(group - g)) for i, g in zip(items, groups, strict=True) if g < group]
        if before and item not in [i for i, _ in before]:
            yield (
                [(taken.features[i], age) for i, age in before],
                (taken.features[item], taken.data.isolation[item]),
            )


def single_gradient(setting, taken, u, negatives, reference):
    """Return shopper u's gradient by autograd through the plain float64 loss of that one shopper."""
    shared = {name: t.clone().requires_grad_() for name, t in reference.double(setting.shared).items()}
    met = set(taken.split.train_history(u)[0].tolist())
    others = [(taken.features[n], taken.data.isolation[n]) for n in negatives.tolist() if n not in met]
    moments = list(moments_of(taken, u, setting.spec.history_length, 3))
    reference.loss(shared, setting.spec.encoder_dimensions, moments, others).backward()
    return {name: t.grad for name, t in shared.items()}, len(moments)


NEGATIVES = torch.tensor([0, 7, 11, 11, 20, 33, 79])


def test_every_shopper_s_gradient_equals_a_loop_over_single_shoppers(setting, events, reference):
    taken = setting.of(events())
    got = rows_of(setting, taken.data, range(len(taken.data)), NEGATIVES)
    assert set(got) == SHARED
    used = 0
    for u in range(len(taken.data)):
        expected, moments = single_gradient(setting, taken, u, NEGATIVES, reference)
        used += moments > 0
        for name in SHARED:
            torch.testing.assert_close(got[name][u], expected[name], atol=1e-6, rtol=1e-6)
            assert moments == 0 or expected[name].any()
    assert used > len(taken.data) // 2


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="compiling needs a C++ compiler"
)
@pytest.mark.parametrize("setting", [("tiny", "tinier")], indirect=True)
def test_compiled_gradients_equal_the_loop_too(setting, events, reference):
    taken = setting.of(events())
    users = list(range(len(taken.data)))
    example, negatives = taken.data.chunk(np.array(users), NEGATIVES), taken.data.negatives(NEGATIVES)
    weights = torch.ones(len(users))

    def rows(example, weights):
        return per_shopper_gradients(setting.shared, setting.spec, example, negatives, weights, compiled=True)

    with capture_logs() as log:
        got = rows(example, weights)
    assert not log  # it was compiled, and passed its trial
    for u in users:
        expected, _ = single_gradient(setting, taken, u, NEGATIVES, reference)
        for name in SHARED:
            torch.testing.assert_close(got[name][u], expected[name], atol=1e-9, rtol=1e-9)
    # a shopper who is not finite and a row of padding are exactly zero, and nobody else moves by a bit
    history = example.history.clone()
    history[1] = math.inf
    weights[2] = 0
    spoilt = rows(dataclasses.replace(example, history=history), weights)
    others = [u for u in users if u not in (1, 2)]
    for name in SHARED:
        assert not spoilt[name][[1, 2]].any()
        assert torch.equal(spoilt[name][others], got[name][others])
    assert all(got[name][[1, 2]].any() for name in SHARED)


def test_gradients_in_single_precision_are_close(setting, events):
    data, single = setting.of(events()).data, setting.of(events(), dtype=torch.float32).data
    exact = rows_of(setting, data, range(len(data)), NEGATIVES)
    setting.shared = {name: t.float() for name, t in setting.shared.items()}
    rough = rows_of(setting, single, range(len(data)), NEGATIVES)
    for name, rows in exact.items():
        torch.testing.assert_close(rough[name].double(), rows, atol=2e-4, rtol=1e-3)


def test_the_noised_sum_is_the_sum_of_clipped_gradients(setting, events, reference):
    taken = setting.of(events())
    negatives = taken.data.negative_rows(6, np.random.default_rng(1))
    for clip_norm in (0.05, 0.5, 20.0):
        expected = {name: torch.zeros_like(t) for name, t in setting.shared.items()}
        for u in range(len(taken.data)):
            gradient, _ = single_gradient(setting, taken, u, negatives, reference)
            factor = clip_norm / max(length(gradient), clip_norm)
            assert factor == 1.0 or clip_norm < 20.0
            for name, g in gradient.items():
                expected[name] += factor * g
        got = clipped_sum(setting, taken.data, clip_norm=clip_norm)
        for name in SHARED:
            torch.testing.assert_close(got[name], expected[name], atol=1e-6, rtol=1e-6)


def test_noise_has_the_plan_s_size_and_reaches_every_coordinate(setting, events):
    class Ones(Silence):
        def normal(self, n):
            return np.ones(n)

    data = setting.of(events()).data

    def after(noise):
        recipe = dataclasses.replace(RECIPE, steps=1)
        return train_private(
            setting.shared, setting.spec, data, recipe, plan(0.5), noise, np.random.default_rng(1)
        )

    def through_sgd(noise):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "_adam", lambda p, _: torch.optim.SGD(list(p.values()), lr=1.0))
            return after(noise)

    quiet, loud = through_sgd(Silence()), through_sgd(Ones())
    for name in SHARED:  # σ · C / (q · N) everywhere
        torch.testing.assert_close(
            quiet[name] - loud[name], torch.full_like(quiet[name], 1.0 * 0.5 / (1.0 * 20))
        )


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_shopper_with_unusable_features_counts_as_nothing(setting, events, bad):
    """An item that one shopper alone has is spoilt: their row is zero, and everyone else's is untouched."""
    taken = setting.of(events())
    _, seen = taken.split.seen("train")
    holders = np.bincount(seen, minlength=80)
    victim, item = next(
        (u, i)
        for u in range(len(taken.data))
        for i in taken.data.items[u].tolist()
        if i >= 0 and holders[i] == 1 and length_of_row(setting, taken, u) > 0
    )
    spoilt = dataclasses.replace(taken.data, features=taken.data.features.clone())
    spoilt.features[item] = bad
    negatives = torch.tensor([n for n in range(80) if n != item])
    before = rows_of(setting, taken.data, range(len(taken.data)), negatives)
    after = rows_of(setting, spoilt, range(len(taken.data)), negatives)
    others = [u for u in range(len(taken.data)) if u != victim]
    for name in SHARED:
        assert not after[name][victim].any()
        assert torch.equal(after[name][others], before[name][others])
    assert any(before[name][victim].any() for name in SHARED)
    # … and so in the sum, where a NaN would spread to everything
    seed = next(s for s in range(500) if item not in np.random.default_rng(s).integers(0, 80, size=6))
    everyone_else = np.arange(len(taken.data)) != victim
    got = clipped_sum(setting, spoilt, seed=seed)
    expected = clipped_sum(setting, taken.data, seed=seed, noise=Silence(everyone_else))
    for name in SHARED:
        torch.testing.assert_close(got[name], expected[name], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", sorted(SHARED))
def test_one_tensor_that_is_not_finite_silences_the_shopper_in_all(setting, events, monkeypatch, name):
    data = setting.of(events()).data
    before = rows_of(setting, data, range(len(data)), NEGATIVES)
    honest = gradients.shopper_loss

    def spoilt(shared, spec, example, negatives):
        factor = torch.where(example.target_mask.sum(-1) > 1, math.nan, 0.0)
        return honest(shared, spec, example, negatives) + factor * shared[name].sum()

    monkeypatch.setattr(gradients, "shopper_loss", spoilt)
    after = rows_of(setting, data, range(len(data)), NEGATIVES)
    bad = data.chunk(np.arange(len(data)), NEGATIVES).target_mask.sum(-1) > 1
    assert 0 < int(bad.sum()) < len(data)
    for tensor in SHARED:
        assert not after[tensor][bad].any()
        assert torch.equal(after[tensor][~bad], before[tensor][~bad])


def length_of_row(setting, taken, u):
    return length({name: rows[0] for name, rows in rows_of(setting, taken.data, [u], NEGATIVES).items()})


def test_an_empty_batch_is_noised_and_counted(setting, events):
    data = setting.of(events()).data
    empty = Silence(np.zeros(len(data), bool))
    recipe = dataclasses.replace(RECIPE, steps=4)
    coordinates = sum(t.numel() for t in setting.shared.values())
    train_private(setting.shared, setting.spec, data, recipe, plan(), empty, np.random.default_rng(1))
    assert (empty.masks, empty.normals) == (4, 4 * coordinates)
    assert length(clipped_sum(setting, data, noise=Silence(np.zeros(len(data), bool)))) == pytest.approx(0)

    class EmptyButLoud(ReproducibleNoise):
        def poisson_mask(self, n, q):
            return np.zeros(n, bool)

    noised = clipped_sum(setting, data, clip_norm=0.5, noise=EmptyButLoud(1))
    values = torch.cat([t.flatten() for t in noised.values()])
    assert 0.3 < float(values.std()) < 0.7


def test_padding_adds_nothing_to_the_sum(setting, events, monkeypatch):
    data = setting.of(events()).data
    sums = []
    for chunk in (1, 3, len(data), len(data) + 1, 64):
        monkeypatch.setattr(training, "CHUNK", chunk)
        sums.append(clipped_sum(setting, data, clip_norm=0.05))
    for other in sums[1:]:
        for name in SHARED:
            torch.testing.assert_close(other[name], sums[0][name], atol=1e-10, rtol=1e-9)


def test_more_shoppers_than_a_chunk_equal_one_big_batch(setting, events, monkeypatch):
    data = setting.of(events(shoppers=CHUNK + 37)).data
    assert len(data) > CHUNK + 5
    quiet = Silence()
    chunked = clipped_sum(setting, data, clip_norm=0.05, noise=quiet)
    assert (quiet.masks, quiet.normals) == (1, sum(t.numel() for t in setting.shared.values()))
    monkeypatch.setattr(training, "CHUNK", len(data))
    at_once = clipped_sum(setting, data, clip_norm=0.05)
    for name in SHARED:
        torch.testing.assert_close(chunked[name], at_once[name], atol=1e-10, rtol=1e-9)


def test_weights_of_zero_silence_a_row(setting, events):
    data = setting.of(events()).data
    example, negatives = data.chunk(np.arange(4), NEGATIVES), data.negatives(NEGATIVES)
    rows = per_shopper_gradients(
        setting.shared, setting.spec, example, negatives, torch.tensor([1.0, 0.0, 1.0, 0.0])
    )
    for g in rows.values():
        assert not g[[1, 3]].any()


# What comes back


@pytest.mark.parametrize("private", [True, False])
def test_only_shared_tensors_come_back_and_the_given_ones_stay(setting, events, private):
    data = setting.of(events(), dtype=torch.float32).data
    shared = {name: t.float() for name, t in setting.shared.items()}
    before = {name: t.clone() for name, t in shared.items()}
    features = data.features.clone()
    rng = np.random.default_rng(1)
    recipe = dataclasses.replace(RECIPE, steps=3)
    after = (
        train_private(shared, setting.spec, data, recipe, plan(steps=3), SecureNoise(), rng)
        if private
        else train_plain(shared, setting.spec, [data], recipe, rng)
    )
    assert set(after) == SHARED
    assert all(name.startswith(("residual_", "log_")) for name in after)
    setting.spec.exchange.validate({name: t.numpy() for name, t in after.items()}, "after")
    for name in SHARED:
        assert torch.equal(shared[name], before[name])
        assert not torch.equal(after[name], before[name])
        assert not after[name].requires_grad
    assert torch.equal(data.features, features)


def test_reproducible_training_repeats_and_secure_training_does_not(setting, events):
    data = setting.of(events()).data

    def train(noise):
        return train_private(
            setting.shared, setting.spec, data, RECIPE, plan(), noise, np.random.default_rng(1)
        )

    one, two, other = train(ReproducibleNoise(1)), train(ReproducibleNoise(1)), train(ReproducibleNoise(2))
    assert all(torch.equal(one[n], two[n]) for n in SHARED)
    assert not any(torch.equal(one[n], other[n]) for n in SHARED)
    first, second = train(SecureNoise()), train(SecureNoise())
    assert not torch.equal(first["residual_in"], second["residual_in"])


def test_the_scalars_and_the_residual_have_rates_of_their_own(setting, events):
    data = setting.of(events()).data
    recipe = dataclasses.replace(RECIPE, learning_rate=0.25, scalar_learning_rate=0.01)
    after = train_private(
        setting.shared, setting.spec, data, recipe, plan(), ReproducibleNoise(1), np.random.default_rng(1)
    )
    for name, tensor in after.items():  # Adam's first step has the length of its rate
        rate = 0.25 if name.startswith("residual_") else 0.01
        torch.testing.assert_close(
            (tensor - setting.shared[name]).abs(), torch.full_like(tensor, rate), rtol=1e-3, atol=0
        )


@pytest.mark.parametrize("private", [True, False])
def test_the_proximal_term_pulls_towards_the_start_by_mu_times_the_distance(
    setting, events, private, monkeypatch
):
    """With plain SGD, µ changes the second step by exactly −lr · µ · (w₁ − w₀); the first not at all."""
    monkeypatch.setattr(training, "_adam", lambda p, _: torch.optim.SGD(list(p.values()), lr=0.1))
    data = setting.of(events()).data

    def train(mu, steps):
        recipe = dataclasses.replace(RECIPE, proximal=mu, steps=steps)
        rng = np.random.default_rng(1)
        if private:
            noise = ReproducibleNoise(4)
            return train_private(setting.shared, setting.spec, data, recipe, plan(steps=2), noise, rng)
        return train_plain(setting.shared, setting.spec, [data], recipe, rng)

    first, pulled_first = train(0.0, 1), train(0.7, 1)
    second, pulled = train(0.0, 2), train(0.7, 2)
    for name in SHARED:
        assert torch.equal(first[name], pulled_first[name])
        expected = second[name] - 0.1 * 0.7 * (first[name] - setting.shared[name])
        torch.testing.assert_close(pulled[name], expected, atol=1e-10, rtol=1e-10)


def test_plain_training_averages_over_all_pools(setting, events, reference, monkeypatch):
    monkeypatch.setattr(training, "_adam", lambda p, _: torch.optim.SGD(list(p.values()), lr=1.0))
    first, second = setting.of(events(seed=0)), setting.of(events(shoppers=6, seed=9))
    rng = np.random.default_rng(2)
    after = train_plain(setting.shared, setting.spec, [first.data, second.data], RECIPE, rng)
    rng = np.random.default_rng(2)
    _ = rng.random(len(first.data)), rng.random(len(second.data))
    total = {name: torch.zeros_like(t) for name, t in setting.shared.items()}
    for taken in (first, second):
        negatives = taken.data.negative_rows(6, rng)
        for u in range(len(taken.data)):
            for name, g in single_gradient(setting, taken, u, negatives, reference)[0].items():
                total[name] += g / (len(first.data) + len(second.data))
    for name in SHARED:
        torch.testing.assert_close(after[name], setting.shared[name] - total[name], atol=1e-6, rtol=1e-6)


def test_plain_training_lowers_the_loss_and_nobody_sampled_changes_nothing(setting, events):
    taken = setting.of(events())
    example, negatives = (
        taken.data.chunk(np.arange(len(taken.data)), NEGATIVES),
        taken.data.negatives(NEGATIVES),
    )

    def loss(shared):
        return float(training.shopper_loss(shared, setting.spec, example, negatives).mean())

    recipe = dataclasses.replace(RECIPE, steps=60, learning_rate=0.03)
    trained = train_plain(setting.start, setting.spec, [taken.data], recipe, np.random.default_rng(0))
    assert loss(trained) < 0.9 * loss(setting.start)
    rare = dataclasses.replace(RECIPE, sample_rate=1e-12)
    still = train_plain(setting.shared, setting.spec, [taken.data], rare, np.random.default_rng(0))
    assert all(torch.equal(still[n], setting.shared[n]) for n in SHARED)
