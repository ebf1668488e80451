"""The shared product table: what the server adds up and publishes, and what a platform makes of it.

Shapes: V products of the federation's vocabulary, E its public edges (unordered pairs a < b of near products).

    popularity   Σ over shoppers of 1[has v] / √n_u                                               + N(0, σ²_popularity)
    edges        Σ over shoppers of w(u, e) · (p_a p_b)^(−¼), scaled to norm 1 a shopper          + N(0, σ²_edges)

A platform makes the sums (`clients.release`); here they are added, over platforms and over runs. p is the *temper*: the
noised popularity that rows of edges were weighed with. The first release of edges fixes it, so that later ones add up.

`ProductTable.counts` brings unit rows back to shoppers: posterior means (`shared_model.posterior`) of the sums a run,
times two public constants (what a typical shopper's row was divided by), the temper taken off; pairs are alike whose
products are about as popular. A member first takes off
what it sent itself (`minus`), noise included, and adds its own exact counts instead.

Read as a module, it is a sparse embedding: a row of weights on its neighbours for each product (SLIM: Ning & Karypis
2011).

Guarantee: everything here is post-processing of noised sums and costs no ε. A variance of 0 says that a sum is exact,
which is for research alone.

| case                                             | what happens                                                  |
|--------------------------------------------------|-----------------------------------------------------------------|
| no run yet                                       | counts are 0 everywhere: the prior, exactly                     |
| popularity alone was released                    | temper is 0: no pair counts                                     |
| a release with another temper                    | ExchangeError: its rows of edges cannot be added up             |
| another V or E                                   | ExchangeError                                                   |
| NaN, inf, a negative variance or number of runs  | NotFiniteError, ExchangeError                                   |
| a member takes off more noise than there is      | ExchangeError: it is not part of this table                     |
| the table of one member alone, minus its own     | sums and variance 0: counts are 0                               |
"""

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from shared_model.errors import ExchangeError, NotFiniteError
from shared_model.posterior import posterior_mean

Floats = NDArray[np.floating]
ALPHA = 0.25
"""Pairs of popular products say less: a pair's weight is divided by (p_a p_b)^ALPHA before rows are scaled."""
TYPICAL_PRODUCTS = 6.0
"""n_u of a typical shopper: a popularity row of norm 1 counts each product 1/√n_u."""
TYPICAL_LENGTH = 0.3
"""Length of a typical shopper's tempered row of edges before it is scaled to 1."""
LEAST_SHARE, MOST_SHARE = 0.1, 0.5
FEW_SHOPPERS = 1000
"""Over this, divided by how many shoppers are declared: the share of the budget that popularity gets, between the two."""
_ROUNDING = 1e-6
"""Relative difference up to which two tempers or variances that went through float32 are the same."""


def release_share(declared_total: int) -> float:
    """Return the share s of a run's budget that popularity gets, from how many shoppers all members declare together.

    With σ for the whole run, popularity is released with σ/√s and edges with σ/√(1−s): together they cost what one
    release with σ costs. A function of public numbers alone: 0.1 from 10,000 shoppers on, 0.5 up to 2,000. Of few
    shoppers no pair stands out of the noise, and popularity is all that there is; of many it hardly needs a share.

    On validation shoppers, NDCG@10: 2,000 grocery households, popularity alone, own noises, s = .1 → .5: .0120 → .0169 at
    ε = 2, .0173 → .0175 at ε = 8. Toys and beauty with 5,000 shoppers at ε = 8: .1 and .2 are alike, .5 is 1 % worse.
    Beauty with 18,000 at ε = 8, one noise: .2 loses 0.4 %, .3 loses 1 %.

    >>> release_share(2000), release_share(5000), release_share(20000)
    (0.5, 0.2, 0.1)
    """
    return min(max(FEW_SHOPPERS / max(declared_total, 1), LEAST_SHARE), MOST_SHARE)


