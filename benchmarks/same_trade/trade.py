"""One trade, cut into a large and a small platform with other shoppers and, if asked, other catalogues."""

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.transfer.platforms import Audience, with_shoppers
from clients.data.catalogue import Catalogue
from clients.data.sequences import Sequences
from clients.data.split import leave_one_out
from clients.platform import Platform
from shared_model.isolation import isolation


class Range(StrEnum):
    """What of the trade's items the two platforms sell."""

    same = "same"
    """Both sell everything."""
    half = "half"
    """Each sells a half of its own draw, so they meet in about a third of what either knows."""
    apart = "apart"
    """What one sells, the other does not."""


@dataclass(frozen=True)
class Trade:
    """large : makes the table. own : what the small platform may learn from. served : all of its shoppers."""

    large: Platform
    own: Platform
    served: Platform


def cut(platform: Platform, sold: Range, judged: int, shots: int, seed: int) -> Trade:
    """Give `judged` shoppers, drawn by `seed`, to the small platform, which learns from `shots` of them."""
    rng = np.random.default_rng([seed, judged])
    shoppers = rng.permutation(len(platform))
    small = with_shoppers(platform, np.sort(shoppers[:judged]))
    large = with_shoppers(platform, np.sort(shoppers[judged:]))
    count = len(platform.catalogue)
    if sold is not Range.same:
        first = rng.random(count) < 0.5
        second = rng.random(count) < 0.5 if sold is Range.half else ~first
        large, small = selling(large, first), selling(small, second)
    audience = Audience(small, shots)
    own = audience.own(seed)
    return Trade(large, own, audience.served(own))


def selling(platform: Platform, kept: NDArray[np.bool_]) -> Platform:
    """Return the platform as it is if only the (I,) `kept` items were ever sold."""
    rows = np.flatnonzero(kept)
    features, norms = platform.features[torch.from_numpy(rows)], platform.norms[torch.from_numpy(rows)]
    frame = platform.catalogue.frame.iloc[rows].reset_index(drop=True)
    names = tuple(platform.catalogue.item_ids[row] for row in rows)
    sequences = _events_of(platform.split.sequences, kept)
    return replace(
        platform,
        catalogue=Catalogue(names, frame),
        split=leave_one_out(sequences, first_time_only=platform.filter_seen, seed=0),
        features=features,
        norms=norms,
        isolation=isolation(platform.spec, features, norms),
    )


def _events_of(sequences: Sequences, kept: NDArray[np.bool_]) -> Sequences:
    """Return the shoppers' events with `kept` items; a shopper without any stays, with nothing."""
    stays = kept[sequences.items]
    users, items, groups = sequences.event_users[stays], sequences.items[stays], sequences.groups[stays]
    counts = np.bincount(users, minlength=len(sequences))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    opens = (np.diff(groups, prepend=-1) != 0) | (np.diff(users, prepend=-1) != 0)
    ordinal = np.cumsum(opens) - 1
    starts = ordinal[np.minimum(offsets[:-1], max(len(ordinal) - 1, 0))] if len(ordinal) else offsets[:-1]
    renumbered = ordinal - np.repeat(starts, counts)
    return Sequences(sequences.user_ids, (np.cumsum(kept) - 1)[items], renumbered.astype(np.int64), offsets)
