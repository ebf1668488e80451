"""Other views of the same sequences, each a function of one shopper at a time."""

from dataclasses import replace

import numpy as np

from clients.data.sequences import Sequences


def first_purchases(sequences: Sequences) -> Sequences:
    """Keep the first event of each item of a shopper: what is bought for the first time.

    Where groceries are bought again and again, a list of what a shopper does not know yet is the one on which
    personalisation shows; repeats need no recommender.
    """
    keys = np.stack([sequences.event_users, sequences.items])
    _, first = np.unique(keys, axis=1, return_index=True)  # the first index of each pair
    keep = np.sort(first)
    counts = np.bincount(sequences.event_users[keep], minlength=len(sequences))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    weights = None if sequences.weights is None else sequences.weights[keep]
    return Sequences(sequences.user_ids, sequences.items[keep], sequences.groups[keep], offsets, weights)


def single_events(sequences: Sequences) -> Sequences:
    """Make each event a group of its own, in the order it has.

    Inside a basket that order is a keyed hash, so a held-out product is asked for given the earlier baskets
    and some of the products beside it, and the order in the file cannot tell which.
    """
    counts = np.diff(sequences.offsets)
    groups = np.arange(len(sequences.items)) - np.repeat(sequences.offsets[:-1], counts)
    return replace(sequences, groups=groups.astype(np.int64))
