"""A platform's part of the shared product table, before noise: two sums over shoppers of rows with norm at most 1.

Shapes: N events of U shoppers, V products of the vocabulary, E public edges (a < b, sorted), n_u distinct products.

    popularity row of u:   1[u has v] / √n_u
    edge row of u:         w(u, ·) / ‖w(u, ·)‖
    w(u, {a, b}) = (p_a p_b)^(−¼) · Σ over u's events of a and b, at most `WINDOW` events apart, of max(gap, 1)^(−½)

gap counts baskets; p is the temper, noised and public (`shared_model.table`). Everybody gives all they may: no product
and no event is cut off, no clip norm needs choosing. `WINDOW` and the weights by gap are those of `clients.transitions`.

Guarantee
---------
A row is a function of one shopper's own events and of public things (V, edges, temper), and its L2 norm is at most 1 by
construction, also as rounded to float64: it is divided by its length times 1 + 1e-12, and checked before it is added. Its
numbers lie on a grid (`privacy.clipping.on_grid`), so that up to 2^24 rows add up without any rounding. So each sum has
L2 sensitivity 1 for the addition or removal of one shopper, and noise of standard deviation σ makes it a Gaussian
mechanism with noise multiplier σ. The two sums are two mechanisms.
One shopper must be one run of equal numbers in `users`: they ascend, or nothing is returned.

=====================================  ==================================================================
case                                   what happens
=====================================  ==================================================================
no event, no shopper                   zeros
product −1 (not in the vocabulary)     gives nothing, and keeps its place and basket in the history
a product several times                popularity: counts once. Edges: every pair of events counts
a pair of a product with itself        does not count
no pair on a public edge               the shopper's edge row is zero
same basket                            gap 0 counts as 1
`users` that do not ascend             MechanismError: a shopper in two places would count twice
temper that is not finite or ≤ 0       MechanismError
edges out of order, or twice           MechanismError
=====================================  ==================================================================
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from clients.transitions import near_events
from privacy.clipping import on_grid
from privacy.errors import MechanismError
from shared_model.table import ALPHA

Ints = NDArray[np.integer]
Floats = NDArray[np.float64]
CHUNK = 500_000
"""About so many events are held at a time: their pairs are up to WINDOW times as many."""
_MARGIN = 1 + 1e-12
"""What unit rows are divided by on top, so that rounding leaves none above 1."""


def popularity_sum(users: Ints, products: Ints, count: int) -> Floats:
    """Return (V,): the sum over shoppers of their popularity rows.

    users, products : (N,) of each event, shoppers ascending, products in [−1, V). count : V.
    """
    _check_events(users, products, count)
    total = np.zeros(count)
    for at in _chunks(users):
        known = products[at] >= 0
        pairs = np.unique(users[at][known].astype(np.int64) * count + products[at][known])
        owners, held = np.divmod(pairs, max(count, 1))
        _, inverse, each = np.unique(owners, return_inverse=True, return_counts=True)
        total += np.bincount(
            held, on_grid(np.asarray(each**-0.5 / _MARGIN, dtype=np.float64), 1.0)[inverse], minlength=count
        )
    return total


def edge_sum(
    users: Ints,
    products: Ints,
    groups: Ints,
    edges: NDArray[np.integer],
    count: int,
    temper: NDArray[np.floating],
) -> Floats:
    """Return (E,): the sum over shoppers of their edge rows.

    users, products, groups : (N,) of each event: shoppers ascending, each one's events in time order; products in
    [−1, V); baskets numbered within the shopper. edges : (E, 2) of products, a < b, sorted. count : V. temper : (V,) > 0.
    """
    _check_events(users, products, count)
    if temper.shape != (count,) or not (np.isfinite(temper) & (temper > 0)).all():
        raise MechanismError("temper: one finite number above 0 a product is needed; no row was made.")
    keys = edges[:, 0].astype(np.int64) * count + edges[:, 1]
    if not ((edges[:, 0] < edges[:, 1]).all() and (np.diff(keys) > 0).all() and (edges < count).all()):
        raise MechanismError(
            "edges: pairs a < b of products, sorted, each once, are needed; no row was made."
        )
    logs = np.log(temper.astype(np.float64))
    factor = np.exp(-ALPHA * (logs[edges[:, 0]] + logs[edges[:, 1]]))
    total = np.zeros(len(edges))
    for at in _chunks(users):
        owners = np.cumsum(np.diff(users[at], prepend=users[at][0]) != 0)
        rows = _rows(owners, products[at], groups[at], keys, count) @ sparse.diags_array(factor)
        length = _norms(rows)
        scale = np.divide(1 / _MARGIN, length, out=np.zeros_like(length), where=length > 0)
        unit = sparse.csr_array(sparse.diags_array(scale) @ rows)
        unit.data = on_grid(unit.data, 1.0)
        if not (_norms(unit) <= 1).all():
            raise MechanismError(
                "a shopper's row of edges is longer than 1, or no number; nothing was added up."
            )
        total += np.bincount(unit.indices, unit.data, minlength=len(edges))
    return total


def _rows(users: Ints, products: Ints, groups: Ints, keys: Ints, count: int) -> sparse.csr_array:
    """Return (U', E): w(u, ·) before temper, for a chunk's shoppers 0, 1, …; `keys` (E,) are the edges, ascending."""
    shape = (int(users[-1]) + 1, len(keys))
    found = list(_pairs(users, products, groups, keys, count)) if len(keys) else []
    if not found:
        return sparse.csr_array(shape)
    rows, columns, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return sparse.csr_array((values, (rows, columns)), shape)  # adds up what a shopper has several times


def _pairs(
    users: Ints, products: Ints, groups: Ints, keys: Ints, count: int
) -> Iterator[tuple[Ints, Ints, Floats]]:
    """Yield shopper, edge and weight of every pair of events on a public edge, by how many events they are apart."""
    for first, later, weight in near_events(users, products, groups):
        a, b = products[first].astype(np.int64), products[later].astype(np.int64)
        low, high = np.minimum(a, b), np.maximum(a, b)
        wanted = low * count + high
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        known = (keys[at] == wanted) & (low >= 0)
        yield users[first[known]], at[known], weight[known]


def _norms(rows: sparse.csr_array) -> Floats:
    return np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1), dtype=np.float64).ravel())


def _chunks(users: Ints) -> Iterator[slice]:
    """Yield where each chunk lies, whole shoppers of about `CHUNK` events together."""
    start = 0
    while start < len(users):
        last = users[min(start + CHUNK, len(users)) - 1]
        stop = int(np.searchsorted(users, last, side="right"))
        yield slice(start, stop)
        start = stop


def _check_events(users: Ints, products: Ints, count: int) -> None:
    if users.shape != products.shape or users.ndim != 1:
        raise MechanismError(
            f"users {users.shape} and products {products.shape}: one of each an event is needed."
        )
    if (np.diff(users) < 0).any():
        raise MechanismError(
            "users do not ascend: a shopper in two places would count twice; nothing was added up."
        )
    if len(products) and not (products.min() >= -1 and products.max() < count):
        raise MechanismError(f"products lie outside −1 to {count - 1}: map them with this vocabulary.")
