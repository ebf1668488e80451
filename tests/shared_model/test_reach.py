"""No training leaves the reach; every step towards its border is one that Adam can take."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.encoders import EncoderIdentity, identities_to_json
from shared_model.errors import ReachError
from shared_model.exchange import TensorSpec
from shared_model.instructions import TrainInstructions
from shared_model.model import initial_shared
from shared_model.reach import BETAS, reach_of, require_reach, steps_reach

RATE = 0.01


def ask(**changes):
    """Return instructions for a model of 6 × 2."""
    identities = identities_to_json([EncoderIdentity("tiny", "1", "ab" * 32, 6)])
    values = {
        **{"run_id": "r", "round": 1, "rounds": 1, "local_steps": 2, "epsilon": 8.0, "delta": 1e-6},
        **{"clip_norm": 1.0, "sample_rate": 0.5, "learning_rate": RATE, "scalar_learning_rate": 0.02},
        **{"negatives": 8, "targets": 3, "encoders": "tiny", "encoder_identities": identities},
        **{"width": 2, "history_length": 4, "seed": 3},
    }
    return TrainInstructions.from_mapping(values | changes)


def adam(gradients, start=0.0):
    """Return where torch's Adam ends, one scalar, float32."""
    parameter = torch.nn.Parameter(torch.tensor([start]))
    optimizer = torch.optim.Adam([parameter], lr=RATE, betas=BETAS)
    for gradient in gradients:
        parameter.grad = torch.tensor([gradient])
        optimizer.step()
    return float(parameter.detach())


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=24),
    st.sampled_from([0.0, 1.0, -300.0]),
)
def test_no_gradients_leave_the_reach(gradients, start):
    bound = ask(local_steps=len(gradients))
    shared = bound.spec.exchange.to_numpy(initial_shared(bound.spec), "start")
    begin = shared | {"residual_out": np.full_like(shared["residual_out"], start)}
    ended = begin | {"residual_out": np.full_like(shared["residual_out"], adam(gradients, start))}
    require_reach(begin, ended, bound, "here")


def test_the_reach_is_nearly_taken_by_gradients_that_grow():
    """With g_s ∝ (β₁/β₂)^(t−s), the case of equality in the inequality, for the last step."""
    steps = 40
    gradients = [(BETAS[0] / BETAS[1]) ** (steps - s) for s in range(1, steps + 1)]
    last = abs(adam(gradients) - adam(gradients[:-1])) / RATE
    assert last == pytest.approx(steps_reach(steps) - steps_reach(steps - 1), rel=1e-3)


def test_vectors_and_matrices_have_their_own_learning_rates():
    assert reach_of(TensorSpec("log_sharpness", (1,)), ask()) == pytest.approx(0.02 * steps_reach(2))
    assert reach_of(TensorSpec("residual_in", (6, 2)), ask()) == pytest.approx(0.01 * steps_reach(2))


@pytest.mark.parametrize("factor", [1.01, 10, 1e30])
def test_one_scalar_too_far_is_refused_and_named(factor):
    bound = ask()
    start = bound.spec.exchange.to_numpy(initial_shared(bound.spec), "start")
    moved = {name: array.copy() for name, array in start.items()}
    moved["residual_out"][1, 2] -= np.float32(factor * RATE * steps_reach(2))
    with pytest.raises(ReachError, match="toys: tensor 'residual_out' moved by"):
        require_reach(start, moved, bound, "toys")
