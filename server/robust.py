"""Robust strategies: how many hostile members each withstands, and how they are fed.

With n replies in a round, and f of them hostile in whatever way the checks of replies let pass:

| strategy              | withstands f if                         | what it makes of declared weights              |
|-----------------------|-----------------------------------------|------------------------------------------------|
| FedMedian             | n ≥ 2f + 1                              | ignores them                                   |
| FedTrimmedAvg         | ⌊beta·n⌋ ≥ f                            | ignores them                                   |
| Krum                  | num_malicious_nodes = f, n ≥ 2f + 3     | ignores them, takes one platform's update      |
| MultiKrum             | the same, num_nodes_to_select ≤ n − f   | averages the selected ones by their weights    |

Medians and trimmed means: Yin et al. 2018; Krum: Blanchard et al. 2017. n may be as small as `min_replies`, so a
strategy that withstands nobody there is refused, rather than run under a name that promises something. All of them
work on updates that were clipped and noised before they left: post-processing, which changes nobody's ε or δ.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from flwr.app import Array, ArrayRecord, Message
from flwr.serverapp.strategy import FedAvg, FedMedian, FedTrimmedAvg, MultiKrum
from numpy.typing import NDArray

from shared_model.errors import BadInputError, RunFailedError


def tolerance(strategy: FedAvg, replies: int) -> int | None:
    """Return how many hostile members among `replies` are withstood; None where the strategy claims nothing."""
    if isinstance(strategy, FedMedian):
        return (replies - 1) // 2
    if isinstance(strategy, FedTrimmedAvg):
        return int(strategy.beta * replies)  # as Flower's trim_mean rounds
    if isinstance(strategy, MultiKrum):  # Krum is one
        hostile, taken = strategy.num_malicious_nodes, strategy.num_nodes_to_select
        whole = isinstance(hostile, int) and isinstance(taken, int) and hostile >= 1
        enough = replies >= 2 * hostile + 3 and 1 <= taken <= replies - hostile
        return hostile if whole and enough else 0
    return None


def require_tolerance(strategy: FedAvg, replies: int) -> None:
    """Raise BadInputError if a robust strategy withstands nobody in a round of `replies` replies."""
    if tolerance(strategy, replies) == 0:
        raise BadInputError(
            f"strategy {type(strategy).__name__} withstands no hostile member in a round of {replies} replies: "
            f"{_NEEDS[type(strategy).__name__]}. Raise the replies that a round needs (min_members, min_replies) or "
            "change strategy_options."
        )


_NEEDS = {
    "FedMedian": "it needs 3 or more",
    "FedTrimmedAvg": "beta times replies must be 1 or more",
    "Krum": "with num_malicious_nodes = f, a whole number from 1, it needs 2·f + 3 or more",
    "MultiKrum": "with num_malicious_nodes = f, a whole number from 1, it needs 2·f + 3 or more, and "
    "num_nodes_to_select of 1 to replies − f",
}


def aggregate(
    strategy: FedAvg, number: int, replies: Sequence[Message], start: Mapping[str, NDArray]
) -> dict[str, NDArray]:
    """Return the shared tensors, float32, that the strategy makes of a round's good replies.

    Robust strategies are handed float64 *differences* from the round's start, which are added to it afterwards.
    Median, trimmed mean and Krum move with their input, so the result is the same; but Flower computes Krum's
    distances of float32 models as ‖x‖² + ‖y‖² − 2⟨x, y⟩, where small updates vanish beside a large model.
    """
    moved = tolerance(strategy, len(replies)) is not None
    if moved:
        for message in replies:
            record = message.content.array_records["arrays"]
            message.content["arrays"] = ArrayRecord(
                {
                    name: Array(array.numpy().astype(np.float64) - start[name])
                    for name, array in record.items()
                }
            )
    averaged, _ = strategy.aggregate_train(number, replies)
    if averaged is None:
        raise RunFailedError(f"Round {number}: the strategy {type(strategy).__name__} returned no model.")
    found = {name: array.numpy() for name, array in averaged.items()}
    if moved:
        found = {name: start[name] + array for name, array in found.items()}
    return {name: np.asarray(array, dtype=np.float32) for name, array in found.items()}
