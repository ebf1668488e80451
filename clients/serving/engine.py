"""Questions → answers, from one snapshot. Pure: no clock, no network, no state but the snapshot."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clients.serving.asks import (
    AUDIENCE_LIMIT,
    ItemList,
    RecommendAsk,
    ScoredItem,
    ShopperList,
    Who,
    require_count,
)
from clients.serving.candidates import Best, Question, best_items
from clients.serving.diversity import diversify
from clients.serving.errors import StoppedError, UnknownIdError
from clients.serving.history import History, make_history, past_events, whole
from clients.serving.scoring import Scoring
from clients.serving.shelf import Boost, Filters
from clients.serving.snapshot import Snapshot
from shared_model.errors import FedcartError

POOL = 5
"""With diversity, the list is chosen from so many times its length."""
_SHOPPERS = 512
"""Shoppers scored at a time."""


@dataclass(frozen=True, eq=False)
class Known:
    """Who asks, looked up: the arm, the history, and which of the named items the catalogue does not have."""

    arm: str
    history: History
    unknown: tuple[str, ...]


def look_up(snapshot: Snapshot, who: Who) -> Known:
    """Return what is known of who asks."""
    arm = snapshot.arm_of(who.unit)
    scoring, rows = snapshot.arms[arm].scoring, {item: snapshot.shelf.find(item) for item in who.items}
    shopper = snapshot.shoppers.find(who.shopper) if who.shopper else None
    length = scoring.spec.history_length
    texts = tuple(text for text in who.texts if text.strip())
    history = make_history(
        past_events(snapshot.shoppers, shopper, length),
        [row for item in who.items if (row := rows[item]) is not None],
        texts,
        torch.from_numpy(snapshot.encode(texts)) if texts else torch.empty(0, scoring.spec.feature_width),
        scoring.features,
        length,
        one_basket=snapshot.one_basket,
    )
    return Known(arm, history, tuple(item for item in who.items if rows[item] is None))


def recommend(snapshot: Snapshot, asks: Sequence[RecommendAsk]) -> list[ItemList | FedcartError]:
    """Return the list of each question, or why it has none; those of one arm share the pass over the items."""
    known = [look_up(snapshot, ask.who) for ask in asks]
    answers: list[ItemList | FedcartError] = [StoppedError("nobody waits")] * len(asks)
    for name, arm in snapshot.arms.items():
        mine = [at for at, who in enumerate(known) if who.arm == name]
        if not mine:
            continue
        questions = [_question(snapshot, asks[at], known[at].history) for at in mine]
        for at, best in zip(mine, best_items(arm.scoring, questions, arm.index), strict=True):
            answers[at] = (
                best
                if isinstance(best, StoppedError)
                else _listed(snapshot, known[at], arm.scoring, asks[at], best)
            )
    return answers


def _question(snapshot: Snapshot, ask: RecommendAsk, history: History) -> Question:
    return Question(
        history,
        ask.count * POOL if ask.diversity else ask.count,
        snapshot.shelf.allowed(ask.filters, history.seen),
        snapshot.shelf.boosted(ask.boosts),
        ask.stopped,
    )


def _listed(snapshot: Snapshot, known: Known, scoring: Scoring, ask: RecommendAsk, best: Best) -> ItemList:
    rows, scores = best.rows, best.scores
    if ask.diversity:
        places = diversify(scores, unit_rows(scoring, rows), ask.count, ask.diversity)
        rows, scores = rows[places], scores[places]
    cold = not len(known.history)
    return ItemList(snapshot.version, known.arm, scored(snapshot, rows, scores), cold, known.unknown)


def scored(snapshot: Snapshot, rows: NDArray[np.int64], scores: NDArray) -> tuple[ScoredItem, ...]:
    """Return rows with their ids, scores and titles."""
    shelf = snapshot.shelf
    pairs = zip(rows.tolist(), scores.tolist(), strict=True)
    return tuple(ScoredItem(shelf.ids[row], score, shelf.titles[row]) for row, score in pairs)


def unit_rows(scoring: Scoring, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return (n, F) features scaled to unit length; zero for an item without a known word."""
    vectors = scoring.features[torch.from_numpy(rows)].float()
    return torch.nn.functional.normalize(vectors, dim=-1).numpy()


