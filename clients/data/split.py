"""Leave-one-out by group: the last basket tests, the one before validates, what comes earlier trains."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from clients.data.keyed import keyed_hash
from clients.data.sequences import Floats, Ints, Sequences

Part = Literal["train", "valid", "test"]


@dataclass(frozen=True, eq=False)
class Split:
    """Which events of each shopper train, and which item each held-out group asks for.

    All int64 (U,). `train_end`: end (an event offset into `sequences.items`) of what may train, which is
    also the history for validation; `valid_end`: end of the history for the test. `valid_target`,
    `test_target`: catalogue rows, −1 where the shopper has none. A held-out group always has a history: a
    shopper's first group is never held out. Without a validation group `train_end` equals `valid_end`;
    without a test group both are the end of the shopper's events.
    """

    sequences: Sequences
    train_end: Ints
    valid_end: Ints
    valid_target: Ints
    test_target: Ints

    def ends(self, which: Part) -> Ints:
        """Where each shopper's history ends, (U,). `train` and `valid` have the same history."""
        return self.valid_end if which == "test" else self.train_end

    def history(self, which: Part, u: int) -> tuple[Ints, Ints]:
        """Items and groups of shopper `u` before the held-out group."""
        part = slice(self.sequences.offsets[u], self.ends(which)[u])
        return self.sequences.items[part], self.sequences.groups[part]

    def train_history(self, u: int) -> tuple[Ints, Ints]:
        """Items and groups of shopper `u` that may train: all before the validation group."""
        return self.history("train", u)

    def valid_history(self, u: int) -> tuple[Ints, Ints]:
        """Items and groups of shopper `u` before the validation group."""
        return self.history("valid", u)

    def test_history(self, u: int) -> tuple[Ints, Ints]:
        """Items and groups of shopper `u` before the test group."""
        return self.history("test", u)

    def padded(self, which: Part, length: int) -> tuple[Ints, Ints]:
        """The last `length` = L events of each history, right-aligned.

        Returns `items` (U, L) with −1 as padding, and `ages` (U, L): how many groups before the held-out
        group the event lies (1 is the last group of the history), 0 as padding.
        """
        starts, ends = self.sequences.offsets[:-1], self.ends(which)
        at = ends[:, None] + np.arange(-length, 0, dtype=np.int64)[None, :]
        real = at >= starts[:, None]
        if not self.sequences.items.size:
            return np.full(at.shape, -1, dtype=np.int64), np.zeros(at.shape, dtype=np.int64)
        at = np.where(real, at, 0)
        held_out = np.where(ends > starts, self.sequences.groups[np.maximum(ends - 1, 0)] + 1, 0)
        items = np.where(real, self.sequences.items[at], -1)
        ages = np.where(real, held_out[:, None] - self.sequences.groups[at], 0)
        return items, ages

    def padded_weights(self, which: Part, length: int) -> Floats | None:
        """The weights of the events of `padded`, (U, L) with 1 as padding; None where all count 1."""
        weights = self.sequences.weights
        if weights is None:
            return None
        at = self.ends(which)[:, None] + np.arange(-length, 0, dtype=np.int64)[None, :]
        real = at >= self.sequences.offsets[:-1][:, None]
        return np.where(real, weights[np.where(real, at, 0)], np.float32(1))

    def seen(self, which: Part) -> tuple[Ints, Ints]:
        """The distinct items of each history as CSR: `indptr` (U+1,) and `indices`, ascending per shopper."""
        users, items, _, fresh = self._by_item(which)
        counts = np.bincount(users[fresh], minlength=len(self.sequences))
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), items[fresh]

    def holders(self, which: Part, items: int) -> Floats:
        """How many shoppers have each item in their history, (items,): each counts by their weightiest event of it, and
        at most 1.
        """
        if self.sequences.weights is None:
            return np.bincount(self.seen(which)[1], minlength=items).astype(np.float32)
        _, rows, order, fresh = self._by_item(which)
        first = np.flatnonzero(fresh)
        if not first.size:
            return np.zeros(items, dtype=np.float32)
        strongest = np.minimum(np.maximum.reduceat(self.sequences.weights[order], first), 1)
        return np.bincount(rows[first], strongest, minlength=items).astype(np.float32)

    def _by_item(self, which: Part) -> tuple[Ints, Ints, Ints, npt.NDArray[np.bool_]]:
        """Events of all histories, by shopper and item: shoppers, items, events, and which open a pair of the two."""
        sequences = self.sequences
        inside = np.flatnonzero(np.arange(sequences.items.size) < self.ends(which)[sequences.event_users])
        users, items = sequences.event_users[inside], sequences.items[inside]
        order = np.lexsort((items, users))
        users, items = users[order], items[order]
        fresh = (np.diff(users, prepend=-1) != 0) | (np.diff(items, prepend=-1) != 0)
        return users, items, inside[order], fresh


