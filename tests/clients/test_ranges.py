"""At the corners of all ranges nothing overflows float32, whatever the shoppers do and the noise is."""

import itertools

import numpy as np
import pytest

from clients.release import edge_sum
from clients.training import private_sum
from privacy.release import ReleasePlan
from shared_model.instructions import MOST_TEMPER, TrainInstructions
from shared_model.stages import Stage

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
    """Noise as large as it can be, of one sign."""

    private, name = False, "extreme"

    def __init__(self, sign):
        self.sign = sign

    def normal(self, n):
        return np.full(n, self.sign * NORMAL)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("shoppers", [0, SHOPPERS])
def test_a_release_is_finite_at_every_corner(sign, shoppers):
    total = np.array([0.0, shoppers / 2, shoppers])
    for delta, share, noise in itertools.product(ends("delta"), ends("share"), (0.1, 1e6)):
        shares = (share,) if share == 1 else (share, 1 - share)
        plan = ReleasePlan(1000.0, delta, shares, max(noise * min(shares) ** 0.5, 0.1))
        for stage in list(Stage)[: len(shares)]:
            released = private_sum(total, plan, stage, Extreme(sign))
            assert np.isfinite(released).all()
            assert np.abs(released).max() <= SHOPPERS + NORMAL * plan.noise_of(stage.number) * 1.001


@pytest.mark.parametrize("temper", itertools.product((1.0, MOST_TEMPER), repeat=3))
def test_rows_of_edges_have_norm_one_for_every_temper(temper):
    edges = np.array([[0, 1], [0, 2], [1, 2]])
    users, products = np.zeros(6, int), np.array([0, 1, 2, 0, 1, 2])
    total = edge_sum(users, products, np.arange(6), edges, 3, np.array(temper))
    assert 1 - 1e-7 < np.linalg.norm(total) <= 1, "down to the grid, and never beyond"
