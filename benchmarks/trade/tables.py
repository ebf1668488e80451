"""The members' releases and the table that they add up to, at every privacy level; noise is reproducible."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.training import ShopperEvents, exact_sum
from privacy.accounting import calibrate_noise
from shared_model.stages import Stage
from shared_model.table import ProductTable, release_share

DELTA = 1e-6
MORE = 10
"""A tenth of the noise is what so many times the shoppers, of the same habits, would have."""


@dataclass(frozen=True)
class Way:
    """How the members' table is made.

    epsilon : of each member's shoppers; None is not private. own_noise : each member adds the whole noise, or all
    together one. more : the noise is divided by it.
    """

    epsilon: float | None = None
    own_noise: bool = True
    more: int = 1

    @property
    def name(self) -> str:
        """The way in words.

        >>> Way(8.0, False).name, Way(1.0, True, 10).name, Way().name
        ('ε = 8, one noise', 'ε = 1, own noises, ×10', 'not private')
        """
        if self.epsilon is None:
            return "not private"
        noises = "own noises" if self.own_noise else "one noise"
        return f"ε = {self.epsilon:g}, {noises}" + (f", ×{self.more}" if self.more > 1 else "")

    def deviation(self, members: int) -> float:
        """Return σ of what each of the members adds, for rows of norm 1."""
        if self.epsilon is None:
            return 0.0
        noise = calibrate_noise(self.epsilon, DELTA, 1.0, 1) / self.more
        return noise if self.own_noise else noise / members**0.5


def ways(epsilons: Sequence[float]) -> list[Way]:
    """Return every way: not private; each ε with one noise, with own noises, with those of ten times the shoppers."""
    private = [Way(e, own, more) for own, more in ((False, 1), (True, 1), (True, MORE)) for e in epsilons]
    return [Way(), *private]


def releases(
    members: Sequence[ShopperEvents], edges: NDArray[np.int32], products: int, way: Way, seed: int
) -> list[ProductTable]:
    """Return what each member adds: popularity first, then edges weighed with all members' noised popularity.

    Each charges what one release with `way.deviation` costs: popularity has the share s of it, edges the rest.
    """
    rng = np.random.default_rng([seed, 29])
    deviation = way.deviation(len(members))
    share = release_share(sum(int(np.unique(events.users).size) for events in members))
    first, second = deviation / share**0.5, deviation / (1 - share) ** 0.5
    nothing = np.zeros(len(edges))
    parts = []
    for number, events in enumerate(members):
        sums = exact_sum(Stage.POPULARITY, events, edges, {}, products)
        noised = sums + first * rng.standard_normal(products)
        parts.append(ProductTable(noised, nothing, np.zeros(products), first**2, 0.0, int(number == 0)))
    temper = added(parts).fixed_temper().temper
    for number, events in enumerate(members):
        sums = exact_sum(Stage.EDGES, events, edges, {"temper": temper}, products)
        noised = sums + second * rng.standard_normal(len(edges))
        edge_part = ProductTable(np.zeros(products), noised, temper, 0.0, second**2)
        parts[number] = parts[number].plus(edge_part)
    return parts


def added(parts: Sequence[ProductTable]) -> ProductTable:
    """Return the members' releases as the server adds them up."""
    total = parts[0]
    for part in parts[1:]:
        total = total.plus(part)
    return total