def leave_one_out(sequences: Sequences, *, first_time_only: bool, seed: int) -> Split:
    """Hold out each shopper's last two groups that can ask a question.

    A group can when it is not the shopper's first and holds an eligible item: any item, or, with
    `first_time_only` (for an evaluation that filters seen items), one that the shopper never had in an
    earlier group. Where a group has several, a hash of (`seed`, shopper) chooses.
    """
    users = sequences.event_users
    opens = np.diff(sequences.groups, prepend=-1) != 0
    opens[sequences.offsets[:-1][np.diff(sequences.offsets) > 0]] = True
    start_of = np.maximum.accumulate(np.where(opens, np.arange(opens.size), 0)).astype(np.int64)
    candidate = (sequences.groups > 0) & _first_of_item(sequences, users, across_groups=first_time_only)
    pick = keyed_hash(seed, "held-out", sequences.user_ids)
    at = np.flatnonzero(candidate)
    test_start, test_target = _last_group(sequences, at, users, start_of, pick)
    earlier = at[start_of[at] < test_start[users[at]]]
    valid_start, valid_target = _last_group(sequences, earlier, users, start_of, pick)
    valid_end = np.where(test_target >= 0, test_start, sequences.offsets[1:])
    train_end = np.where(valid_target >= 0, valid_start, valid_end)
    return Split(sequences, train_end, valid_end, valid_target, test_target)


def _first_of_item(sequences: Sequences, users: Ints, *, across_groups: bool) -> npt.NDArray[np.bool_]:
    """Mark one event of each item of a shopper: the first of all, or the first of each group."""
    keys = (sequences.items, users) if across_groups else (sequences.items, sequences.groups, users)
    order = np.lexsort(keys)  # stable: the earliest event comes first
    fresh = np.zeros(users.size, dtype=bool)
    for key in keys:
        ordered = key[order]
        fresh |= np.diff(ordered, prepend=-1) != 0
    marked = np.empty_like(fresh)
    marked[order] = fresh
    return marked


def _last_group(
    sequences: Sequences, at: Ints, users: Ints, start_of: Ints, pick: npt.NDArray[np.uint64]
) -> tuple[Ints, Ints]:
    """Per shopper the start of the last group among the candidate events `at`, and the item chosen from it.

    (U,) each; −1 where a shopper has no candidate.
    """
    start, target = (np.full(len(sequences), -1, dtype=np.int64) for _ in range(2))
    start[users[at]] = start_of[at]  # ascending, so the last assignment stays
    inside = at[start_of[at] == start[users[at]]]
    owner = users[inside]
    counts = np.bincount(owner, minlength=len(sequences))
    having = np.flatnonzero(counts)
    first = np.cumsum(counts) - counts
    nth = (pick[having] % counts[having].astype(np.uint64)).astype(np.int64)
    target[having] = sequences.items[inside[first[having] + nth]]
    return start, target
