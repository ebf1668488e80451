"""A small federation of five members that sell alike, one of whom lies to the server in a chosen way.

Whoever bought of one kind of thing buys of the next kind: no prior knows it, so a model that ranks well was trained.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from flwr.app import Array, ArrayRecord, ConfigRecord, Message

from clients.app import app as client_app
from clients.evaluation import evaluate
from clients.platform import HashableSite, prepare_platform
from clients.recommender import LocalLayer, Recommender
from clients.site import SiteSettings, save_site
from privacy.ledger import Ledger
from server.app import MODEL
from server.app import app as server_app
from server.settings import FederationSettings
from shared_model.encoders import identities_to_json
from shared_model.exchange import SharedTensors, fingerprint
from shared_model.features import make_encoders
from shared_model.instructions import TrainInstructions
from shared_model.metrics import ndcg_at
from simulations.grid import Call, run_inline, run_server
from simulations.methods import read_shared

NAMES = ("alpha", "bravo", "charly", "delta", "echo")
LIAR = "echo"
ROUNDS, STEPS, SHOPPERS = 10, 4, 80
_KINDS = ("garden", "kitchen", "office", "sport", "music")
_SHARED_ONLY = LocalLayer(blend=1.0, popularity=0.0)

Arrays = dict[str, np.ndarray]
Lie = Callable[[Arrays, Arrays], Arrays]
"""(the round's start, the honest update) → what is sent instead."""


def write_shop(folder: Path, name: str, seed: int) -> None:
    """Write a shop in which whoever bought of kind k buys of kind k + 1 next."""
    rng = np.random.default_rng(seed)
    items = [{"item": f"i{i}", "title": f"{_KINDS[i % 5]} {_KINDS[i % 5]}ware v{i // 5}"} for i in range(40)]
    events = [
        {"user": f"{name}-{u}", "item": f"i{(u + when) % 5 + 5 * rng.integers(8)}", "order": 86_400 * when}
        for u in range(SHOPPERS)
        for when in range(6)
    ]
    pd.DataFrame(items).to_csv(folder / f"{name}-items.csv", index=False)
    pd.DataFrame(events).to_csv(folder / f"{name}-events.csv", index=False)


def sites_in(folder: Path) -> list[SiteSettings]:
    """Write five shops and return their sites; a federation's ledgers and outboxes go where it runs."""
    sites = []
    for seed, name in enumerate(NAMES):
        write_shop(folder, name, seed)
        sites.append(
            SiteSettings(
                name=name,
                events=folder / f"{name}-events.csv",
                items=folder / f"{name}-items.csv",
                columns={"user": "user", "item": "item", "order": "order", "title": "title"},
                population_size=SHOPPERS,
                epsilon_cap=1000.0,
                ledger="unset",
                work=folder,
                cache=folder / "cache",
                reproducible_noise=True,
                allow_plain_training=True,
            )
        )
    return sites


def federate(
    folder: Path,
    sites: Sequence[SiteSettings],
    lie: Lie | None = None,
    *,
    epsilon: float = 0.0,
    rounds: int = ROUNDS,
    **settings,
) -> SharedTensors:
    """Run a whole federation in `folder` and return its model; the last site's updates pass through `lie`."""
    ask = TrainInstructions.from_mapping(
        {
            **{"run_id": "run-1", "round": 1, "rounds": rounds, "local_steps": STEPS, "epsilon": epsilon},
            **{"delta": 1e-6, "clip_norm": 1.0, "sample_rate": 0.5, "learning_rate": 0.02},
            **{"scalar_learning_rate": 0.02, "negatives": 16, "targets": 4, "encoders": "sixteen"},
            **{"encoder_identities": identities_to_json([e.identity for e in make_encoders(["sixteen"])])},
            **{"width": 8, "history_length": 6, "seed": 3},
        }
    )
    weights = dict.fromkeys(NAMES, float(SHOPPERS))
    given = {"strategy": "FedAvg", "weights": weights, "min_replies": 4, "instructions": ask} | settings
    folder.mkdir(parents=True)
    FederationSettings(**given).save(folder)
    for number, site in enumerate(sites):
        own = folder / f"{site.name}.sqlite"
        if epsilon:
            Ledger.create(own, population=site.name, epsilon_cap=1000.0, delta=1e-6)
        here = site.model_copy(update={"ledger": str(own), "work": folder / "work" / site.name})
        save_site(folder / "sites" / f"{number}-{site.name}.toml", here)
    run_server(server_app, _lying(lie), len(sites), {"run-dir": str(folder)})
    return read_shared(folder / MODEL)


def _lying(lie: Lie | None):
    honest = run_inline(client_app)
    before: dict[str, object] = {}

    def execute(calls: Sequence[Call]) -> list[Message]:
        starts = [
            {n: a.numpy().copy() for n, a in message.content.array_records["arrays"].items()}
            for message, _ in calls
        ]
        replies = honest(calls)
        for start, reply in zip(starts, replies, strict=True):
            if lie is None or not reply.has_content() or reply.content["receipt"]["platform"] != LIAR:
                continue
            update = {n: a.numpy() for n, a in reply.content["arrays"].items()}
            sent = lie(start, update)
            receipt = reply.content["receipt"]
            before.setdefault("first", dict(receipt))
            if getattr(lie, "stale", False):  # an old update under the new round's number
                reply.content["receipt"] = ConfigRecord(before["first"] | {"round": receipt["round"]})
            sent = {n: a.astype(np.float32) for n, a in sent.items()}
            if "signature" not in receipt:  # without privacy a receipt says whatever its sender likes
                reply.content["receipt"]["update"] = fingerprint(sent)
            reply.content["arrays"] = ArrayRecord({n: Array(a) for n, a in sent.items()})
        return replies

    return execute


def validation_ndcg(sites: Sequence[SiteSettings], shared: SharedTensors) -> float:
    """Return the honest platforms' mean NDCG@10 on validation shoppers, by the shared model alone."""
    values = []
    for site in sites[:-1]:
        platform = prepare_platform(HashableSite(site), ("sixteen",), 8, 6)
        ranks = evaluate(
            platform, Recommender(platform, shared, _SHARED_ONLY), "valid", platform.valid_users
        ).ranks
        values.append(ndcg_at(ranks, 10).mean())
    return float(np.mean(values))
