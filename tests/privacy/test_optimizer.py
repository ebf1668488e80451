"""The optimiser's step: exact clipping, the right noise, nothing that must not leave."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from privacy.errors import MechanismError
from privacy.noise import ReproducibleNoise, SecureNoise
from privacy.optimizer import SourcedDPOptimizer
from privacy.plan import PrivacyPlan

C = 0.5
PLAN = PrivacyPlan(
    epsilon=100.0,
    delta=1e-6,
    clip_norm=C,
    sample_rate=0.05,
    population_size=630,  # normaliser 31.5: not a whole number
    steps=10,
    noise_multiplier=1.0,
)


class Silence:
    """A source without noise: shows the clipped sum itself."""

    private = False
    name = "silence"

    def normal(self, n):
        return np.zeros(n)

    def poisson_mask(self, n, q):
        return np.ones(n, bool)


def make(noise, shapes=((3, 4), (5,)), dtype=torch.float64):
    parameters = [torch.nn.Parameter(torch.zeros(s, dtype=dtype)) for s in shapes]
    # learning rate 1 on zero weights: the weights after a step are minus the released mean
    return SourcedDPOptimizer(torch.optim.SGD(parameters, lr=1.0), plan=PLAN, noise=noise), parameters


def gradients(batch, shapes=((3, 4), (5,)), scale=1.0, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(batch, *s, generator=generator, dtype=dtype) for s in shapes]


def give(parameters, per_user):
    for p, g in zip(parameters, per_user, strict=True):
        p.grad_sample = g


def released(parameters):
    return [-p.detach().clone() for p in parameters]


GRID = 2.0**-29
"""C = 1/2 is 2^28 steps."""


def by_hand(per_user):
    """Clip each user, round towards zero, sum, divide by the public normaliser: one user at a time, in numpy."""
    total = [np.zeros(g.shape[1:]) for g in per_user]
    for user in range(len(per_user[0])):
        own = [g[user].double().numpy() for g in per_user]
        norm = math.sqrt(sum(float((x**2).sum()) for x in own))
        factor = C / max(norm, C)
        total = [t + np.trunc(factor * x / GRID) * GRID for t, x in zip(total, own, strict=True)]
    return [t / PLAN.normaliser for t in total]


def test_a_step_without_noise_equals_the_hand_calculation():
    optimizer, parameters = make(Silence())
    per_user = [
        torch.cat(parts) for parts in zip(gradients(9), gradients(9, scale=0.01, seed=1), strict=True)
    ]
    give(parameters, per_user)
    optimizer.step()
    for ours, reference in zip(released(parameters), by_hand(per_user), strict=True):
        np.testing.assert_allclose(ours.numpy(), reference, rtol=1e-13, atol=1e-15)


def test_chunks_add_up_to_the_whole_batch():
    per_user = gradients(10)
    whole, whole_parameters = make(Silence())
    give(whole_parameters, per_user)
    whole.step()
    chunked, parameters = make(Silence())
    for start, skip in ((0, True), (4, True), (8, False)):
        give(parameters, [g[start : start + 4] for g in per_user])
        chunked.signal_skip_step(skip)
        chunked.step()
        chunked.zero_grad()
    for a, b in zip(released(parameters), released(whole_parameters), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6, 1e150])
def test_one_user_moves_the_sum_by_at_most_the_clip_norm(scale):
    """Tier 0 of the audit: drop each user in turn, in float64."""
    per_user = gradients(6, scale=scale)

    def clipped_sum(keep):
        optimizer, parameters = make(Silence())
        give(parameters, [g[keep] for g in per_user])
        optimizer.step()
        return torch.cat([r.flatten() for r in released(parameters)]) * PLAN.normaliser

    everyone = clipped_sum(list(range(6)))
    for user in range(6):
        moved = float((everyone - clipped_sum([u for u in range(6) if u != user])).norm())
        assert moved <= C * 1.0000001
    if scale >= 1.0:
        assert moved >= C * 0.9999  # the bound is reached: the test has power


def noise_of(noise, per_user, dtype=torch.float32):
    shapes = ((1000, 200),)
    optimizer, parameters = make(noise, shapes, dtype)
    give(parameters, per_user(shapes))
    optimizer.step()
    return released(parameters)[0].double().numpy().ravel()


@pytest.mark.parametrize("source", [SecureNoise(), ReproducibleNoise(3, "noise")])
@pytest.mark.parametrize("rows", [0, 1], ids=["empty batch", "padded batch"])
def test_an_empty_batch_is_noised_with_the_calibrated_std(source, rows):
    """200,000 draws: a std off by 0.5 % is three standard errors away and is taken again once."""
    expected = PLAN.noise_multiplier * C / PLAN.normaliser

    def off():
        draws = noise_of(source, lambda shapes: [torch.zeros(rows, *s) for s in shapes])
        assert abs(draws.mean()) < 5 * expected / math.sqrt(draws.size)
        return abs(draws.std() / expected - 1)

    assert off() < 0.005 or off() < 0.005


def test_two_steps_and_two_optimisers_never_share_noise():
    """Same seed in torch, same model: the hazard is noise that cancels between rounds or clients."""
    releases = []
    for _ in range(2):
        torch.manual_seed(0)
        releases.append(noise_of(SecureNoise(), lambda shapes: [torch.zeros(0, *s) for s in shapes]))
    assert abs(np.corrcoef(*releases)[0, 1]) < 0.02


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_row_that_is_not_finite_contributes_exactly_zero(bad):
    per_user = gradients(3)
    optimizer, parameters = make(Silence())
    give(parameters, [g[[0, 1]] for g in per_user])
    optimizer.step()
    spoilt, others = make(Silence())
    per_user[1][2, 0] = bad
    give(others, per_user)
    spoilt.step()
    assert all(torch.equal(a, b) for a, b in zip(released(parameters), released(others), strict=True))
    assert all(bool(p.any()) for p in parameters)


def test_a_row_too_large_to_square_contributes_exactly_zero():
    optimizer, parameters = make(Silence())
    give(parameters, [torch.full_like(g, 1e200) for g in gradients(3)])
    optimizer.step()
    assert all(not bool(p.any()) for p in parameters)


def bounded(parameters, value=0.01, dtype=torch.float64):
    return [torch.full(p.shape, value, dtype=dtype) for p in parameters]


def test_a_bounded_sum_is_taken_as_it_is_between_chunks_of_rows():
    """Not clipped again: it is the sum of many rows, longer than C."""
    per_user = gradients(4)
    optimizer, parameters = make(Silence())
    give(parameters, per_user)
    optimizer.signal_skip_step(True)
    optimizer.step()
    optimizer.zero_grad()
    optimizer.add_bounded(bounded(parameters, 3.0))
    optimizer.signal_skip_step(True)
    optimizer.step()
    optimizer.zero_grad()
    give(parameters, gradients(4))
    optimizer.signal_skip_step(False)
    optimizer.step()
    for ours, reference in zip(released(parameters), by_hand(per_user), strict=True):
        np.testing.assert_allclose(ours.numpy(), 2 * reference + 3.0 / PLAN.normaliser, rtol=1e-13)


def test_a_bounded_sum_is_noised_and_used_once():
    class Counting(Silence):
        drawn = 0

        def normal(self, n):
            self.drawn += n
            return np.ones(n)

    noise = Counting()
    optimizer, parameters = make(noise, dtype=torch.float32)
    optimizer.add_bounded(bounded(parameters))
    optimizer.step()
    assert noise.drawn == 17
    for ours in released(parameters):
        expected = torch.full_like(ours, (0.01 + C) / PLAN.normaliser)
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=0)
    with pytest.raises(ValueError, match="zero_grad"):
        optimizer.step()
    optimizer.add_bounded(bounded(parameters))
    with pytest.raises(ValueError, match="zero_grad"):
        optimizer.step()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_bounded_sum_that_is_not_finite_is_refused_before_any_noise(bad):
    class Untouched(Silence):
        def normal(self, n):
            raise AssertionError("noise was drawn for a sum that may not leave")

    optimizer, parameters = make(Untouched())
    sums = bounded(parameters)
    sums[1][0] = bad
    optimizer.add_bounded(sums)
    with pytest.raises(MechanismError, match="not finite"):
        optimizer.step()
    assert all(not bool(p.any()) for p in parameters), "a step was taken"
    assert all(p.grad is None for p in parameters), "a gradient was left behind"


def test_a_bounded_sum_in_single_precision_or_of_another_shape_is_refused():
    optimizer, parameters = make(Silence())
    with pytest.raises(MechanismError, match="float32"):
        optimizer.add_bounded(bounded(parameters, dtype=torch.float32))
    with pytest.raises(MechanismError, match=r"parameter 1 .* give float64 of shape \(5,\)"):
        optimizer.add_bounded([bounded(parameters)[0], torch.zeros(6, dtype=torch.float64)])


def test_an_all_zero_update_is_fine():
    """min(1, C / norm) elsewhere divides by zero."""
    optimizer, parameters = make(Silence())
    give(parameters, [torch.zeros_like(g) for g in gradients(3)])
    optimizer.step()
    assert all(bool(torch.isfinite(p).all()) and not bool(p.any()) for p in parameters)


def test_accumulated_lists_are_refused():
    """Opacus would divide the sum by the number of batches in the list."""
    optimizer, parameters = make(Silence())
    give(parameters, [[g, g] for g in gradients(3)])
    with pytest.raises(MechanismError, match="signal_skip_step"):
        optimizer.step()


def test_gradients_cannot_be_used_twice():
    optimizer, parameters = make(Silence())
    give(parameters, gradients(3))
    optimizer.step()
    with pytest.raises(ValueError, match="zero_grad"):
        optimizer.step()


def test_missing_gradients_are_an_error():
    optimizer, _ = make(Silence())
    with pytest.raises(ValueError, match="Per sample gradient"):
        optimizer.step()


def test_state_dict_keys_carry_no_prefix():
    """Opacus' wrapped modules add ``_module.``; nothing is wrapped here."""
    model = torch.nn.Linear(2, 1)
    SourcedDPOptimizer(torch.optim.SGD(model.parameters(), lr=0.1), plan=PLAN, noise=Silence())
    assert set(model.state_dict()) == {"weight", "bias"}
