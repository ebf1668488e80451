"""What a platform's part of the product table costs: both sums against one pass over the same events in numpy.

    python -m benchmarks.table [--format json] [--shoppers 1000000] [--events 10] [--products 100000] [--near 50]

Events are made up: popular products by Zipf's law, half of a shopper's events near the one before in the catalogue, so
that pairs meet public edges. The one pass counts the shoppers that have each product: sort, distinct, count.
"""

import resource
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.report import Format, Row, measure, setting, show
from clients.release import edge_sum, popularity_sum
from shared_model.posterior import posterior_mean

Ints = NDArray[np.int64]


def made_up(
    rng: np.random.Generator, shoppers: int, events: int, products: int, near: int
) -> tuple[Ints, Ints, Ints]:
    """Return users, products and baskets of (shoppers · events,) events."""
    shape = (shoppers, events)
    held = np.minimum(rng.zipf(1.2, shape), products) * 7919 % products
    step = rng.integers(-near // 2, near // 2, shape)
    follows = rng.random(shape) < 0.5
    for at in range(1, events):
        held[:, at] = np.where(follows[:, at], (held[:, at - 1] + step[:, at]) % products, held[:, at])
    users = np.repeat(np.arange(shoppers), events)
    return users, held.ravel(), np.tile(np.arange(events), shoppers)


def neighbours(products: int, near: int) -> NDArray[np.int32]:
    """Return (products · near, 2) public edges: each product with the next `near` in the catalogue."""
    a = np.repeat(np.arange(products), near)
    b = (a + np.tile(np.arange(1, near + 1), products)) % products
    return np.unique(np.sort(np.stack([a, b], 1), 1), axis=0).astype(np.int32)


def one_pass(users: Ints, held: Ints, products: int) -> Ints:
    """Return (products,): how many shoppers have each."""
    return np.bincount(np.unique(users * products + held) % products, minlength=products)


def main(
    format: Annotated[Format, typer.Option(help="What is printed on standard output.")] = Format.table,
    shoppers: Annotated[int, typer.Option(min=1, help="How many shoppers.")] = 1_000_000,
    events: Annotated[int, typer.Option(min=1, help="Events of each.")] = 10,
    products: Annotated[int, typer.Option(min=4, help="V.")] = 100_000,
    near: Annotated[
        int, typer.Option(min=1, help="Public neighbours of each product: E is about this times V.")
    ] = 50,
    seed: Annotated[int, typer.Option(help="Seed of the events.")] = 0,
) -> None:
    """Measure the sums, and the posterior of what comes of them."""
    users, held, baskets = made_up(np.random.default_rng(seed), shoppers, events, products, near)
    edges = neighbours(products, near)
    before = _peak()
    plain, counted = measure(lambda: one_pass(users, held, products))
    first, popularity = measure(lambda: popularity_sum(users, held, products))
    temper = np.maximum(popularity, 1.0)
    second, pairs = measure(lambda: edge_sum(users, held, baskets, edges, products, temper))
    third, _ = measure(
        lambda: posterior_mean(pairs + np.random.default_rng(seed).standard_normal(len(edges)), 1.0)
    )
    baseline = "one pass in numpy"
    rows = [
        Row(f"popularity of {len(users):,} events, V = {products:,}", first, baseline, plain),
        Row(f"edges of the same, E = {len(edges):,}", second, baseline, plain),
        Row("posterior mean of every edge", third, baseline, plain),
    ]
    what = setting(("fedcart", "numpy", "scipy"), seed)
    found = {
        "most_memory_gb": round(_peak(), 2),
        "of_it_events_and_edges_gb": round(before, 2),
        "edges_met": int(np.count_nonzero(pairs)),
        "products_met": int(np.count_nonzero(counted)),
    }
    show("The product table's sums", rows, what | found, format)
    if format is Format.table:
        typer.echo(", ".join(f"{name} {value:,}" for name, value in found.items()))


def _peak() -> float:
    """Return the most memory that this process has had, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    typer.run(main)