def rank(snapshot: Snapshot, who: Who, candidates: Sequence[str], boosts: Sequence[Boost] = ()) -> ItemList:
    """Return the candidates that the catalogue has, best first; each once."""
    known, shelf = look_up(snapshot, who), snapshot.shelf
    found = {item: shelf.find(item) for item in candidates}
    unknown = tuple(item for item, row in found.items() if row is None)
    rows = np.unique(np.array([row for row in found.values() if row is not None], dtype=np.int64))
    scoring = snapshot.arms[known.arm].scoring
    scores = scoring.scores(scoring.asked(known.history), rows)
    extra = shelf.boosted(boosts)
    if extra is not None:
        scores = scores + extra[rows]
    order = np.lexsort((rows, -scores))
    items = scored(snapshot, rows[order], scores[order])
    cold = not len(known.history)
    return ItemList(snapshot.version, known.arm, items, cold, (*known.unknown, *unknown))


def require_item(snapshot: Snapshot, item: str) -> int:
    """Return an item's row; raise UnknownIdError."""
    row = snapshot.shelf.find(item)
    if row is None:
        raise UnknownIdError(f"item_id = {item[:80]!r}: the catalogue has no such item.")
    return row


def similar(snapshot: Snapshot, item: str, count: int, filters: Filters) -> ItemList:
    """Return the items nearest to one by their features (cosine), without itself."""
    require_count(count)
    row = require_item(snapshot, item)
    name, arm = next(iter(snapshot.arms.items()))
    allowed = snapshot.shelf.allowed(filters, {row})
    cosines = arm.scoring.cosines(row)
    cosines[row] = -np.inf
    if allowed is not None:
        cosines[~allowed] = -np.inf
    least = np.partition(cosines, -count)[-count] if count < len(cosines) else -np.inf
    rows = np.flatnonzero((cosines >= least) & (cosines > -np.inf))
    order = rows[np.lexsort((rows, -cosines[rows]))][:count]
    return ItemList(snapshot.version, name, scored(snapshot, order, cosines[order]))


def audience(
    snapshot: Snapshot,
    item: str,
    count: int = 100,
    *,
    leave_out_owners: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> ShopperList:
    """Return the shoppers to whom an item scores best, all by the first arm; raise StoppedError.

    In chunks: memory does not grow with the number of shoppers, but for one score each.
    """
    require_count(count, AUDIENCE_LIMIT)
    row = require_item(snapshot, item)
    name, arm = next(iter(snapshot.arms.items()))
    sequences, scoring = snapshot.shoppers.sequences, arm.scoring
    parts = []
    for start in range(0, len(sequences), _SHOPPERS):
        if stopped():
            raise StoppedError("nobody waits")
        some = sequences.take(np.arange(start, min(start + _SHOPPERS, len(sequences))))
        longest = int(np.diff(some.offsets).max())
        padded = whole(some).padded("test", max(1, min(longest, scoring.spec.history_length)))
        parts.append(scoring.of_item(row, *padded))
    scores = np.concatenate([np.empty(0, dtype=np.float32), *parts])
    out = {snapshot.shoppers.rows[name] for name in snapshot.shoppers.gone if name in snapshot.shoppers.rows}
    if leave_out_owners:
        out.update(sequences.event_users[sequences.items == row].tolist())
    places = np.setdiff1d(np.arange(len(sequences)), np.fromiter(out, dtype=np.int64, count=len(out)))
    order = places[np.lexsort((places, -scores[places]))][:count]
    pairs = tuple((sequences.user_ids[at], float(scores[at])) for at in order.tolist())
    return ShopperList(snapshot.version, name, pairs)
