"""Steck's calibration against SciPy's relative entropy, and errors of ratings."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from shared_model.metrics import category_shares, miscalibration, mse, rmse

CATEGORIES = [[0, -1, -1], [0, 1, -1], [2, -1, -1], [-1, -1, -1], [0, 1, 2], [1, -1, -1]]
LISTS = st.lists(st.integers(0, 5), max_size=5, unique=True)


def padded(rows, width=5):
    return np.array([row + [-1] * (width - len(row)) for row in rows], dtype=np.int64)


def shares_by_loop(row):
    shares = [0.0] * 3
    for item in row:
        own = [c for c in CATEGORIES[item] if c >= 0]
        for category in own:
            shares[category] += 1 / len(own)
    total = sum(shares)
    return [s / total for s in shares] if total else [math.nan] * 3


@given(st.lists(st.tuples(LISTS, LISTS), min_size=1, max_size=4), st.sampled_from([0.01, 0.2, 0.9]))
def test_miscalibration_is_the_relative_entropy_of_smoothed_shares(pairs, alpha):
    lists, histories = padded([p[0] for p in pairs]), padded([p[1] for p in pairs])
    assert category_shares(lists, CATEGORIES) == pytest.approx(
        np.array([shares_by_loop(p[0]) for p in pairs]), nan_ok=True
    )
    got = miscalibration(lists, histories, CATEGORIES, alpha)
    for value, (shown, had) in zip(got, pairs, strict=True):
        p, q = np.array(shares_by_loop(had)), np.nan_to_num(shares_by_loop(shown))
        if np.isnan(p).any():
            assert math.isnan(value)
            continue
        mixed = (1 - alpha) * q + alpha * p
        expected = entropy(p, mixed) if np.any(q) else math.log(1 / alpha)
        assert value == pytest.approx(expected, abs=1e-12)
        assert 0 <= value <= math.log(1 / alpha) + 1e-12


@given(LISTS.filter(lambda row: any(i != 3 for i in row)), st.randoms())
def test_a_list_with_the_shoppers_proportions_is_calibrated_in_any_order(row, random):
    again = row.copy()
    random.shuffle(again)
    assert miscalibration(padded([again]), padded([row]), CATEGORIES)[0] == pytest.approx(0, abs=1e-12)


def test_the_further_from_the_shoppers_proportions_the_worse():
    """Steck's example: who watched 70 % romance and 30 % action should see both."""
    history = [[0] * 7 + [1] * 3]
    lists = [[0] * n + [1] * (10 - n) for n in (7, 8, 9, 10)]
    values = miscalibration(lists, history * 4, [0, 1])
    assert values[0] == pytest.approx(0, abs=1e-12)
    assert (np.diff(values) > 0).all()


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    lists = rng.integers(-1, 6, size=(20, 5))
    whole = category_shares(lists, CATEGORIES)
    monkeypatch.setattr("shared_model.metrics.calibration._ENTRIES", 1)
    assert np.array_equal(category_shares(lists, CATEGORIES), whole, equal_nan=True)


def test_without_any_category_or_shopper_there_is_no_value():
    assert np.isnan(miscalibration([[0]], [[0]], [[-1]])).tolist() == [True]
    assert miscalibration(np.zeros((0, 2), int), np.zeros((0, 3), int), [0]).shape == (0,)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0, math.nan])
def test_a_smoothing_that_is_none_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha is"):
        miscalibration([[0]], [[0]], [0], alpha)


def test_histories_of_other_shoppers_are_refused():
    with pytest.raises(ValueError, match="2 histories do not belong to 1 lists"):
        miscalibration([[0]], [[0], [0]], [0])
    with pytest.raises(ValueError, match="item 3 is outside the catalogue of 1 items"):
        miscalibration([[3]], [[0]], [0])


RATED = st.lists(
    st.tuples(st.floats(-10, 10), st.one_of(st.floats(1, 5), st.just(math.nan))), min_size=1, max_size=6
)


@given(RATED, st.permutations(range(6)))
def test_errors_by_their_definition(pairs, order):
    got = mse([[p for p, _ in pairs]], [[a for _, a in pairs]])
    errors = [(p - a) ** 2 for p, a in pairs if not math.isnan(a)]
    assert got[0] == pytest.approx(sum(errors) / len(errors) if errors else math.nan, nan_ok=True)
    shuffled = [pairs[i] for i in order if i < len(pairs)]
    again = rmse([[p for p, _ in shuffled]], [[a for _, a in shuffled]])
    assert again[0] == pytest.approx(math.sqrt(got[0]), nan_ok=True)
    assert not again[0] < 0


@pytest.mark.parametrize(
    ("predicted", "actual", "message"),
    [
        ([[math.nan, 1.0]], [[3.0, 1.0]], "1 predictions for given ratings are NaN or infinite"),
        ([[math.inf]], [[3.0]], "NaN or infinite"),
        ([[1.0]], [[math.inf]], "a rating is infinite"),
        ([[1.0, 2.0]], [[1.0]], "same shape"),
        ([1.0], [1.0], "same shape"),
    ],
)
def test_a_prediction_that_is_none_is_refused(predicted, actual, message):
    with pytest.raises(ValueError, match=message):
        mse(predicted, actual)


def test_what_was_not_rated_may_be_predicted_as_anything():
    assert mse([[math.nan, 2.0]], [[math.nan, 3.0]]).tolist() == [1.0]
    assert mse(np.zeros((0, 3)), np.zeros((0, 3))).shape == (0,)
