import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.same_trade.codes import NO_CODE, cells
from benchmarks.same_trade.neighbours import (
    KEEP_ABOVE,
    neighbour_matrix,
    neighbour_scores,
    plain_mean,
    release,
    shopper_rows,
)
from clients.data.sequences import Sequences
from clients.data.split import Split, leave_one_out
from clients.transitions import DECAY, WINDOW
from privacy.errors import PlanError
from privacy.noise import ReproducibleNoise
from privacy.plan import PrivacyPlan

K, ITEMS = 5, 12
CODES = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, NO_CODE, 0])
Histories = list[list[int]]
histories = st.lists(st.lists(st.integers(0, ITEMS - 1), min_size=0, max_size=30), min_size=0, max_size=6)


def split_of(baskets: Histories) -> Split:
    offsets = np.cumsum([0, *map(len, baskets)]).astype(np.int64)
    items = np.array([i for basket in baskets for i in basket], dtype=np.int64)
    groups = np.array([n // 2 for basket in baskets for n in range(len(basket))], dtype=np.int64)
    names = tuple(f"u{n}" for n in range(len(baskets)))
    return leave_one_out(Sequences(names, items, groups, offsets), first_time_only=False, seed=0)


def plan(**changes: float) -> PrivacyPlan:
    numbers = {
        "epsilon": 8.0,
        "delta": 1e-6,
        "clip_norm": 1.0,
        "sample_rate": 1.0,
        "population_size": 10,
        "steps": 1,
    }
    return PrivacyPlan.calibrated(**(numbers | changes))  # type: ignore[arg-type]


class Silence:
    """A source of no noise that samples everyone: what remains is the clipped sum."""

    private, name = False, "silence"

    def normal(self, n: int) -> NDArray[np.float64]:
        return np.zeros(n)

    def poisson_mask(self, n: int, q: float) -> NDArray[np.bool_]:
        return np.ones(n, dtype=bool)


def naive_row(items: list[int], groups: list[int]) -> dict[tuple[int, int], float]:
    row: dict[tuple[int, int], float] = {}
    for second in range(len(items)):
        for first in range(max(second - WINDOW, 0), second):
            pair = sorted((int(CODES[items[first]]), int(CODES[items[second]])))
            if items[first] == items[second] or NO_CODE in pair:
                continue
            gap = max(groups[second] - groups[first], 1)
            row[pair[0], pair[1]] = row.get((pair[0], pair[1]), 0.0) + gap**-0.5
    return row


def cell(a: int, b: int) -> int:
    return list(zip(*np.triu_indices(K), strict=True)).index((a, b))


@given(histories)
@settings(max_examples=60, deadline=None)
def test_rows_agree_with_counting_pair_by_pair(baskets: Histories) -> None:
    split = split_of(baskets)
    table = shopper_rows(split, CODES, K).toarray()
    assert table.shape == (len(baskets), cells(K))
    for user in range(len(baskets)):
        items, groups = split.train_history(user)
        expected = np.zeros(cells(K))
        for (a, b), weight in naive_row(items.tolist(), groups.tolist()).items():
            expected[cell(a, b)] = weight
        np.testing.assert_allclose(table[user], expected, atol=1e-9)


@given(histories.filter(len), st.floats(0.1, 3))
@settings(max_examples=60, deadline=None)
def test_one_shopper_changes_the_sum_by_the_clip_norm_at_most_and_no_other_row(
    baskets: Histories, clip: float
) -> None:
    rows = shopper_rows(split_of(baskets), CODES, K)
    without = shopper_rows(split_of(baskets[:-1]), CODES, K)
    assert (rows[:-1] != without).nnz == 0
    numbers = plan(clip_norm=clip)
    apart = release(rows, numbers, Silence()).astype(float) - release(without, numbers, Silence())
    assert np.linalg.norm(apart) * numbers.normaliser <= clip * (1 + 1e-5)


def test_noise_has_the_planned_deviation_in_every_cell_even_without_shoppers() -> None:
    numbers = plan(epsilon=1.0, clip_norm=2.0)
    nobody = sparse.csr_matrix((0, 20_000))
    released = release(nobody, numbers, ReproducibleNoise(0, "a", 1))
    expected = numbers.noise_multiplier * 2.0 / numbers.normaliser
    assert released.std() == pytest.approx(expected, rel=0.03)
    assert abs(released.mean()) < 4 * expected / np.sqrt(20_000)


def test_a_release_is_the_clipped_sum_over_the_public_normaliser() -> None:
    rows = sparse.csr_matrix(np.array([[3.0, 4.0, 0.0], [0.3, 0.0, 0.4], [0.0, 0.0, 0.0]]))
    found = release(rows, plan(population_size=4), Silence())
    np.testing.assert_allclose(found, np.array([0.6 + 0.3, 0.8, 0.4]) / 4, rtol=1e-6)
    np.testing.assert_allclose(plain_mean(rows, 1.0), np.array([0.9, 0.8, 0.4]) / 3, rtol=1e-12)


def test_a_plan_of_several_steps_is_refused() -> None:
    with pytest.raises(PlanError, match="steps = 2"):
        release(sparse.csr_matrix((1, 3)), plan(steps=2), Silence())


def test_only_cells_that_stand_out_of_the_noise_are_kept() -> None:
    means = np.array([0.0, KEEP_ABOVE * 0.1 + 0.01, 1.0, -5.0, KEEP_ABOVE * 0.1 - 0.01, 0.2])
    matrix = neighbour_matrix(means, 0.1, 3).toarray()
    assert (matrix > 0).tolist() == [[False, True, True], [True, False, False], [True, False, False]]


@given(st.floats(0.01, 100))
def test_the_matrix_does_not_depend_on_what_the_means_are_divided_by(factor: float) -> None:
    means = np.array([0.3, 0.2, 0.0, 0.1, 0.9, 0.4])
    np.testing.assert_allclose(
        neighbour_matrix(means * factor, 0.0, 3).toarray(),
        neighbour_matrix(means, 0.0, 3).toarray(),
        rtol=1e-5,
    )


def test_scores_follow_the_codes_of_a_history_in_any_catalogue() -> None:
    matrix = sparse.csr_matrix(np.array([[0, 2.0], [2.0, 0]], dtype=np.float32))
    codes = np.array([0, 1, 1, NO_CODE])
    scores = neighbour_scores(matrix, codes, np.array([[-1, 0], [0, 3]]), np.array([[0, 1], [2, 1]]))
    near, far = 2 * np.exp(-DECAY) / np.sqrt(2), 2 * np.exp(-2 * DECAY) / np.sqrt(2)
    np.testing.assert_allclose(scores, [[0, near, near, 0], [0, far, far, 0]], rtol=1e-6)
