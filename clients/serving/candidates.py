"""The best items of one or several questions: exact, in chunks, one pass over the items for all of them.

| items that may be in the list        | how                                                             |
|--------------------------------------|-----------------------------------------------------------------|
| few (at most `GATHERED`)             | exact, those alone                                              |
| many, no index, or boosts of a label | all items, in chunks of `CHUNK` shared by the whole batch: a     |
|                                      | quick `sweep`; what may be in the list is then scored exactly   |
| many, with an index                  | nearest by the query, the most popular, those taken after the   |
|                                      | history, and boosted items; scored exactly                      |

Memory is `SIMILARITIES` scores and as many of events and items, whatever the catalogue's size; and the rows of items
that the quick pass cannot tell from the last of the list. Ties: lower row first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from clients.serving.errors import StoppedError
from clients.serving.history import History
from clients.serving.index import NearIndex
from clients.serving.scoring import Asked, Near, Scoring
from clients.serving.sweep import slack, sweep

CHUNK = 2**20
"""Items scored at a time, at most: few blocks, since numpy's and torch's threads take turns at each."""
SIMILARITIES = 2**20
"""Similarities of events and items, and scores, held at a time: 4 MB, so that they stay in the processor's cache."""
PIECE = 65_536
"""Items gathered at a time."""
GATHERED = 4_096
"""So few items are gathered and scored by themselves."""
ROUNDING = 2.0**-21
"""What float32 may lose of what is added to a score, of its size."""
POPULAR = 200
"""The most popular items are candidates beside the nearest."""

Stopped = Callable[[], bool]
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Question:
    """One list that is wanted: `count` items, among `allowed` (I,) if it is set, with `extra` (I,) added to scores.

    `stopped` says whether nobody waits any more.
    """

    history: History
    count: int
    allowed: NDArray[np.bool_] | None = None
    extra: NDArray[np.float32] | None = None
    stopped: Stopped = lambda: False


@dataclass(frozen=True, eq=False)
class Best:
    """Rows and scores (n,), best first; fewer than asked where candidates ran out."""

    rows: Rows
    scores: NDArray[np.float32]


def best_items(
    scoring: Scoring, questions: Sequence[Question], index: NearIndex | None = None
) -> list[Best | StoppedError]:
    """Return the best items of each question; StoppedError in the place of one that nobody waits for."""
    found: list[Best | StoppedError] = [StoppedError("nobody waits")] * len(questions)
    whole: list[int] = []
    for at, question in enumerate(questions):
        if question.stopped():
            continue
        if question.allowed is not None and np.count_nonzero(question.allowed) <= GATHERED:
            asked = scoring.asked(question.history)
            found[at] = _of_rows(scoring, question, asked, np.flatnonzero(question.allowed))
        elif index is not None and (question.extra is None or np.count_nonzero(question.extra) <= GATHERED):
            asked = scoring.asked(question.history)
            found[at] = _of_rows(scoring, question, asked, _from_index(scoring, question, asked, index))
        else:
            whole.append(at)
    for at, best in zip(whole, _whole(scoring, [questions[at] for at in whole]), strict=True):
        found[at] = best
    return found


def _of_rows(scoring: Scoring, question: Question, asked: Asked, rows: Rows) -> Best:
    pieces = [rows[start : start + PIECE] for start in range(0, len(rows), PIECE)] or [rows]
    scores = np.concatenate([scoring.scores(asked, piece) for piece in pieces])
    if question.extra is not None:
        scores = scores + question.extra[rows]
    order = np.lexsort((rows, -scores))[: question.count]
    return Best(rows[order], scores[order])


def _from_index(scoring: Scoring, question: Question, asked: Asked, index: NearIndex) -> Rows:
    """Return the rows of candidates, ascending."""
    wanted = max(4 * question.count, 400)
    rows = [
        index.search(scoring.direction(asked).numpy(), wanted, question.allowed),
        index.popular,
    ]
    near = asked.near
    if len(near.rows):
        rows.append(near.rows[np.argsort(-near.values, kind="stable")[:wanted]])
    if question.extra is not None:
        rows.append(np.flatnonzero(question.extra))
    joined = np.unique(np.concatenate(rows))
    return joined if question.allowed is None else joined[question.allowed[joined]]


