"""Arms: stable, in proportion, drawn anew by another key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.errors import FeedbackError
from clients.feedback import assign_arm

SHOPPERS = [f"shopper-{i}" for i in range(4000)]


def test_arms_get_their_parts_and_another_key_draws_anew():
    arms = {"old": 3.0, "new": 1.0}
    first = [assign_arm(s, arms, b"spring") for s in SHOPPERS]
    assert first == [assign_arm(s, arms, b"spring") for s in SHOPPERS]
    assert first.count("new") == pytest.approx(1000, abs=4 * (4000 * 0.25 * 0.75) ** 0.5)
    second = [assign_arm(s, arms, b"autumn") for s in SHOPPERS]
    both = sum(a == b == "new" for a, b in zip(first, second, strict=True))
    assert both == pytest.approx(250, abs=4 * (4000 / 16 * 15 / 16) ** 0.5), "as if independent"


@given(st.text(max_size=20), st.lists(st.floats(0, 1e6), min_size=1, max_size=5))
def test_an_arm_of_weight_zero_gets_nobody(shopper, weights):
    arms = {f"arm-{i}": weight for i, weight in enumerate(weights)}
    if not sum(weights) > 0:
        with pytest.raises(FeedbackError, match="are no weights"):
            assign_arm(shopper, arms, b"key")
    else:
        assert arms[assign_arm(shopper, arms, b"key")] > 0


@pytest.mark.parametrize("arms", [{}, {"a": -1.0, "b": 3.0}, {"a": float("nan")}, {"a": float("inf")}])
def test_weights_that_are_none_are_refused(arms):
    with pytest.raises(FeedbackError, match="are no weights"):
        assign_arm("anna", arms, b"key")


@pytest.mark.parametrize("key", [b"", b"x" * 65])
def test_keys_that_are_none_are_refused(key):
    with pytest.raises(FeedbackError, match="1 to 64 bytes"):
        assign_arm("anna", {"a": 1.0}, key)
