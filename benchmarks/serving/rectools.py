"""Lists a second against RecTools' `recommend`: the same shop, shoppers, length of lists and filter of what was had.

RecTools needs an environment of its own; `benchmarks/rectools/recommend.py` runs there, in the same minute and with as
many threads. Both sides get external ids and return them.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.provenance import PROJECT
from benchmarks.serving.measure import seconds
from benchmarks.serving.shop import EVENTS, HISTORY, made_snapshot
from benchmarks.transfer.rectools import rectools_python
from clients.data.sequences import Sequences
from clients.serving.asks import RecommendAsk, Who
from clients.serving.desk import BATCH
from clients.serving.engine import recommend
from clients.serving.snapshot import Snapshot
from shared_model.errors import RunFailedError

SCRIPT = PROJECT / "benchmarks" / "rectools" / "recommend.py"
_COUNT, _ONE = 10, 200


def against_rectools(
    items: int, shoppers: int, width: int, seed: int, threads: int, repeats: int, folder: Path
) -> dict[str, Any]:
    """Return lists a second of both, and theirs as a part of ours; how to get RecTools where it is not there.

    items, shoppers : of the shop; all shoppers get a list. width : of features and of RecTools' vectors. Raises
    RunFailedError with RecTools' last words where it fails.
    """
    if not rectools_python().exists():
        return {
            "skipped": f"{rectools_python()} is not there: make it with `make bench-env`, or name its interpreter in "
            "FEDCART_RECTOOLS_PYTHON."
        }
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    ours: dict[str, float] = {}
    for name, index in (("exact", "exact"), ("index", "approximate")):
        snapshot = made_snapshot(items, shoppers, width, seed, folder, index)
        ours |= {f"{name}, together": _together(snapshot, repeats), f"{name}, one by one": _alone(snapshot)}
    torch.set_num_threads(before)
    settings = {
        "width": width,
        "count": _COUNT,
        "threads": threads,
        "seed": seed,
        "repeats": repeats,
        "session": HISTORY,
    }
    done = _theirs(snapshot.shoppers.sequences, items, settings, folder / f"rectools-{threads}")
    theirs = {}
    for model, taken in done["taken"].items():
        theirs[f"{model}, together"] = shoppers / float(np.median(taken["all"]))
        theirs[f"{model}, one by one"] = taken["lists_of_one"] / float(np.median(taken["one"]))
    return {
        "items": items,
        "shoppers": shoppers,
        "events": EVENTS,
        "width": width,
        "threads": threads,
        "lists_per_second": {"fedcart": ours, "RecTools": theirs},
        "fedcart_over_rectools": {
            f"{mine} / {model}": value / other
            for mine, value in ours.items()
            for model, other in theirs.items()
            if mine.split(", ")[1] == model.split(", ")[1]
        },
        "versions": done["versions"],
    }


def _together(snapshot: Snapshot, repeats: int) -> float:
    """Return lists a second for all shoppers, as many at a time as the service makes together."""
    asks = [RecommendAsk(Who(name), _COUNT) for name in snapshot.shoppers.sequences.user_ids]
    batches = [asks[at : at + BATCH] for at in range(0, len(asks), BATCH)]
    taken = seconds(lambda: [recommend(snapshot, batch) for batch in batches], repeats)
    return len(asks) / float(np.median(taken))


def _alone(snapshot: Snapshot) -> float:
    """Return lists a second, one after the other."""
    asks = [RecommendAsk(Who(name), _COUNT) for name in snapshot.shoppers.sequences.user_ids[:_ONE]]
    return len(asks) / seconds(lambda: [recommend(snapshot, [ask]) for ask in asks], 1)[0]


def _theirs(sequences: Sequences, items: int, settings: dict[str, Any], exchange: Path) -> dict[str, Any]:
    """Return what the script measured. Shoppers who are not asked for have every item once: RecTools knows no others."""
    exchange.mkdir()
    everything = np.arange(items)
    frame = {
        "user": np.concatenate([sequences.event_users, len(sequences) + everything // EVENTS]),
        "item": np.concatenate([sequences.items, everything]),
        "position": np.concatenate([sequences.groups, everything % EVENTS]),
    }
    named = {"user": [f"u{u:07}" for u in frame["user"]], "item": [f"i{i:07}" for i in frame["item"]]}
    pd.DataFrame(frame | named).to_parquet(exchange / "events.parquet")
    pd.DataFrame({"user": sequences.user_ids}).to_parquet(exchange / "users.parquet")
    (exchange / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    kept = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}}
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(settings["threads"]))
    run = subprocess.run(
        [str(rectools_python()), "-W", "ignore", str(SCRIPT), str(exchange)],
        capture_output=True,
        text=True,
        env=kept | limits,
        check=False,
    )
    if run.returncode:
        raise RunFailedError(f"{SCRIPT.name} failed with code {run.returncode}:\n{run.stderr[-2000:]}")
    done: dict[str, Any] = json.loads((exchange / "done.json").read_text(encoding="utf-8"))
    return done
