"""The exchange spec: exactly the shared tensors travel, in shape, in kind and finite."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shared_model.errors import ExchangeError
from shared_model.exchange import ExchangeSpec, TensorSpec, fingerprint

SPEC = ExchangeSpec((TensorSpec("b", (2, 3)), TensorSpec("a", (1,))))


def good():
    return {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array([7.0], dtype=np.float32)}


def test_what_the_spec_says_passes_in_the_spec_s_order():
    SPEC.validate(good(), "here")
    tensors = SPEC.to_torch(dict(reversed(good().items())), "here")
    assert list(tensors) == ["b", "a"]
    back = SPEC.to_numpy(dict(reversed(tensors.items())), "there")
    assert list(back) == ["b", "a"]
    for name, array in good().items():
        np.testing.assert_array_equal(back[name], array)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"c": np.zeros(1, np.float32)}, "unknown ['c'], missing []"),
        ({"a": None}, "unknown [], missing ['a']"),
        ({"a": None, "A": np.zeros(1, np.float32)}, "unknown ['A'], missing ['a']"),
        ({"a": np.zeros(2, np.float32)}, "'a' must be float32 (1,), not float32 (2,)"),
        ({"a": np.zeros((), np.float32)}, "'a' must be float32 (1,), not float32 ()"),
        ({"b": np.zeros((3, 2), np.float32)}, "'b' must be float32 (2, 3), not float32 (3, 2)"),
        ({"a": np.zeros(1)}, "'a' must be float32 (1,), not float64 (1,)"),
        ({"a": np.zeros(1, np.int32)}, "not int32"),
        ({"a": np.zeros(1, ">f4")}, "not >f4"),
        ({"a": np.array([None])}, "not object"),
        ({"a": np.array([np.nan], np.float32)}, "'a' holds NaN or inf"),
        ({"a": np.array([-np.inf], np.float32)}, "'a' holds NaN or inf"),
    ],
)
def test_everything_else_is_refused_with_what_was_wrong(change, said):
    tensors = {name: array for name, array in (good() | change).items() if array is not None}
    with pytest.raises(ExchangeError) as refusal:
        SPEC.validate(tensors, "toys, round 3")
    assert str(refusal.value).startswith("toys, round 3: ")
    assert said in str(refusal.value)
    with pytest.raises(ExchangeError):
        SPEC.to_torch(tensors, "toys, round 3")


@given(st.integers(0, 5), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_one_bad_number_anywhere_is_found(at, value):
    tensors = good()
    tensors["b"].flat[at] = value
    with pytest.raises(ExchangeError, match="NaN or inf"):
        SPEC.validate(tensors, "here")
    with pytest.raises(ExchangeError, match="NaN or inf"):
        SPEC.to_numpy({name: torch.from_numpy(array) for name, array in tensors.items()}, "here")


def test_received_tensors_are_copies():
    arrays = good()
    tensors = SPEC.to_torch(arrays, "here")
    tensors["a"] += 1
    assert arrays["a"] == 7
    arrays["a"].setflags(write=False)
    SPEC.to_torch(arrays, "here")["a"] += 1


@given(st.integers(0, 6 * 4 - 1), st.integers(1, 255))
def test_a_model_s_fingerprint_changes_with_every_byte(at, flip):
    changed = good()
    changed["b"].reshape(-1).view(np.uint8)[at] ^= flip
    assert fingerprint(changed) != fingerprint(good())


def test_a_model_s_fingerprint_covers_names_shapes_and_kinds_but_not_order():
    same = dict(reversed(good().items()))
    same["b"] = np.asfortranarray(same["b"])
    assert fingerprint(same) == fingerprint(good())
    others = [
        {"c": good()["b"], "a": good()["a"]},
        {"b": good()["b"].reshape(3, 2), "a": good()["a"]},
        {"b": good()["b"].view(np.int32), "a": good()["a"]},
        {"b": good()["b"]},
    ]
    assert len({fingerprint(good()), *map(fingerprint, others)}) == 5


def test_a_spec_s_fingerprint_changes_with_every_field():
    specs = [
        SPEC,
        ExchangeSpec(SPEC.tensors[::-1]),
        ExchangeSpec(SPEC.tensors[:1]),
        ExchangeSpec((TensorSpec("b", (3, 2)), SPEC.tensors[1])),
        ExchangeSpec((TensorSpec("x", (2, 3)), SPEC.tensors[1])),
        ExchangeSpec((TensorSpec("b", (2, 3), "float64"), SPEC.tensors[1])),
    ]
    assert len({spec.fingerprint for spec in specs}) == len(specs)
    assert SPEC.fingerprint == ExchangeSpec((TensorSpec("b", (2, 3)), TensorSpec("a", (1,)))).fingerprint
    assert SPEC.parameters == 7