def _whole(scoring: Scoring, questions: Sequence[Question]) -> list[Best | StoppedError]:
    if not questions:
        return []
    asked = [scoring.asked(question.history) for question in questions]
    off = [_off(scoring, *each) for each in zip(asked, questions, strict=True)]
    quick = all(np.isfinite(off))
    kept = [_Kept(question.count, by if quick else 0.0) for question, by in zip(questions, off, strict=True)]
    size = len(scoring.features)
    events = sum(len(question.history) for question in questions)
    step = max(1, min(CHUNK, SIMILARITIES // max(events, len(questions))))
    for start in range(0, size, step):
        if all(question.stopped() for question in questions):
            break
        at = slice(start, min(start + step, size))
        block = sweep(scoring, asked, at) if quick else scoring.block(asked, at)
        for number, question in enumerate(questions):
            kept[number].add(_finished(block[number], question, asked[number].near, at), start)
    return [
        StoppedError("nobody waits") if q.stopped() else k.best(scoring, q, a)
        for q, a, k in zip(questions, asked, kept, strict=True)
    ]


def _off(scoring: Scoring, asked: Asked, question: Question) -> float:
    """Return by how much a score of the quick pass can be off, all that is added to it included."""
    off = slack(scoring, asked)
    if off == 0:
        return 0.0  # nothing but what is added plays a part
    added = scoring.most_bias
    for values in (asked.near.values, question.extra):
        if values is not None and len(values):
            added += float(np.abs(values).max())
    return off + ROUNDING * added


@dataclass(eq=False)
class _Kept:
    """What may be in one list, given scores that are off by at most `off`; with `off` 0, the list itself."""

    count: int
    off: float
    least: float = -np.inf
    found: Best = field(default_factory=lambda: Best(np.empty(0, np.int64), np.empty(0, np.float32)))

    def add(self, scores: torch.Tensor, start: int) -> None:
        """Take one more block of scores (n,), whose first item has row `start`."""
        if self.off == 0:
            self.found = _merged(self.found, scores, self.count, start)
            return
        if self.least == -np.inf and len(scores) >= self.count:
            self.least = float(scores.topk(self.count).values[-1]) - 2 * self.off
        rows = torch.nonzero(scores >= self.least)[:, 0]
        rows = self._raised(rows, scores[rows])
        values = scores[rows]
        some = values > -torch.inf
        self.found = Best(
            np.concatenate([self.found.rows, rows[some].numpy() + start]),
            np.concatenate([self.found.scores, values[some].numpy()]),
        )

    def best(self, scoring: Scoring, question: Question, asked: Asked) -> Best:
        """Return the list, scored exactly."""
        if self.off == 0:
            return self.found
        rows = self._raised(torch.from_numpy(self.found.rows), torch.from_numpy(self.found.scores))
        return _of_rows(scoring, question, asked, rows.numpy())

    def _raised(self, rows: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Raise what is the least that may be in the list, if there are more than it holds, and return what may be."""
        if len(rows) <= self.count:
            return rows
        self.least = max(self.least, float(scores.topk(self.count).values[-1]) - 2 * self.off)
        return rows[scores >= self.least]


def _finished(scores: torch.Tensor, question: Question, near: Near, at: slice) -> torch.Tensor:
    """Add transitions and boosts to one block of scores in place, and leave out what is not allowed."""
    if len(near.rows):
        inside = (near.rows >= at.start) & (near.rows < at.stop)
        scores[torch.from_numpy(near.rows[inside] - at.start)] += torch.from_numpy(near.values[inside])
    if question.extra is not None:
        scores += torch.from_numpy(question.extra[at])
    if question.allowed is not None:
        scores.masked_fill_(torch.from_numpy(~question.allowed[at]), -torch.inf)
    return scores


def _merged(best: Best, scores: torch.Tensor, count: int, start: int) -> Best:
    """Return the `count` best of what was found before, and of one more block."""
    values, rows = scores.topk(min(count, len(scores)))
    if len(values) and len(values) < len(scores) and float(values[-1]) > -np.inf:
        # topk promises no order among ties: take all that tie with the last, the lower row decides below
        tied = torch.nonzero(scores == values[-1])[:, 0][:count]
        rows = torch.unique(torch.cat([rows[values > values[-1]], tied]))
        values = scores[rows]
    keep = values > -torch.inf
    joined = np.concatenate([best.rows, rows[keep].numpy() + start])
    together = np.concatenate([best.scores, values[keep].numpy()])
    order = np.lexsort((joined, -together))[:count]
    return Best(joined[order], together[order])
