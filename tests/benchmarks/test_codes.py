from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from benchmarks.same_trade.codes import NO_CODE, assign, cells, make_codebook


def rows(count: int, width: int = 8, seed: int = 0) -> torch.Tensor:
    return normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_a_codebook_is_the_same_every_time_and_has_unit_rows() -> None:
    features = rows(200)
    first, second = make_codebook(features, 16), make_codebook(features, 16)
    assert torch.equal(first, second)
    torch.testing.assert_close(first.norm(dim=-1), torch.ones(16))


def test_codes_gather_what_is_alike() -> None:
    centres = rows(4, 16, seed=1)
    near = normalize(centres.repeat_interleave(50, 0) + 0.05 * rows(200, 16, seed=2), dim=-1)
    features = near[torch.randperm(200, generator=torch.Generator().manual_seed(3))]
    codebook = make_codebook(features, 8, steps=20)
    alike = (features * codebook[assign(features, codebook)]).sum(-1)
    assert alike.min() > 0.9


def test_training_never_moves_items_further_from_their_centres() -> None:
    features = rows(300)

    def closeness(steps: int) -> float:
        codebook = make_codebook(features, 12, steps=steps)
        return float((features * codebook[assign(features, codebook)]).sum())

    reached = [closeness(steps) for steps in (0, 1, 2, 5, 10)]
    assert all(later >= earlier - 1e-3 for earlier, later in pairwise(reached))
    assert reached[-1] > reached[0]


@given(st.integers(1, 40), st.integers(0, 3))
def test_assign_agrees_with_float64_and_knows_no_code_for_an_empty_row(count: int, seed: int) -> None:
    features = rows(count, seed=seed)
    features[::3] = 0
    codebook = rows(7, seed=9)
    found = assign(features, codebook).numpy()
    exact = features.numpy().astype(np.float64) @ codebook.numpy().astype(np.float64).T
    for row, code in enumerate(found):
        if row % 3 == 0:
            assert code == NO_CODE
        else:
            assert exact[row, code] >= exact[row].max() - 1e-6


def test_more_codes_than_items_are_as_many_as_items() -> None:
    assert len(make_codebook(rows(5), 100)) == 5


@pytest.mark.parametrize(("items", "count"), [(0, 4), (3, 0)])
def test_nothing_to_make_codes_of_is_refused(items: int, count: int) -> None:
    with pytest.raises(ValueError, match="one of each at least"):
        make_codebook(rows(items), count)


def test_cells_counts_unordered_pairs() -> None:
    assert [cells(k) for k in (1, 2, 3)] == [1, 3, 6]
