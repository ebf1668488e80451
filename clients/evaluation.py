"""Full-ranking evaluation on one platform, and the choice of its local layer on validation shoppers."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.split import Part
from clients.memory import Memory
from clients.platform import Platform
from clients.recommender import LocalLayer, Memories, ScoreParts
from shared_model.device import to_device
from shared_model.metrics import ndcg_at, target_ranks, top_items
from shared_model.model import PRIOR_ISOLATION

POPULARITY_WEIGHTS = (0.0, 0.1, 0.3, 1.0, 2.0)
TRANSITION_WEIGHTS = (0.0, 1.0, 2.0, 4.0, 8.0)
JOINED_POPULARITY, JOINED_TRANSITIONS = (0.1, 0.3, 1.0), (1.0, 2.0, 4.0)
"""Weights that are tried with the others' counts."""
# Good for few shoppers: with 2,000 it is up to 9 % below the best pair (docs/model.md), and the choice moves.
FIRST = LocalLayer(popularity=0.3, transitions=1.0)
"""Where a platform's choice starts, which is good everywhere: a hundred shoppers cannot choose among 25 pairs."""
DECAYS = (0.25, 0.5, 0.9)
SHARPNESSES = (1.0, 3.0)
ISOLATIONS = (0.0, PRIOR_ISOLATION, 2 * PRIOR_ISOLATION)
MANY = 500
"""From so many validation shoppers on, a mean tells more than what is usual."""
CHOICE_USERS = 2000
"""At most so many validation shoppers choose a local layer."""
_CHUNK = 256
"""At most so many shoppers are scored at a time."""
_SIMILARITIES = 2**23
"""At most so many similarities of events to items are held at a time, 32 MB of float32 (and twice that while they are
pooled): larger arrays would be given back to the system and fetched anew for every chunk. With 20 events a shopper, a
catalogue of 12,000 items goes by 34 shoppers."""


