"""A small federation of five members that sell alike, one of whom lies to the server in a chosen way."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from flwr.app import Array, ArrayRecord, ConfigRecord, Message
from safetensors.numpy import load_file

from clients.app import app as client_app
from clients.data.products import published
from clients.platform import read_catalogue
from clients.site import SiteSettings, save_site
from privacy.ledger import Ledger
from server.app import MODEL
from server.app import app as server_app
from server.settings import FederationSettings
from shared_model.exchange import fingerprint
from shared_model.features import make_encoders
from shared_model.instructions import TrainInstructions
from shared_model.vocabulary import Vocabulary
from shared_model.vocabulary_file import vocabulary_bytes
from simulations.grid import Call, run_inline, run_server

NAMES = ("alpha", "bravo", "charly", "delta", "echo")
LIAR = "echo"
SHOPPERS = 80
_KINDS = ("garden", "kitchen", "office", "sport", "music")

Arrays = dict[str, np.ndarray]
Lie = Callable[[Arrays], Arrays]
"""The honest sum → what is sent instead."""


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
                vocabulary=folder / "vocabulary.safetensors",
                reproducible_noise=True,
                allow_plain_training=True,
            )
        )
    catalogues = [published(read_catalogue(site)) for site in sites]
    vocabulary = Vocabulary.empty().grown(catalogues, make_encoders(["sixteen"]), neighbours=10)
    (folder / "vocabulary.safetensors").write_bytes(vocabulary_bytes(vocabulary))
    return sites


def federate(
    folder: Path,
    sites: Sequence[SiteSettings],
    vocabulary: Vocabulary,
    lie: Lie | None = None,
    *,
    epsilon: float = 0.0,
    rounds: int = 2,
    **settings,
) -> Arrays:
    """Run a whole federation in `folder` and return its table; the sums of `LIAR` pass through `lie`."""
    ask = TrainInstructions(
        run_id="run-1",
        round=1,
        rounds=rounds,
        epsilon=epsilon,
        delta=1e-6,
        share=0.5 if rounds == 2 else 1.0,
        encoders="sixteen",
        vocabulary=vocabulary.digest,
        products=len(vocabulary),
        edges=len(vocabulary.edges),
        seed=3,
    )
    given = {"sizes": dict.fromkeys(NAMES, SHOPPERS), "min_replies": 4, "instructions": ask} | settings
    folder.mkdir(parents=True)
    FederationSettings(**given).save(folder)
    for number, site in enumerate(sites):
        own = folder / f"{site.name}.sqlite"
        if epsilon:
            Ledger.create(own, population=site.name, epsilon_cap=1000.0, delta=1e-6)
        here = site.model_copy(update={"ledger": str(own), "work": folder / "work" / site.name})
        save_site(folder / "sites" / f"{number}-{site.name}.toml", here)
    run_server(server_app, _lying(lie), len(sites), {"run-dir": str(folder)})
    return load_file(folder / MODEL)


def _lying(lie: Lie | None):
    honest = run_inline(client_app)
    before: dict[str, object] = {}

    def execute(calls: Sequence[Call]) -> list[Message]:
        replies = honest(calls)
        for reply in replies:
            if lie is None or not reply.has_content() or reply.content["receipt"]["platform"] != LIAR:
                continue
            sent = lie({n: a.numpy() for n, a in reply.content["arrays"].items()})
            receipt = reply.content["receipt"]
            before.setdefault("first", dict(receipt))
            if getattr(lie, "stale", False):  # an old sum under the new round's number
                reply.content["receipt"] = ConfigRecord(before["first"] | {"round": receipt["round"]})
            elif getattr(lie, "signs", False):  # without privacy a receipt is the platform's own word
                receipt["update"] = fingerprint({n: a.astype(np.float32) for n, a in sent.items()})
            reply.content["arrays"] = ArrayRecord({n: Array(a.astype(np.float32)) for n, a in sent.items()})
        return replies

    return execute
