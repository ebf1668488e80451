"""Teaching: the teacher is asked what it would show a shopper who has one item, for each item of the catalogue.

Each question goes through the teacher as it serves, all layers of it, by way of one more imaginary shopper an item
behind the real ones. They change the teacher a little: each item has one holder more when transitions are scaled.
Nothing about how a teacher works inside is used here, so whatever it becomes, it can be asked.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import sparse

from clients.data.sequences import Sequences
from clients.data.split import Part, Split
from clients.distill.student import Student
from clients.evaluation import Scorer
from clients.platform import Platform

Teacher = Callable[[Platform], Scorer]
"""What scores on a given platform, *without* popularity, which the student has of its own."""
_CHUNK = 128


def teach(platform: Platform, teacher: Teacher, before: Part | None, neighbours: int) -> Student:
    """Return a student of what `teacher` knows before what `before` holds out (None: of every event).

    Its weights are 1 for decay and 0 for popularity until they are chosen. An entry of T is by how much the teacher
    puts an item above the average of the catalogue after the asked one; where it does not, there is no entry.
    """
    asked, first = _with_questions(platform, before)
    scorer = teacher(asked)
    items = len(platform.catalogue)
    kept = min(neighbours, items - 1)  # at least one: a catalogue has two items
    rows, columns, values = [], [], []
    for start in range(0, items, _CHUNK):
        at = np.arange(start, min(start + _CHUNK, items))
        scores = scorer.scores("test", first + at).cpu().numpy().astype(np.float32)
        scores = scores - scores.mean(axis=1, keepdims=True)
        if platform.filter_seen:
            scores[np.arange(len(at)), at] = -np.inf  # an item is not shown after itself
        best = np.argpartition(-scores, kept - 1, axis=1)[:, :kept]
        rows.append(np.repeat(at, kept))
        columns.append(best.ravel())
        values.append(np.maximum(np.take_along_axis(scores, best, axis=1), 0).ravel())
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    near = sparse.csr_matrix(entries, shape=(items, items), dtype=np.float32)
    near.eliminate_zeros()
    log_popularity = np.log1p(_holders(platform, before)).astype(np.float32)
    return Student(near, log_popularity, decay=1.0, popularity=0.0)


def _ends(split: Split, before: Part | None) -> np.ndarray:
    return split.sequences.offsets[1:] if before is None else split.ends(before)


def _holders(platform: Platform, before: Part | None) -> np.ndarray:
    """Return (I,): how many shoppers have each item, as `Split.holders` counts them."""
    ends = _ends(platform.split, before)
    return replace(platform.split, valid_end=ends).holders("test", len(platform.catalogue))


def _with_questions(platform: Platform, before: Part | None) -> tuple[Platform, int]:
    """Return the platform as it was then, with one shopper an item after the real ones; and the first one's position."""
    sequences, items = platform.split.sequences, len(platform.catalogue)
    users = sequences.event_users
    inside = np.arange(sequences.items.size) < _ends(platform.split, before)[users]
    lengths = np.bincount(users[inside], minlength=len(sequences))
    questions = np.arange(items, dtype=np.int64)
    asked = Sequences(
        (*sequences.user_ids, *[""] * items),
        np.concatenate([sequences.items[inside], questions]),
        np.concatenate([sequences.groups[inside], np.zeros(items, dtype=np.int64)]),
        np.concatenate([[0], np.cumsum(np.concatenate([lengths, np.ones(items, dtype=np.int64)]))]),
        None
        if sequences.weights is None
        else np.concatenate([sequences.weights[inside], np.ones(items, dtype=np.float32)]),
    )
    none = np.full(len(asked), -1, dtype=np.int64)
    whole = Split(asked, asked.offsets[1:], asked.offsets[1:], none, none)
    return replace(platform, split=whole), len(sequences)