class Scorer(Protocol):
    """Anything that scores all items for some shoppers: (B, I) of higher-is-better."""

    def scores(self, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
        """Return (B, I) scores for shoppers at positions `users`."""
        ...


@dataclass(frozen=True)
class Ranking:
    """Per evaluated shopper: ranks (B,) float64 from 1; top items (B, k), −1 where candidates ran out."""

    ranks: NDArray[np.float64]
    top: NDArray[np.int64]

    def take(self, at: slice, scores: torch.Tensor, target: torch.Tensor) -> None:
        """Fill in the shoppers `at` from their (b, I) scores and (b,) held-out items."""
        self.ranks[at] = target_ranks(scores, target).cpu().numpy()
        self.top[at] = top_items(scores, self.top.shape[1]).cpu().numpy()


def evaluate(
    platform: Platform, scorer: Scorer, which: Part, users: NDArray[np.int64], k: int = 10
) -> Ranking:
    """Rank the whole catalogue for each shopper and find the held-out item.

    What the shopper had before is filtered out if the platform's task says so; the held-out item itself is
    always a candidate. Ties: see `target_ranks` and `top_items`. Memory does not grow with the number of shoppers.
    """
    rankings = _rankings(platform, [""], users, k)
    for at in _chunks(platform, users):
        rankings[""].take(
            at, *_candidates(platform, which, users[at], scorer.scores(which, users[at]).clone())
        )
    return rankings[""]


def evaluate_layers(
    platform: Platform,
    layers: Mapping[str, LocalLayer],
    others: Memory | None,
    which: Part,
    users: NDArray[np.int64],
    k: int = 10,
) -> dict[str, Ranking]:
    """Rank as `evaluate` does, by each local layer; all share the passes over the catalogue.

    others : what the federation's other members know, None for nothing.
    """
    rankings = _rankings(platform, layers, users, k)
    memories = Memories(platform.memory(which), others)
    for at in _chunks(platform, users):
        parts = ScoreParts(platform, which, users[at], memories)
        for name, layer in layers.items():
            rankings[name].take(at, *_candidates(platform, which, users[at], parts.blended(layer)))
    return rankings


def _rankings(
    platform: Platform, names: Iterable[str], users: NDArray[np.int64], k: int
) -> dict[str, Ranking]:
    width = min(k, len(platform.catalogue))
    return {n: Ranking(np.empty(len(users)), np.empty((len(users), width), dtype=np.int64)) for n in names}


def _chunks(platform: Platform, users: NDArray[np.int64]) -> list[slice]:
    """Return where each chunk of `users` lies.

    Results belong in arrays made beforehand: a small array kept from every chunk would lie between the large ones
    that are freed, and so keep the process from giving their memory back.
    """
    each = len(platform.catalogue) * platform.spec.history_length
    size = min(_CHUNK, max(1, _SIMILARITIES // each))
    return [slice(start, start + size) for start in range(0, len(users), size)]


def _candidates(
    platform: Platform, which: Part, part: NDArray[np.int64], scores: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Filter (B, I) scores in place; return them and the (B,) held-out items."""
    targets = platform.split.test_target if which == "test" else platform.split.valid_target
    target = to_device(torch.from_numpy(targets[part]), scores.device)
    if platform.filter_seen:
        of_target = scores.gather(1, target.unsqueeze(1))
        indptr, seen = platform.seen(which)
        lengths = indptr[part + 1] - indptr[part]
        rows = np.repeat(np.arange(len(part)), lengths)
        columns = np.concatenate([seen[indptr[user] : indptr[user + 1]] for user in part])
        at = [to_device(torch.from_numpy(x), scores.device) for x in (rows, columns)]
        scores[at[0], at[1]] = -torch.inf
        scores.scatter_(1, target.unsqueeze(1), of_target)
    return scores, target


def choose_local(platform: Platform) -> LocalLayer:
    """Return the local layer that has the best validation NDCG@10, with the platform's own counts alone.

    First the weights of popularity and transitions; then decay, sharpness and isolation of the text scores. All stay
    where they start (`FIRST`, and the prior's) where none are `_clearly_better`.
    """
    grid = itertools.product(POPULARITY_WEIGHTS, TRANSITION_WEIGHTS)
    floor = _chosen(platform, None, FIRST, [LocalLayer(popularity, near) for popularity, near in grid])
    scalars = itertools.product(DECAYS, SHARPNESSES, ISOLATIONS)
    return _chosen(
        platform,
        None,
        floor,
        [replace(floor, decay=d, sharpness=s, isolation=apart) for d, s, apart in scalars],
    )


def choose_joined(platform: Platform, others: Memory, alone: LocalLayer, public: LocalLayer) -> LocalLayer:
    """Return how a platform uses the others' counts beside its own, or `alone` where it does better without them.

    `public` has the federation's weights (`federation_default`). A platform of few validation shoppers cannot tell, and
    takes them; one of `MANY` keeps what it
    has alone unless the others' counts do better. From there, other weights must be clearly better.
    """
    default = replace(alone, others=True, popularity=public.popularity, transitions=public.transitions)
    grid = itertools.product(JOINED_POPULARITY, JOINED_TRANSITIONS)
    layers = [default, alone, replace(alone, others=True)]
    layers += [replace(default, popularity=popularity, transitions=near) for popularity, near in grid]
    values = _validation(platform, others, layers)
    start = 1 if values.shape[1] >= MANY and values[1].mean() > values[0].mean() else 0
    return _clearly_better(values[start], list(values), layers[start], layers)


def _chosen(
    platform: Platform, others: Memory | None, floor: LocalLayer, layers: Sequence[LocalLayer]
) -> LocalLayer:
    """Return the layer with the best validation NDCG@10, or `floor` where none is `_clearly_better`."""
    base, *values = _validation(platform, others, [floor, *layers])
    return _clearly_better(base, values, floor, layers)


def _clearly_better(
    base: NDArray[np.float64],
    values: Sequence[NDArray[np.float64]],
    floor: LocalLayer,
    layers: Sequence[LocalLayer],
) -> LocalLayer:
    """Return the best of `layers`, or `floor` where none is clearly better on the (B,) validation shoppers.

    Clearly: its mean paired gain over the floor's `base` exceeds one standard error of that gain (the
    one-standard-error rule, Breiman et al. 1984).
    """
    if len(base) < 2:
        return floor
    best, best_gain = floor, 0.0
    for layer, value in zip(layers, values, strict=True):
        gains = value - base
        error = gains.std(ddof=1) / np.sqrt(len(gains))
        if gains.mean() > max(best_gain, error):
            best, best_gain = layer, float(gains.mean())
    return best


def _validation(
    platform: Platform, others: Memory | None, layers: Sequence[LocalLayer]
) -> NDArray[np.float64]:
    """Return (len(layers), B) NDCG@10 of validation shoppers, drawn: those whose ids are close can be of one kind."""
    users = np.sort(np.random.default_rng(0).permutation(platform.valid_users)[:CHOICE_USERS])
    named = {str(number): layer for number, layer in enumerate(layers)}
    rankings = evaluate_layers(platform, named, others, "valid", users, k=1)
    return np.stack([ndcg_at(ranking.ranks, 10) for ranking in rankings.values()])
