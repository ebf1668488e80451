"""Canaries enter the real training as shoppers do, and training does to them what it does to shoppers."""

import numpy as np
import pytest
import torch

from clients.audit.canaries import GRADIENT, WithCanaries, at_places, draw_places
from clients.training import train_population, train_private
from privacy.audit import Canaries
from privacy.errors import PlanError
from privacy.noise import ReproducibleNoise
from shared_model.model import initial_shared


class Silence:
    """No noise; everybody is sampled."""

    private = False
    name = "silence"

    def normal(self, n):
        return np.zeros(n)

    def poisson_mask(self, n, q):
        return np.ones(n, bool)


def with_canaries(subject, included):
    places = draw_places(subject.parameters, len(included), np.random.default_rng(3))
    return WithCanaries(subject.shoppers, Canaries(np.asarray(included)), places), places


def rows_of(population, subject, users, weights):
    gradients = population.gradients(np.random.default_rng(5))
    return gradients(initial_shared(subject.spec), np.asarray(users), torch.tensor(weights))


def flat(rows):
    return torch.cat([tensor.flatten(1) for tensor in rows.values()], dim=1)


def test_real_shoppers_keep_their_gradients_but_at_the_canaries_places_and_a_canary_has_its_own(subject):
    included = np.arange(30) % 3 == 0
    population, places = with_canaries(subject, included)
    n = len(subject.data)
    assert len(population) == n + included.sum()
    got = flat(rows_of(population, subject, [4, n + 2, 7, n, 0], [1.0, 1.0, 1.0, 1.0, 0.0]))
    expected = flat(rows_of(subject.shoppers, subject, [4, 7], [1.0, 1.0]))
    assert expected[:, places].abs().sum() > 0
    expected[:, places] = 0.0
    assert torch.equal(got[[0, 2]], expected)
    assert expected.abs().sum() > 0
    for row, canary in ((1, 6), (3, 0)):
        assert got[row].nonzero().flatten().tolist() == [places[canary]]
        assert got[row, places[canary]] == GRADIENT
    assert not got[4].any()  # padding


def test_a_chunk_of_canaries_alone_and_one_of_padding_alone(subject):
    population, places = with_canaries(subject, np.ones(25, bool))
    n = len(subject.data)
    got = flat(rows_of(population, subject, [n + 24, n + 3, 0], [1.0, 1.0, 0.0]))
    assert got.nonzero().tolist() == [[0, places[24]], [1, places[3]]]
    assert not flat(rows_of(population, subject, [0, 0], [0.0, 0.0])).any()


def test_places_are_different_parameters_of_the_model(subject):
    places = draw_places(subject.parameters, subject.parameters, np.random.default_rng(0))
    assert sorted(places) == list(range(subject.parameters))
    shared = {"a": torch.arange(3.0), "b": torch.arange(3.0, 7.0).view(2, 2)}
    assert at_places(shared, np.array([6, 0, 4])).tolist() == [6.0, 0.0, 4.0]


@pytest.mark.parametrize("m", [0, -5, 19, 1285, True])
def test_an_unusable_number_of_canaries_is_refused(subject, m):
    with pytest.raises(PlanError, match="canaries"):
        draw_places(subject.parameters, m, np.random.default_rng(0))


def seen_of(subject, population, noise, places):
    """Train one round; return each step's released sum at `places`, and the model."""
    sums = []
    recipe, rng = next(subject.rounds(4))
    shared = train_population(
        initial_shared(subject.spec),
        population,
        recipe,
        subject.plan,
        noise,
        rng,
        lambda gradient: sums.append(at_places(gradient, places) * subject.plan.normaliser),
    )
    return np.stack(sums), shared


def test_training_clips_a_canary_to_the_clip_norm_in_its_own_direction(subject):
    included = np.arange(200) % 2 == 0
    with_them, places = with_canaries(subject, included)
    without, _ = with_canaries(subject, np.zeros(200, bool))
    first, _ = seen_of(subject, with_them, Silence(), places)
    base, _ = seen_of(subject, without, Silence(), places)
    np.testing.assert_allclose(first[0], subject.plan.clip_norm * included, atol=1e-5)
    assert not base.any()  # no shopper hides a canary, however long the real gradients are


def test_without_canaries_it_is_what_train_private_does(subject):
    nowhere = np.empty(0, dtype=np.int64)
    nobody = WithCanaries(subject.shoppers, Canaries(np.empty(0, dtype=bool)), nowhere)
    _, audited = seen_of(subject, nobody, ReproducibleNoise(1), nowhere)
    recipe, rng = next(subject.rounds(4))
    start = initial_shared(subject.spec)
    real = train_private(start, subject.spec, subject.data, recipe, subject.plan, ReproducibleNoise(1), rng)
    assert all(torch.equal(audited[name], tensor) for name, tensor in real.items())
    assert not torch.equal(real["residual_out"], start["residual_out"])


def test_the_released_sums_carry_the_plan_s_noise(subject):
    nobody, places = with_canaries(subject, np.zeros(1000, bool))
    noised, _ = seen_of(subject, nobody, ReproducibleNoise(2), places)
    assert noised.shape == (4, 1000)
    expected = subject.plan.noise_multiplier * subject.plan.clip_norm
    assert noised.std() == pytest.approx(expected, rel=0.05)


def test_rounds_make_all_steps_and_draw_anew(subject):
    rounds = list(subject.rounds(10))
    assert [recipe.steps for recipe, _ in rounds] == [4, 4, 2]
    assert len({int(rng.integers(2**62)) for _, rng in rounds}) == 3
    assert [recipe.steps for recipe, _ in subject.rounds(5, local_steps=3)] == [3, 2]
