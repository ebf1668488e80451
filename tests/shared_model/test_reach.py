"""How long an honest sum can be, and that a longer one is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.errors import ReachError
from shared_model.reach import reach_of, require_reach


@given(st.integers(1, 200), st.integers(1, 50), st.floats(0, 20), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_an_honest_answer_is_never_refused(size, numbers, noise, seed):
    rng = np.random.default_rng(seed)
    rows = np.abs(rng.normal(size=(size, numbers)))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    require_reach(rows.sum(0) + rng.normal(0, noise, numbers), size, noise, "here")


def test_rows_that_all_agree_are_within_the_declared_size_and_twice_as_many_are_too():
    alike = np.zeros(5)
    alike[2] = 100.0
    require_reach(alike, 100, 0.0, "here")
    require_reach(2 * alike, 100, 0.0, "here")
    with pytest.raises(ReachError, match=r"toys, round 1: .* 100 declared shoppers"):
        require_reach(2.01 * alike, 100, 0.0, "toys, round 1")


def test_noise_has_room_that_grows_with_the_table():
    assert reach_of(10, 2.0, 100) == pytest.approx(20 + 2 * (10 + 10))
    assert reach_of(10, 0.0, 10**6) == 20
