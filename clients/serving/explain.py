"""Why an item has its score, and what a shopper's history says in words."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.serving.asks import Who
from clients.serving.engine import look_up, require_item
from clients.serving.errors import UnknownIdError
from clients.serving.history import past_events
from clients.serving.shelf import Boost
from clients.serving.snapshot import Snapshot
from clients.serving.words import share_out, standing_out
from shared_model.model import PRIOR_DECAY

WORDS, LABELS = 12, 8


@dataclass(frozen=True)
class PastItem:
    """A past item, by what it is."""

    item: str


@dataclass(frozen=True)
class TakenAfter:
    """A past item after which shoppers take this one."""

    item: str


@dataclass(frozen=True)
class Typed:
    """A text of the session."""

    text: str


@dataclass(frozen=True)
class Popularity:
    """How many shoppers have the item."""


@dataclass(frozen=True)
class Boosted:
    """Boosts of the request."""


Reason = PastItem | TakenAfter | Typed | Popularity | Boosted


@dataclass(frozen=True)
class Explanation:
    """`reasons`, largest first, add up to `score` (`math.fsum`); `words` to those of past items and texts."""

    version: str
    arm: str
    score: float
    reasons: tuple[tuple[Reason, float], ...]
    words: tuple[tuple[str, float], ...]


def explain(snapshot: Snapshot, who: Who, item: str, boosts: tuple[Boost, ...] = ()) -> Explanation:
    """Explain an item's score; raise UnknownIdError."""
    row = require_item(snapshot, item)
    known = look_up(snapshot, who)
    scoring, history, ids = snapshot.arms[known.arm].scoring, known.history, snapshot.shelf.ids
    alike, after, popularity = scoring.contributions(history, row)
    amounts: dict[Reason, float] = {}
    for at, past in enumerate(history.rows.tolist()):
        reason = Typed(history.texts[at]) if past < 0 else PastItem(ids[past])
        amounts[reason] = amounts.get(reason, 0.0) + float(alike[at])
        if after[at]:
            taken = TakenAfter(ids[past])
            amounts[taken] = amounts.get(taken, 0.0) + float(after[at])
    if popularity:
        amounts[Popularity()] = popularity
    extra = snapshot.shelf.boosted(boosts)
    if extra is not None and extra[row]:
        amounts[Boosted()] = float(extra[row])
    reasons = tuple(sorted(amounts.items(), key=lambda pair: -pair[1]))
    direction = scoring.direction(scoring.asked(history)).numpy()
    shared = share_out(math.fsum(alike), snapshot.shelf.texts[row], direction, snapshot.encode)
    words = tuple(sorted(shared.items(), key=lambda pair: (-pair[1], pair[0])))
    return Explanation(
        snapshot.version, known.arm, math.fsum(amount for _, amount in reasons), reasons, words
    )


@dataclass(frozen=True)
class InterestSummary:
    """Shares add up to at most 1 within `categories`, `brands` and `words`; prices: 10, 50 and 90 % quantiles."""

    version: str
    arm: str
    events: int
    categories: tuple[tuple[str, float], ...]
    brands: tuple[tuple[str, float], ...]
    words: tuple[tuple[str, float], ...]
    prices: tuple[float, float, float] | None


def profile(snapshot: Snapshot, shopper: str) -> InterestSummary:
    """Summarise a shopper's history, each event weighing exp(−λ·age); raise UnknownIdError."""
    at = snapshot.shoppers.find(shopper)
    if at is None:
        raise UnknownIdError(f"shopper_id = {shopper[:80]!r}: is not known here.")
    arm = snapshot.arm_of(snapshot.shoppers.sequences.user_ids[at])
    rows, ages, _ = past_events(snapshot.shoppers, at, snapshot.arms[arm].scoring.spec.history_length)
    weights = np.exp(-PRIOR_DECAY * (ages - 1).astype(np.float64))
    shelf = snapshot.shelf
    prices = shelf.prices[rows]
    priced = np.isfinite(prices)
    words = standing_out(
        [shelf.texts[row] for row in rows.tolist()], weights, shelf.frequencies, len(shelf), WORDS
    )
    return InterestSummary(
        snapshot.version,
        arm,
        len(rows),
        _shares(shelf.categories.codes[rows], shelf.categories.names, weights),
        _shares(shelf.brands.codes[rows], shelf.brands.names, weights),
        tuple(words),
        _quantiles(prices[priced], weights[priced]) if priced.any() else None,
    )


def _shares(
    codes: NDArray[np.int32], names: tuple[str, ...], weights: NDArray[np.float64]
) -> tuple[tuple[str, float], ...]:
    total: Counter[str] = Counter()
    for code, weight in zip(codes.tolist(), weights.tolist(), strict=True):
        if code >= 0:
            total[names[code]] += weight
    together = float(weights.sum())
    best = sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))[:LABELS]
    return tuple((name, value / together) for name, value in best)


def _quantiles(values: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[float, float, float]:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum()
    low, middle, high = (
        float(values[order][min(int(np.searchsorted(reached, q - 1e-12)), len(values) - 1)])
        for q in (0.1, 0.5, 0.9)
    )
    return low, middle, high
