"""Time RecTools' `recommend` on exchanged Parquet files: lists for many users in one call, and for one user a call.

    python benchmarks/rectools/recommend.py EXCHANGE

Runs in the environment of `make bench-env` and imports nothing of fedcart. EXCHANGE is a folder:

| file                 | content                                                                                  |
|----------------------|------------------------------------------------------------------------------------------|
| in: `settings.json`  | `width` of the vectors, `count` of items in a list, `threads`, `seed`, `repeats`, `session` |
|                      | (most events that SASRec looks at)                                                       |
| in: `events.parquet` | user, item, position                                                                     |
| in: `users.parquet`  | user: who gets a list                                                                    |
| out: `done.json`     | by model, seconds of each repeat: `all`, and `one` for one user after the other; versions |

What a model would recommend is not looked at, so it trains as briefly as it can.
"""

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from implicit.als import AlternatingLeastSquares
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import ImplicitALSWrapperModel, SASRecModel

_ONE = 20
"""So many users are asked for one by one."""


def als(settings: dict[str, Any]) -> ImplicitALSWrapperModel:
    """Return implicit's ALS: a vector a user, a vector an item, ranked by implicit's own loop over the products."""
    factors = AlternatingLeastSquares(
        factors=settings["width"],
        iterations=1,
        num_threads=settings["threads"],
        random_state=settings["seed"],
    )
    return ImplicitALSWrapperModel(factors, recommend_n_threads=settings["threads"])


def sasrec(settings: dict[str, Any]) -> SASRecModel:
    """Return SASRec: each history is encoded when lists are asked for, then ranked by torch."""
    return SASRecModel(
        n_factors=settings["width"],
        session_max_len=settings["session"],
        loss="BCE",
        recommend_torch_device="cpu",
        get_trainer_func=lambda: pl.Trainer(
            max_epochs=1,
            accelerator="cpu",
            devices=1,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            logger=False,
        ),
    )


MODELS: dict[str, Callable[[dict[str, Any]], Any]] = {"ALS": als, "SASRec": sasrec}


def seconds(work: Callable[[], object], repeats: int) -> list[float]:
    """Return the seconds of each repeat, after one that does not count."""
    work()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return taken


def main(exchange: Path) -> None:
    """Train each model, and time it."""
    settings = json.loads((exchange / "settings.json").read_text(encoding="utf-8"))
    torch.set_num_threads(settings["threads"])
    pl.seed_everything(settings["seed"], verbose=False)
    events = pd.read_parquet(exchange / "events.parquet")
    users = pd.read_parquet(exchange / "users.parquet")["user"].to_numpy()
    dataset = Dataset.construct(
        pd.DataFrame(
            {
                Columns.User: events["user"],
                Columns.Item: events["item"],
                Columns.Weight: 1.0,
                Columns.Datetime: pd.to_datetime(events["position"], unit="s"),
            }
        )
    )
    taken = {}
    for name, make in MODELS.items():
        model = make(settings).fit(dataset)

        def lists(asked: Any, model: Any = model) -> Any:
            return model.recommend(asked, dataset, k=settings["count"], filter_viewed=True)

        def one_by_one(lists: Callable[[Any], Any] = lists) -> None:
            for user in users[:_ONE]:
                lists([user])

        taken[name] = {
            "all": seconds(partial(lists, users), settings["repeats"]),
            "one": seconds(one_by_one, 1),
            "lists_of_one": len(users[:_ONE]),
        }
    names = ("RecTools", "pm-implicit", "torch", "numpy")
    versions = {name: importlib.metadata.version(name) for name in names}
    (exchange / "done.json").write_text(json.dumps({"taken": taken, "versions": versions}), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