@dataclass(frozen=True)
class Counts:
    """What others' shoppers have, in units of shoppers: popularity (V,) and pairs (E,), float64 ≥ 0."""

    popularity: NDArray[np.float64]
    pairs: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ProductTable:
    """Noised sums over shoppers, and how noisy they are. Whatever it is made of is checked: see the module.

    popularity (V,), edges (E,) : the sums. temper (V,) : what edges were weighed with, 0 everywhere until it is fixed.
    popularity_variance, edges_variance : of the noise in each number. runs : how many runs were added up.
    """

    popularity: Floats
    edges: Floats
    temper: Floats
    popularity_variance: float = 0.0
    edges_variance: float = 0.0
    runs: int = 0

    def __post_init__(self) -> None:
        for name in ("popularity", "edges", "temper"):
            numbers = getattr(self, name)
            if numbers.ndim != 1:
                raise ExchangeError(
                    f"{name} has the shape {numbers.shape}: a table holds a number a product or edge."
                )
            if not np.isfinite(numbers).all():
                raise NotFiniteError(f"{name} holds NaN or inf; this table cannot be used.")
        if self.temper.shape != self.popularity.shape:
            raise ExchangeError(
                f"temper {self.temper.shape} and popularity {self.popularity.shape} differ in shape."
            )
        if self.temper.any() and not (self.temper > 0).all():
            raise ExchangeError("temper is 0 or less for some product: fixed, it is above 0 for all.")
        for name in ("popularity_variance", "edges_variance", "runs"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ExchangeError(f"{name} = {getattr(self, name)}: it is a finite number of 0 or more.")

    @classmethod
    def empty(cls, products: int, edges: int) -> "ProductTable":
        """Return the table of V products and E edges before any release: the prior."""
        return cls(np.zeros(products), np.zeros(edges), np.zeros(products))

    def plus(self, other: "ProductTable") -> "ProductTable":
        """Return both added up: sums, variances and runs. Releases within one run are added with `runs` of 0 but one.

        Raises ExchangeError where shapes or tempers differ; a table whose temper is not fixed takes the other's.
        """
        self._check_alike(other)
        first = self if self.temper.any() else other
        return ProductTable(
            self.popularity + other.popularity,
            self.edges + other.edges,
            first.temper,
            self.popularity_variance + other.popularity_variance,
            self.edges_variance + other.edges_variance,
            self.runs + other.runs,
        )

    def minus(self, own: "ProductTable") -> "ProductTable":
        """Return the table without what a member sent itself over all runs, its noise included; `runs` stays.

        Raises ExchangeError where `own` cannot be a part of it.
        """
        self._check_alike(own)
        return ProductTable(
            self.popularity - own.popularity,
            self.edges - own.edges,
            self.temper,
            _left(self.popularity_variance, own.popularity_variance),
            _left(self.edges_variance, own.edges_variance),
            self.runs,
        )

    def fixed_temper(self) -> "ProductTable":
        """Return the table with a temper to release edges with: the one it has, else 1 or the posterior popularity."""
        if self.temper.any():
            return self
        return replace(self, temper=np.maximum(self._popularity(), 1.0).astype(np.float32))

    def counts(self, edges: NDArray[np.integer]) -> Counts:
        """Return counts of shoppers, a run on average; `edges` (E, 2) are the vocabulary's, in its order."""
        if edges.shape != (len(self.edges), 2):
            raise ExchangeError(
                f"edges {edges.shape}: this table has {len(self.edges)} edges; use its vocabulary."
            )
        if not (self.runs and self.temper.any()):
            return Counts(self._popularity(), np.zeros(len(self.edges)))
        temper = np.asarray(self.temper, dtype=np.float64)
        both = temper[edges[:, 0]] * temper[edges[:, 1]]
        x = np.asarray(self.edges, dtype=np.float64) / self.runs
        pairs = posterior_mean(x, self.edges_variance**0.5 / self.runs, both) * TYPICAL_LENGTH
        return Counts(self._popularity(), pairs * both**ALPHA)

    def _popularity(self) -> NDArray[np.float64]:
        if not self.runs:
            return np.zeros(len(self.popularity))
        x = np.asarray(self.popularity, dtype=np.float64) / self.runs
        return posterior_mean(x, self.popularity_variance**0.5 / self.runs) * TYPICAL_PRODUCTS**0.5

    def _check_alike(self, other: "ProductTable") -> None:
        for name in (f.name for f in fields(self)[:3]):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine.shape != theirs.shape:
                raise ExchangeError(
                    f"{name} {theirs.shape} does not fit {mine.shape}: it is of another vocabulary."
                )
        if (
            self.temper.any()
            and other.temper.any()
            and not np.allclose(self.temper, other.temper, _ROUNDING, 0)
        ):
            raise ExchangeError("temper differs: edges weighed with another popularity cannot be added up.")


def _left(variance: float, part: float) -> float:
    """Return what is left of a sum's variance without a part's; 0 where the part was all of it."""
    if part > variance * (1 + _ROUNDING):
        raise ExchangeError(
            f"noise of variance {part:g} was sent, the sum has {variance:g}: it is not a part of it."
        )
    return variance - part if part < variance * (1 - _ROUNDING) else 0.0
