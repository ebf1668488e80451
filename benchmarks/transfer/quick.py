"""`--quick`: the whole benchmark on made-up shops, small enough for a test."""

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.transfer.study import Study, parse

_KINDS = ("garden", "kitchen", "office", "sport", "music", "travel")
_THINGS = ("hose", "pan", "pen", "ball", "string", "lamp", "chair", "glove", "case", "stand")
_ITEMS = 120
_SHOPPERS = 160


def quick_study() -> Study:
    """Return a study of three members and a newcomer with two seeds."""
    transformer = {"n_blocks": 1, "n_heads": 1, "n_factors": 8, "session_max_len": 6, "loss": "softmax"}
    document = {
        "name": "quick",
        "newcomer": "delta",
        "shots": [40],
        "seeds": [0, 1],
        "features": {"encoders": ["hashed-words"], "history_length": 8},
        "platform": [
            {"name": name, "folder": name, "population_size": _SHOPPERS}
            for name in ("alpha", "beta", "gamma", "delta")
        ],
        "sasrec": {"epochs": [1, 2], "grid": [transformer | {"lr": 1e-2, "batch_size": 32}]},
        "unisrec": {
            "epochs": [1, 2],
            "grid": [transformer | {"projection_hidden": 16, "lr": 1e-2, "batch_size": 32}],
        },
    }
    return parse(document, "the quick study")


def write_shops(folder: Path, study: Study) -> Path:
    """Write each platform's files and return the folder: shoppers who mostly buy one kind of thing."""
    for number, name in enumerate(study.names):
        rng = np.random.default_rng([number, 1])
        kinds = rng.integers(len(_KINDS), size=_ITEMS)
        words = [f"{_KINDS[kind]} {_THINGS[i % len(_THINGS)]} model {i}" for i, kind in enumerate(kinds)]
        events = []
        for shopper in range(_SHOPPERS):
            wanted = np.flatnonzero(kinds == shopper % len(_KINDS))
            chance = np.full(_ITEMS, 0.2 / _ITEMS)
            chance[wanted] += 0.8 / len(wanted)
            bought = rng.choice(_ITEMS, size=int(rng.integers(4, 9)), replace=False, p=chance / chance.sum())
            events += [(f"u{shopper}", f"i{item}", when) for when, item in enumerate(bought)]
        (folder / name).mkdir(parents=True, exist_ok=True)
        items = pd.DataFrame({"item_id": [f"i{i}" for i in range(_ITEMS)], "title": words})
        items.to_parquet(folder / name / "items.parquet")
        pd.DataFrame(events, columns=["user_id", "item_id", "pos"]).to_parquet(
            folder / name / "interactions.parquet"
        )
    return folder
