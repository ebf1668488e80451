"""How many of the exact list the index finds, measured on this catalogue: said once a snapshot is served."""

from dataclasses import dataclass

import numpy as np

from clients.serving.asks import Who
from clients.serving.candidates import Best, Question, best_items
from clients.serving.engine import look_up
from clients.serving.snapshot import Snapshot

_SHOPPERS, _COUNT = 50, 10


@dataclass(frozen=True)
class Recall:
    """Mean share of the exact first ten that lists from the index hold, over so many shoppers."""

    share: float
    shoppers: int


def index_recall(snapshot: Snapshot, arm: str, shoppers: int = _SHOPPERS, seed: int = 0) -> Recall | None:
    """Measure an arm's index against exact scores, for some shoppers; None where the arm is exact anyway."""
    chosen, names = snapshot.arms[arm], snapshot.shoppers.sequences.user_ids
    if chosen.index is None or not names:
        return None
    some = np.random.default_rng(seed).choice(len(names), size=min(shoppers, len(names)), replace=False)
    questions = [Question(look_up(snapshot, Who(names[at])).history, _COUNT) for at in some.tolist()]
    exact = best_items(chosen.scoring, questions)
    near = best_items(chosen.scoring, questions, chosen.index)
    found = [
        len(np.intersect1d(one.rows, other.rows)) / max(len(one.rows), 1)
        for one, other in zip(exact, near, strict=True)
        if isinstance(one, Best) and isinstance(other, Best)
    ]
    return Recall(float(np.mean(found)), len(found))
