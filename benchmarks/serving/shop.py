"""A made-up shop of any size: items around topics, shoppers with two topics each."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from clients.data import Catalogue, Sequences, leave_one_out
from clients.data.report import CleaningReport
from clients.evaluation import FIRST
from clients.platform import Platform
from clients.serving.load import Model, make_snapshot
from clients.serving.snapshot import Snapshot
from clients.site import SiteSettings
from shared_model.encoders import Encode, FloatArray, HashedWordsEncoder
from shared_model.model import ModelSpec, block_norms

TOPICS, EVENTS, HISTORY = 500, 12, 50


def made_features(items: int, width: int, seed: int) -> torch.Tensor:
    """Return (I, F) unit rows around `TOPICS` centres, item i around centre i modulo `TOPICS`."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(TOPICS, width, generator=generator)
    features = centres[torch.arange(items) % TOPICS]
    features += torch.randn(items, width, generator=generator)
    return torch.nn.functional.normalize(features, dim=-1)


def made_platform(items: int, shoppers: int, width: int, seed: int, edition: str = "v1") -> Platform:
    """Return a platform whose features are made up; each title ends with the catalogue's edition."""
    rng = np.random.default_rng(seed)
    topics = rng.integers(TOPICS, size=(shoppers, 2))
    of_event = topics[np.arange(shoppers)[:, None], rng.integers(2, size=(shoppers, EVENTS))]
    rows = (of_event + TOPICS * rng.integers(max(items // TOPICS, 1), size=of_event.shape)) % items
    sequences = Sequences(
        tuple(f"u{u:07}" for u in range(shoppers)),
        rows.ravel().astype(np.int64),
        np.tile(np.arange(EVENTS), shoppers),
        np.arange(shoppers + 1, dtype=np.int64) * EVENTS,
    )
    names = [f"i{i:07}" for i in range(items)]
    frame = pd.DataFrame(
        {
            "title": [f"topic{i % TOPICS} {i} {edition}" for i in range(items)],
            "category": [f"c{i % 20}" for i in range(items)],
            "price": rng.uniform(1, 100, size=items),
        }
    )
    spec = ModelSpec((width,), HISTORY)
    features = made_features(items, width, seed)
    report = CleaningReport("made up", items, items)
    return Platform(
        name="bench",
        catalogue=Catalogue(tuple(names), frame),
        split=leave_one_out(sequences, first_time_only=False, seed=seed),
        spec=spec,
        features=features,
        norms=block_norms(spec, features),
        isolation=torch.zeros(len(features)),
        filter_seen=True,
        reports=(report, report),
        fingerprint=sequences.fingerprint(),
        scoring=torch.float32,
    )


def made_snapshot(
    items: int, shoppers: int, width: int, seed: int, folder: Path, index: str = "auto", version: str = "v1"
) -> Snapshot:
    """Return a snapshot of the shop, as it is before the first adopted model, but for its version: the edition of its
    catalogue."""
    platform = made_platform(items, shoppers, width, seed, version)
    site = SiteSettings.model_validate(
        {
            "name": "bench",
            "events": "events.csv",
            "items": "items.csv",
            "population_size": shoppers,
            "epsilon_cap": 8.0,
            "ledger": "ledger.sqlite",
            "work": folder,
            "cache": folder,
            "serving": {"index": index},
        }
    )
    model = Model(version, 1, ("hashed-words",), HISTORY, None)
    snapshot = make_snapshot(platform, model, {"model": FIRST}, None, site, folder)

    @cache
    def fitted() -> Encode:
        return HashedWordsEncoder(width).fitted(snapshot.shelf.texts)

    def encode(texts: Sequence[str]) -> FloatArray:
        return fitted()(texts)

    return replace(snapshot, encode=encode)  # as wide as the features are
