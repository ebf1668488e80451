"""The best items of one or several questions: exact, in chunks, one pass over the items for all of them.

| items that may be in the list        | how                                                             |
|--------------------------------------|-----------------------------------------------------------------|
| few (at most `GATHERED`)             | exact, those alone                                              |
| many, no index, or boosts of a label | exact, all items, chunks of `CHUNK`, shared by the whole batch  |
| many, with an index                  | nearest by the query, the most popular, those taken after the   |
|                                      | history, and boosted items; scored exactly                      |

Memory is B · CHUNK scores and `SIMILARITIES` of events and items, whatever the catalogue's size. Ties: lower row first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clients.serving.errors import StoppedError
from clients.serving.history import History
from clients.serving.index import NearIndex
from clients.serving.scoring import Near, Scoring

CHUNK = 131_072
"""Items scored at a time."""
SIMILARITIES = 2**22
"""Similarities of events and items held at a time, 16 MB."""
GATHERED = 4_096
"""So few items are gathered and scored by themselves."""
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
            found[at] = _of_rows(scoring, question, np.flatnonzero(question.allowed))
        elif index is not None and (question.extra is None or np.count_nonzero(question.extra) <= GATHERED):
            found[at] = _of_rows(scoring, question, _from_index(scoring, question, index))
        else:
            whole.append(at)
    for at, best in zip(whole, _whole(scoring, [questions[at] for at in whole]), strict=True):
        found[at] = best
    return found


def _of_rows(scoring: Scoring, question: Question, rows: Rows) -> Best:
    scores = scoring.scores(question.history, rows)
    if question.extra is not None:
        scores = scores + question.extra[rows]
    order = np.lexsort((rows, -scores))[: question.count]
    return Best(rows[order], scores[order])


def _from_index(scoring: Scoring, question: Question, index: NearIndex) -> Rows:
    """Return the rows of candidates, ascending."""
    wanted = max(4 * question.count, 400)
    rows = [
        index.search(scoring.direction(question.history).numpy(), wanted, question.allowed),
        index.popular,
    ]
    near = scoring.near(question.history)
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
    nears = [scoring.near(question.history) for question in questions]
    best = [Best(np.empty(0, np.int64), np.empty(0, np.float32)) for _ in questions]
    size = len(scoring.features)
    step = max(1, min(CHUNK, SIMILARITIES // max(1, sum(len(question.history) for question in questions))))
    for start in range(0, size, step):
        if all(question.stopped() for question in questions):
            break
        at = slice(start, min(start + step, size))
        block = scoring.block(asked, at)
        for number, question in enumerate(questions):
            scores = _finished(block[number], question, nears[number], at)
            best[number] = _merged(best[number], scores, question.count, start)
    return [StoppedError("nobody waits") if q.stopped() else b for q, b in zip(questions, best, strict=True)]


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
