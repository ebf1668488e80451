"""What travels in each stage of a run, and what is published: the exchange specs of a product table.

Shapes: V products, E public edges.

| stage        | what the server sends             | what a platform answers                 |
|--------------|------------------------------------|------------------------------------------|
| popularity   | nothing                            | `popularity` (V,), a noised sum          |
| edges        | `temper` (V,), noised and public   | `edges` (E,), a noised sum               |

Published: both sums over platforms and runs, the temper, and `totals` (3,): the two sums' noise variances and the number
of runs (`shared_model.table`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from shared_model.exchange import ExchangeSpec, TensorSpec
from shared_model.table import ProductTable


class Stage(StrEnum):
    """Which sum a round releases."""

    POPULARITY = "popularity"
    EDGES = "edges"

    @property
    def number(self) -> int:
        """Its place in a run, from 0."""
        return list(Stage).index(self)


@dataclass(frozen=True)
class TableShape:
    """V ≥ 0 products and E ≥ 0 edges: two tables can be added up if they are of one vocabulary, and so of one shape."""

    products: int
    edges: int

    def question(self, stage: Stage) -> ExchangeSpec:
        """What a platform needs of the server to make its sum."""
        return ExchangeSpec((TensorSpec("temper", (self.products,)),) if stage is Stage.EDGES else ())

    def answer(self, stage: Stage) -> ExchangeSpec:
        """What leaves a platform."""
        size = self.products if stage is Stage.POPULARITY else self.edges
        return ExchangeSpec((TensorSpec(stage.value, (size,)),))

    @property
    def exchange(self) -> ExchangeSpec:
        """What is published."""
        return ExchangeSpec(
            (
                TensorSpec("popularity", (self.products,)),
                TensorSpec("edges", (self.edges,)),
                TensorSpec("temper", (self.products,)),
                TensorSpec("totals", (3,)),
            )
        )


def published(table: ProductTable) -> dict[str, NDArray[np.float32]]:
    """Return a table as the arrays that are published, float32."""
    totals = (table.popularity_variance, table.edges_variance, table.runs)
    parts = {"popularity": table.popularity, "edges": table.edges, "temper": table.temper, "totals": totals}
    return {name: np.asarray(part, dtype=np.float32) for name, part in parts.items()}


def read_published(arrays: Mapping[str, NDArray], where: str) -> ProductTable:
    """Return the table in published arrays; raise ExchangeError that names what does not fit, and `where`."""
    shape = TableShape(*(np.size(arrays.get(name, ())) for name in ("popularity", "edges")))
    shape.exchange.validate(arrays, where)
    popularity_variance, edges_variance, runs = (float(number) for number in arrays["totals"])
    return ProductTable(
        arrays["popularity"],
        arrays["edges"],
        arrays["temper"],
        popularity_variance,
        edges_variance,
        int(runs),
    )


def part_of(
    shape: TableShape,
    stage: Stage,
    answer: Mapping[str, NDArray],
    variance: float,
    temper: NDArray | None = None,
) -> ProductTable:
    """Return one platform's validated answer as a table of no whole run, with the noise's variance."""
    empty = ProductTable.empty(shape.products, shape.edges)
    if stage is Stage.POPULARITY:
        return ProductTable(answer["popularity"], empty.edges, empty.temper, variance, 0.0)
    return ProductTable(
        empty.popularity, answer["edges"], empty.temper if temper is None else temper, 0.0, variance
    )
