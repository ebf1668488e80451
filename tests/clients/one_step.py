"""One private step on a small platform, for tests: a plan, a recipe, chosen noise, and the sum that is noised."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from clients import training
from clients.training import LocalRecipe, train_private
from privacy.plan import PrivacyPlan

RECIPE = LocalRecipe(steps=1, sample_rate=1.0, learning_rate=0.1, scalar_learning_rate=0.05, negatives=6)
SHARED = {"log_isolation", "residual_in", "residual_out"}


def plan(clip_norm=0.5, *, sample_rate=1.0, steps=1):
    """A plan whose cost was allowed for generously: these tests are about the step, not the account."""
    return PrivacyPlan(
        epsilon=1000.0,
        delta=1e-6,
        clip_norm=clip_norm,
        sample_rate=sample_rate,
        population_size=20,
        steps=steps,
        noise_multiplier=1.0,
    )


class Silence:
    """No noise, and a chosen batch; counts what it was asked for."""

    private = False
    name = "silence"

    def __init__(self, mask=None):
        self.mask, self.normals, self.masks = mask, 0, 0

    def normal(self, n):
        self.normals += n
        return np.zeros(n)

    def poisson_mask(self, n, q):
        self.masks += 1
        return np.ones(n, bool) if self.mask is None else self.mask


def clipped_sum(setting, data, *, clip_norm=0.5, noise=None, negatives=6, seed=1, shared=None):
    """Return the sum that `train_private` noises: plain SGD at rate 1 shows it in the weights."""
    shared = shared or setting.shared
    chosen = plan(clip_norm)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_adam", lambda p, _: torch.optim.SGD(list(p.values()), lr=1.0))
        recipe = dataclasses.replace(RECIPE, negatives=negatives)
        rng = np.random.default_rng(seed)
        after = train_private(shared, setting.spec, data, recipe, chosen, noise or Silence(), rng)
    return {name: (shared[name] - after[name]) * chosen.normaliser for name in shared}


def length(tensors):
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors.values()))
