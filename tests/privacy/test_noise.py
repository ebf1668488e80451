"""Noise and sampling: right distribution, never repeated, never quietly reproducible."""

from __future__ import annotations

import copy
import math
import os
import pickle

import numpy as np
import pytest
import torch
from scipy import stats

from privacy import noise as noise_module
from privacy.errors import PlanError
from privacy.noise import ReproducibleNoise, SecureNoise, normal_like

N = 400_000


@pytest.fixture(params=["secure", "reproducible"])
def source(request):
    return SecureNoise() if request.param == "secure" else ReproducibleNoise(7, "test")


def test_normals_are_standard_normal(source):
    """Standard errors here are 0.0016 (mean) and 0.0011 (std): the bounds are over four of them."""
    draws = source.normal(N)
    assert draws.dtype == np.float64
    assert abs(draws.mean()) < 0.0075
    assert abs(draws.std() - 1) < 0.005
    assert stats.kstest(draws, "norm").pvalue > 1e-6
    assert abs(draws).max() > 4.0


def test_normals_are_independent(source):
    draws = source.normal(N)
    for lag in (1, 2, N // 2):
        assert abs(np.corrcoef(draws[:-lag], draws[lag:])[0, 1]) < 0.01


@pytest.mark.parametrize("q", [0.001, 0.3, 1.0])
def test_masks_are_independent_bernoulli_draws(source, q):
    mask = source.poisson_mask(N, q)
    assert mask.dtype == bool
    assert abs(mask.mean() - q) < 5 * math.sqrt(q * (1 - q) / N) + 1e-12


def test_batch_sizes_vary_as_poisson_sampling_says(source):
    """Not a fixed-size batch in disguise: the variance of the size is n·q·(1−q)."""
    sizes = [int(source.poisson_mask(1000, 0.1).sum()) for _ in range(2000)]
    assert np.var(sizes) == pytest.approx(90, rel=0.2)


def test_small_batches_may_be_empty(source):
    assert 0 in {int(source.poisson_mask(20, 0.01).sum()) for _ in range(100)}


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_any_length_can_be_drawn(source, n):
    assert source.normal(n).shape == (n,)
    assert source.poisson_mask(n, 0.5).shape == (n,)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -0.1, 1.1, True])
def test_bad_sample_rates_are_refused(source, bad):
    with pytest.raises(PlanError):
        source.poisson_mask(10, bad)


@pytest.mark.parametrize("bad", [-1, 1.5, True, math.nan])
def test_bad_lengths_are_refused(source, bad):
    with pytest.raises(PlanError):
        source.normal(bad)


def test_each_normal_sums_several(monkeypatch):
    """The guard against floating-point attacks is in force: four Box-Muller rounds per normal."""
    rounds = []
    original = noise_module._uniform

    def counted(stream, n):
        rounds.append(n)
        return original(stream, n)

    monkeypatch.setattr(noise_module, "_uniform", counted)
    SecureNoise().normal(10)
    assert rounds == [5] * 8


class TestSecure:
    def test_it_is_private(self):
        assert SecureNoise().private

    def test_sources_differ_and_do_not_repeat(self):
        a, b = SecureNoise(), SecureNoise()
        first = a.normal(8)
        assert not np.array_equal(first, b.normal(8))
        assert not np.array_equal(first, a.normal(8))

    def test_global_seeds_have_no_power(self):
        draws = []
        for _ in range(2):
            torch.manual_seed(0)
            np.random.seed(0)
            draws.append(SecureNoise().normal(8))
        assert not np.array_equal(*draws)

    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
    def test_a_copy_does_not_repeat_the_noise(self, duplicate):
        source = SecureNoise()
        source.normal(3)
        assert not np.array_equal(duplicate(source).normal(8), source.normal(8))

    def test_a_forked_child_does_not_repeat_the_noise(self):
        source = SecureNoise()
        source.normal(3)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(write, source.normal(4).tobytes())
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read, 1000) != source.normal(4).tobytes()

    def test_the_stream_is_rekeyed_without_repeating(self, monkeypatch):
        monkeypatch.setattr(noise_module, "_STREAM_BYTES", 100)
        draws = SecureNoise().normal(2000)
        assert len(np.unique(draws)) == 2000


class TestReproducible:
    def test_it_is_marked_not_private(self):
        assert not ReproducibleNoise(1).private

    def test_same_seed_and_labels_give_the_same_numbers(self):
        assert np.array_equal(ReproducibleNoise(1, "a", 2).normal(9), ReproducibleNoise(1, "a", 2).normal(9))

    @pytest.mark.parametrize(
        "other", [(2, "a", 2), (1, "a", 3), (1, "a", "2"), (1, "a2"), (1 + 2**32, "a", 2)]
    )
    def test_any_difference_gives_other_numbers(self, other):
        """Unlike torch.manual_seed, which takes s and s + 2^32 for the same."""
        assert not np.array_equal(ReproducibleNoise(1, "a", 2).normal(9), ReproducibleNoise(*other).normal(9))

    @pytest.mark.parametrize("duplicate", [copy.deepcopy, pickle.dumps])
    def test_it_is_not_copied(self, duplicate):
        with pytest.raises(TypeError, match="repeat"):
            duplicate(ReproducibleNoise(1))

    @pytest.mark.parametrize("bad", [1.0, "1", None, True])
    def test_bad_seeds_are_refused(self, bad):
        with pytest.raises(PlanError):
            ReproducibleNoise(bad)


def test_normal_like_fits_the_tensor(source):
    reference = torch.zeros(3, 4)
    drawn = normal_like(source, reference)
    assert drawn.shape == reference.shape
    assert drawn.dtype == torch.float64
