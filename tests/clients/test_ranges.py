"""At the corners of all ranges nothing overflows float32, whatever the gradients and the noise are."""

import itertools

import numpy as np
import pytest
import torch

from clients.training import LocalRecipe, train_population
from privacy.plan import PrivacyPlan
from shared_model.instructions import START_LIMIT, TrainInstructions
from shared_model.reach import steps_reach

SHOPPERS = 2**31
"""More than there are people with a telephone to shop by."""
NORMAL = 17.2
"""No normal of `privacy.noise` is larger: four times √(2·53·ln 2), over two."""


def ends(name: str) -> tuple[float, float]:
    """Return the least and the largest value that a request may have."""
    said = {}
    for constraint in TrainInstructions.model_fields[name].metadata:
        said |= {
            key: getattr(constraint, key)
            for key in ("ge", "le")
            if getattr(constraint, key, None) is not None
        }
    return said["ge"], said["le"]


class Extreme:
    """Noise as large as it can be, of a sign that stays or turns, or at first only; `more` stands for shoppers."""

    private, name = False, "extreme"

    def __init__(self, signs, more):
        self.signs, self.more, self.calls = signs, more, 0

    def normal(self, n):
        self.calls += 1
        sign = {"stay": 1.0, "turn": (-1.0) ** self.calls, "rest": float(self.calls == 1)}[self.signs]
        return np.full(n, sign * (NORMAL + self.more))

    def poisson_mask(self, n, q):
        return np.zeros(n, bool)


class Nobody:
    def __len__(self):
        return 0

    def gradients(self, public_rng):
        return None


def trained(corner, signs, steps, sigma, start):
    clip, rate, slow, quick, proximal = corner
    plan = PrivacyPlan(1000.0, 1e-6, clip, rate, 1, 1, 1e6)
    object.__setattr__(plan, "noise_multiplier", sigma)  # whatever it costs
    noise = Extreme(signs, SHOPPERS / sigma)
    recipe = LocalRecipe(steps, rate, slow, quick, 1, proximal)
    shared = {"scalar": torch.full((1,), start), "matrix": torch.full((2, 2), -start)}
    seen = []

    def watch(gradients):
        seen.append(max(float(g.abs().max()) for g in gradients.values()))

    after = train_population(shared, Nobody(), recipe, plan, noise, np.random.default_rng(0), watch)
    return after, max(seen)


CORNERS = list(
    itertools.product(
        *map(ends, ("clip_norm", "sample_rate", "learning_rate", "scalar_learning_rate", "proximal"))
    )
)


@pytest.mark.parametrize("signs", ["stay", "turn", "rest"])
def test_no_corner_overflows(signs):
    assert len(CORNERS) == 32
    largest = 0.0
    for corner, sigma in itertools.product(CORNERS, (0.1, 1e6)):
        after, gradient = trained(corner, signs, 4, sigma, START_LIMIT)
        largest = max(largest, gradient)
        assert all(torch.isfinite(tensor).all() for tensor in after.values()), (corner, sigma)
    assert 2e17 < largest < 1e19, (
        "the largest gradient is that of the docstring, and its square is below 3.4e38"
    )


def test_nor_do_many_steps_at_the_worst_corner():
    worst = tuple(
        high if name != "sample_rate" else low
        for name, (low, high) in (
            (n, ends(n))
            for n in ("clip_norm", "sample_rate", "learning_rate", "scalar_learning_rate", "proximal")
        )
    )
    for signs in ("stay", "turn"):
        after, _ = trained(worst, signs, 300, 1e6, START_LIMIT)
        for tensor in after.values():
            assert torch.isfinite(tensor).all()
            assert (tensor.abs() <= START_LIMIT + worst[3] * steps_reach(300)).all()


def test_the_reach_is_what_the_docstring_says():
    _, steps = ends("local_steps")
    assert steps_reach(int(steps)) < 7.3 * steps


def test_one_step_beyond_the_ranges_overflows():
    """The test can fail: the terms of the attack do."""
    after, _ = trained((4e-7, 1.0, 10.0, 10.0, 1e38), "rest", 2, 1.0, 0.0)
    assert not all(torch.isfinite(tensor).all() for tensor in after.values())
