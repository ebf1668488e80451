"""How far an item stands from the rest of its catalogue, against a plain float64 loop."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model import isolation as module
from shared_model.isolation import isolation
from shared_model.model import ModelSpec, block_norms, scaled_items

SPEC = ModelSpec((12, 4), prior_weights=(1.0, 0.5))


def items(count, seed=0):
    """Random items; the first lacks its first block, the last two are the same."""
    normals = torch.randn(count, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    blocks = [torch.nn.functional.normalize(b, dim=-1) for b in normals.split(SPEC.encoder_dimensions, -1)]
    blocks[0][0] = 0
    rows = torch.cat(blocks, -1)
    rows[-1] = rows[max(count - 2, 0)]
    return rows


def of(rows):
    return isolation(SPEC, rows, block_norms(SPEC, rows))


def by_hand(rows, neighbours):
    units = scaled_items(SPEC, rows, block_norms(SPEC, rows)).numpy()
    cosines = units @ units.T
    found = []
    for i, row in enumerate(cosines):
        nearest = np.sort(np.delete(row, i))[-neighbours:]
        found.append(1 - min(max(nearest.mean(), 0), 1))
    return torch.tensor(found, dtype=torch.float64)


@settings(max_examples=25, deadline=None)
@given(count=st.integers(2, 40), seed=st.integers(0, 20))
def test_isolation_is_one_minus_the_mean_cosine_of_the_nearest(count, seed):
    rows = items(count, seed)
    torch.testing.assert_close(of(rows), by_hand(rows, min(10, count - 1)), atol=1e-6, rtol=1e-6)


def test_it_does_not_depend_on_how_the_work_is_cut(monkeypatch):
    rows, whole = items(50), of(items(50))
    monkeypatch.setattr(module, "_CHUNK", 7)
    torch.testing.assert_close(of(rows), whole)


def test_a_large_catalogue_is_compared_with_some_of_its_items_evenly_spaced(monkeypatch):
    monkeypatch.setattr(module, "REFERENCES", 5)
    monkeypatch.setattr(module, "NEIGHBOURS", 2)
    rows = items(12)
    units = scaled_items(SPEC, rows, block_norms(SPEC, rows))
    for i, got in enumerate(of(rows)):
        others = [r for r in (0, 3, 6, 9) if r != i]
        expected = 1 - (units[others] @ units[i]).topk(2).values.mean().clamp(0, 1)
        assert float(got) == pytest.approx(float(expected), abs=1e-6)


def test_an_item_without_text_and_one_without_neighbours_gain_nothing():
    rows = items(8)
    rows[3] = 0
    assert of(rows)[3] == 0
    assert of(items(8)[:1]).tolist() == [0]
    assert of(rows[:0]).shape == (0,)


def test_an_item_that_is_there_many_times_is_not_isolated():
    rows = torch.cat([items(1, 3).expand(11, -1), items(30, 4)])
    assert of(rows)[:11].max() < 1e-6
    assert of(rows)[11:].min() > 0.1


def test_it_follows_the_items_when_the_catalogue_is_in_another_order():
    rows, order = items(40), torch.randperm(40, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(of(rows[order]), of(rows)[order])
