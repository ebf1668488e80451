"""How far one shopper moves a sum of millions: by at most C, whatever chunks the others came in."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from privacy.clipping import clipped_sum, grid_step, on_grid
from privacy.optimizer import SourcedDPOptimizer
from privacy.plan import PrivacyPlan

C = 0.7
SHOPPERS, CHUNK = 3_000_000, 10_000
PLAN = PrivacyPlan(
    epsilon=1000.0,
    delta=1e-6,
    clip_norm=C,
    sample_rate=1.0,
    population_size=SHOPPERS,
    steps=1,
    noise_multiplier=1.0,
)


class Silence:
    """A source without noise."""

    private = False
    name = "silence"

    def normal(self, n):
        return np.zeros(n)

    def poisson_mask(self, n, q):
        return np.ones(n, bool)


def all_rows():
    """(SHOPPERS, 3) float32, all above C in norm and alike in direction: nothing in their sum cancels."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(SHOPPERS, 3, generator=generator) + 0.5


def summed(rows):
    """Return the sum that noise is added to, in float64."""
    weights = [torch.nn.Parameter(torch.zeros(width)) for width in (1, 2)]
    optimizer = SourcedDPOptimizer(torch.optim.SGD(weights, lr=1.0), plan=PLAN, noise=Silence())
    chunks = rows.split(CHUNK)
    for number, chunk in enumerate(chunks, start=1):
        weights[0].grad_sample, weights[1].grad_sample = chunk[:, :1], chunk[:, 1:]
        optimizer.signal_skip_step(number < len(chunks))
        optimizer.step()
        if number < len(chunks):
            optimizer.zero_grad()
    return torch.cat([weight.summed_grad.double() for weight in weights])


@pytest.fixture(scope="module")
def everyone():
    rows = all_rows()
    return rows, summed(rows)


@pytest.mark.parametrize("removed", [0, 1_234_567, SHOPPERS - 1])
def test_one_of_three_million_moves_the_sum_by_at_most_the_clip_norm(everyone, removed):
    """Added up in float32 it moved by several C, since whoever is removed shifts all later chunks."""
    rows, whole = everyone
    rest = summed(torch.cat([rows[:removed], rows[removed + 1 :]]))
    moved = float((whole - rest).norm())
    assert moved <= C * (1 + 1e-9)
    assert moved >= C * (1 - 1e-6)  # the bound is reached: the test has power


ROWS = arrays(np.float32, (7, 3), elements=st.floats(allow_nan=False, allow_infinity=False, width=32))


@given(ROWS, st.sampled_from([1e-12, 3e-7, 0.7, 1.0, 1e12]))
def test_whatever_the_rows_each_contributes_at_most_the_clip_norm(rows, clip_norm):
    """In exact arithmetic, and the sum is theirs exactly."""
    rows = torch.from_numpy(rows)
    each = torch.stack([torch.cat(clipped_sum([row[None, :1], row[None, 1:]], clip_norm)) for row in rows])
    exact = [[Fraction(value) for value in row] for row in each.tolist()]
    most = (Fraction(clip_norm) * (1 + Fraction(1, 10**12))) ** 2
    assert all(sum(value**2 for value in row) <= most for row in exact)
    together = torch.cat(clipped_sum([rows[:, :1], rows[:, 1:]], clip_norm))
    assert [Fraction(value) for value in together.tolist()] == [
        sum(column) for column in zip(*exact, strict=True)
    ]


@given(ROWS, st.sampled_from([1e-12, 0.7, 1e12]))
def test_rows_lose_less_than_a_step_of_the_grid(rows, clip_norm):
    for row in rows.astype(np.float64):
        expected = row * (clip_norm / max(np.sqrt((row**2).sum()), clip_norm))
        [got] = clipped_sum([torch.from_numpy(row)[None]], clip_norm)
        lost = np.abs(expected) - got.abs().numpy()
        assert (lost <= grid_step(clip_norm) * (1 + 1e-6)).all()
        assert (lost >= -1e-15 * clip_norm).all()
        assert grid_step(clip_norm) <= clip_norm * 2.0**-28


@pytest.mark.parametrize("shape", [(), (1,), (5000,), (2, 3), (0,)])
def test_sums_have_the_parameters_shape_also_of_no_rows(shape):
    [got] = clipped_sum([torch.ones(0, *shape)], C)
    assert got.shape == shape
    assert got.dtype == torch.float64
    assert not got.any()
    [got] = clipped_sum([torch.full((3, *shape), 1e-9)], C)
    assert got.shape == shape


@given(arrays(np.float64, 40, elements=st.floats(-1, 1)), st.permutations(range(40)))
def test_what_is_on_the_grid_adds_up_to_the_same_in_any_order(values, order):
    values = on_grid(values * C, C)
    assert sum(values) == sum(values[order]) == float(sum(map(Fraction, values)))
    assert (np.abs(on_grid(values, C)) <= C).all()
