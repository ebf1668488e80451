"""What travels in each stage, and what is published."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_model.errors import ExchangeError
from shared_model.stages import Stage, TableShape, part_of, published, read_published
from shared_model.table import ProductTable

SHAPE = TableShape(3, 2)


def table(**changes):
    parts = {
        "popularity": np.array([1.0, -0.5, 2.0]),
        "edges": np.array([0.25, 4.0]),
        "temper": np.array([1.0, 2.0, 1.5]),
        "popularity_variance": 4.25,
        "edges_variance": 0.5,
        "runs": 2,
    }
    return ProductTable(**(parts | changes))


def test_each_stage_sends_its_own_sum_and_gets_what_it_needs():
    assert [t.name for t in SHAPE.question(Stage.POPULARITY).tensors] == []
    assert [(t.name, t.shape) for t in SHAPE.question(Stage.EDGES).tensors] == [("temper", (3,))]
    assert [(t.name, t.shape) for t in SHAPE.answer(Stage.POPULARITY).tensors] == [("popularity", (3,))]
    assert [(t.name, t.shape) for t in SHAPE.answer(Stage.EDGES).tensors] == [("edges", (2,))]
    assert [stage.number for stage in Stage] == [0, 1]


def test_a_published_table_reads_back_as_it_was():
    arrays = published(table())
    SHAPE.exchange.validate(arrays, "here")
    again = read_published(arrays, "here")
    assert published(again).keys() == arrays.keys()
    for name, array in published(again).items():
        np.testing.assert_array_equal(array, arrays[name])
    assert (again.popularity_variance, again.edges_variance, again.runs) == (4.25, 0.5, 2)


@given(
    st.sampled_from(["popularity", "edges", "temper", "totals"]), st.sampled_from(["gone", "longer", "nan"])
)
def test_a_published_table_that_does_not_fit_is_refused(name, how):
    arrays = published(table())
    if how == "gone":
        del arrays[name]
    elif how == "longer":
        arrays[name] = np.append(arrays[name], np.float32(1)).reshape(-1, 1)
    else:
        arrays[name] = np.full_like(arrays[name], np.nan)
    with pytest.raises(ExchangeError):
        read_published(arrays, "here")


def test_parts_add_up_to_the_table_of_a_run():
    empty, temper = ProductTable.empty(3, 2), np.array([1.0, 2.0, 1.5], dtype=np.float32)
    one, two = (
        part_of(SHAPE, Stage.POPULARITY, {"popularity": np.full(3, x, np.float32)}, 2.0) for x in (1, 2)
    )
    pairs = part_of(SHAPE, Stage.EDGES, {"edges": np.array([1, 5], np.float32)}, 3.0, temper)
    total = empty.plus(one).plus(two).plus(pairs)
    np.testing.assert_array_equal(total.popularity, [3, 3, 3])
    np.testing.assert_array_equal(total.edges, [1, 5])
    assert (total.popularity_variance, total.edges_variance, total.runs) == (4.0, 3.0, 0)
    np.testing.assert_array_equal(total.temper, temper)
