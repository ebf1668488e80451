"""ε of record: the composition of recorded events, by privacy loss distributions.

Adjacency: one user added or removed. Replace-one and group values are shown beside it on request.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from privacy.accounting.composition import compose
from privacy.accounting.gaussian import gaussian_loss, group_loss, replace_one_loss
from privacy.accounting.loss import PrivacyLoss
from privacy.checks import real, whole
from privacy.errors import AccountingError
from privacy.events import Event

MIN_DELTA: Final = 1e-10
"""Below this, what round-off may take from δ would soon not be small beside it."""

Tally = Mapping[tuple[float, float], int]
"""How often each unit mechanism (sample rate, noise multiplier) ran."""


def tally(events: Iterable[Event]) -> Counter[tuple[float, float]]:
    """Count equal unit mechanisms together: composition does not depend on order."""
    counts: Counter[tuple[float, float]] = Counter()
    for event in events:
        counts[event.sample_rate, event.noise_multiplier] += event.count
    return counts


def check_delta(delta: object) -> float:
    """δ as a float in [1e-10, 0.1]."""
    hint = "give a probability well below one over the number of shoppers, such as 1e-6"
    return real("delta", delta, above=MIN_DELTA * (1 - 1e-12), at_most=0.1, hint=hint)


def _finite(value: float) -> float:
    if not (math.isfinite(value) and value >= 0.0):
        raise AccountingError(f"composed ε is {value!r}, not a finite number ≥ 0: nothing may be released")
    return float(value)


@lru_cache(maxsize=128)
def _alike(unit: tuple[float, float], count: int) -> PrivacyLoss:
    """The loss of one unit mechanism run ``count`` times: what a run under one plan asks for again and again."""
    return compose([(gaussian_loss(*unit), count)])


class Accountant:
    """Composes events, remembering recent compositions so that the next round is one convolution.

    Not thread-safe; cheap to make. What was asked before changes a result by no more than
    ``PrivacyLoss.around`` says, because allowances are made where ε is read off and not on the way.
    """

    def __init__(self, remember: int = 8) -> None:
        self._recent: OrderedDict[frozenset[tuple[tuple[float, float], int]], tuple[PrivacyLoss, int]]
        self._recent = OrderedDict()
        self._remember = remember

    def loss(self, counts: Tally) -> PrivacyLoss:
        """The composed privacy loss of ``counts``."""
        wanted = {unit: count for unit, count in counts.items() if count > 0}
        if len(wanted) == 1:
            ((unit, count),) = wanted.items()
            return _alike(unit, count)
        name = frozenset(wanted.items())
        if name in self._recent:
            self._recent.move_to_end(name)
            return self._recent[name][0]
        parts, depth = self._shortest(wanted)
        composed = compose(parts)
        self._recent[name] = (composed, depth)
        while len(self._recent) > self._remember:
            self._recent.popitem(last=False)
        return composed

    def _shortest(self, wanted: dict[tuple[float, float], int]) -> tuple[list[tuple[PrivacyLoss, int]], int]:
        """The fewest convolutions: from scratch, or on top of a remembered part of ``wanted``."""
        best: list[tuple[PrivacyLoss, int]] | None = None
        best_cost, depth_of_best = len(wanted), 0
        for name, (loss, depth) in self._recent.items():
            known = dict(name)
            rest = {unit: count - known.get(unit, 0) for unit, count in wanted.items()}
            if any(unit not in wanted for unit in known) or any(count < 0 for count in rest.values()):
                continue
            left = {unit: count for unit, count in rest.items() if count}
            if len(left) + 1 < best_cost and depth < 1000:
                best_cost, depth_of_best = len(left) + 1, depth + 1
                best = [(loss, 1), *((gaussian_loss(*unit), count) for unit, count in left.items())]
        if best is None:
            return [(gaussian_loss(*unit), count) for unit, count in wanted.items()], 0
        return best, depth_of_best

    def epsilon(self, counts: Tally, delta: float) -> float:
        """ε at ``delta`` of everything in ``counts``; 0 for nothing.

        Raises:
            AccountingError: ε is not finite.
        """
        if not any(count > 0 for count in counts.values()):
            return 0.0
        return _finite(self.loss(counts).epsilon(check_delta(delta)))

    def around(self, counts: Tally, delta: float) -> tuple[float, float]:
        """Between which values ``epsilon`` lies, whatever was composed before what; (0, 0) for nothing."""
        if not any(count > 0 for count in counts.values()):
            return 0.0, 0.0
        return self.loss(counts).around(check_delta(delta))


def epsilon(events: Iterable[Event], delta: float) -> float:
    """ε of record of ``events`` composed, at ``delta``: PLD, add-or-remove-one adjacency.

    Raises:
        PlanError: ``delta`` is out of range.
        AccountingError: ε is not finite.
    """
    return Accountant().epsilon(tally(events), check_delta(delta))


def delta_at(events: Iterable[Event], epsilon: float) -> float:
    """δ of ``events`` composed at a given ``epsilon`` ≥ 0."""
    real("epsilon", epsilon, above=-1e-300, at_most=1e6, hint="give the ε to convert")
    return Accountant().loss(tally(events)).delta(epsilon)


def replace_one_epsilon(events: Iterable[Event], delta: float) -> float:
    """ε if neighbours differed by *exchanging* one user; about twice ε of record at worst."""
    check_delta(delta)
    parts = [(replace_one_loss(*unit), count) for unit, count in tally(events).items()]
    return _finite(compose(parts).epsilon(delta)) if parts else 0.0


def group_epsilon(events: Iterable[Event], delta: float, size: int) -> float:
    """ε for ``size`` users (1 to 32), such as a household, added or removed together."""
    check_delta(delta)
    whole("size", size, at_least=1, at_most=32, hint="give how many shoppers act as one")
    parts = [(group_loss(*unit, size), count) for unit, count in tally(events).items()]
    return _finite(compose(parts).epsilon(delta)) if parts else 0.0
