"""Small platforms with chosen shoppers and features, for tests of scores and ranks."""

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from clients.data import build_catalogue, items_table, leave_one_out
from clients.data.sequences import Sequences
from clients.memory import Memory
from clients.platform import Platform
from shared_model.isolation import isolation
from shared_model.model import ModelSpec, block_norms


def platform_of(shoppers, features, *, filter_seen=True):
    """Make a platform from each shopper's items, one event a basket, and the catalogue's (I, F) features."""
    count, F = features.shape
    spec = ModelSpec((F,), 8)
    frame = pd.DataFrame(
        {"item_id": [f"i{n}" for n in range(count)], "title": [f"t{n}" for n in range(count)]}
    )
    catalogue, report = build_catalogue(items_table(frame))
    lengths = [len(items) for items in shoppers]
    sequences = Sequences(
        tuple(f"u{n:04}" for n in range(len(shoppers))),
        np.array([i for items in shoppers for i in items], np.int64),
        np.array([n for items in shoppers for n in range(len(items))], np.int64),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )
    split = leave_one_out(sequences, first_time_only=filter_seen, seed=0)
    features = features.float()
    return Platform(
        name="crafted",
        catalogue=catalogue,
        split=split,
        spec=spec,
        features=features,
        norms=block_norms(spec, features),
        isolation=isolation(spec, features, block_norms(spec, features)),
        filter_seen=filter_seen,
        reports=(report, report),
        fingerprint="",
        scoring=torch.float32,
    )


def some_platform(filter_seen=True, shoppers=40, items=30, seed=0):
    rng = np.random.default_rng(seed)
    features = torch.nn.functional.normalize(
        torch.randn(items, 12, generator=torch.Generator().manual_seed(seed))
    )
    histories = [rng.integers(0, items, size=int(rng.integers(3, 12))).tolist() for _ in range(shoppers)]
    return platform_of(histories, features, filter_seen=filter_seen)


def others_of(platform, shoppers=30, seed=1):
    """What other platforms' shoppers did with the same items: random counts, as fractions."""
    rng = np.random.default_rng(seed)
    items = len(platform.catalogue)
    pairs = sparse.random(items, items, 0.2, random_state=rng, data_rvs=lambda n: shoppers * rng.random(n))
    pairs.setdiag(0)
    return Memory(shoppers * rng.random(items), sparse.csr_matrix(pairs + pairs.T))
