"""A shop with categories, brands and prices, as a snapshot and as a folder to serve from."""

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from clients.data import leave_one_out, load_platform
from clients.enrol import init_folder, install_kit, write_request
from clients.folder import ClientFolder
from clients.memory import Memory
from clients.platform import Platform
from clients.recommender import LocalLayer
from clients.serving.current import Current
from clients.serving.door import Door
from clients.serving.feedback import NoFeedback
from clients.serving.load import Model, make_snapshot
from clients.serving.serve import Serving, serve
from clients.serving.snapshot import Snapshot
from clients.site import ServingSettings, SiteSettings
from clients.template import SiteAnswers
from federation.validity import now
from shared_model.features import encode_catalogue, make_encoders
from shared_model.isolation import isolation
from shared_model.model import ModelSpec, block_norms
from tests.in_thread import InThread

NOUNS = ("milk", "bread", "lamp", "chair", "kettle", "train", "doll", "shampoo")
LAYER = LocalLayer(0.1, 1.0, others=True)
ANYWHERE, NO_FEEDBACK = ServingSettings(without_token=True), NoFeedback()
KINDS = ("red", "blue", "small", "large", "organic", "wooden")


def items_frame(count: int) -> pd.DataFrame:
    """Return items of 8 categories, 3 brands, and prices of which every tenth is missing."""
    return pd.DataFrame(
        {
            "item_id": [f"i{i:03}" for i in range(count)],
            "title": [f"{KINDS[i % 6]} {NOUNS[i % 8]} {i}" for i in range(count)],
            "category": [NOUNS[i % 8] for i in range(count)],
            "brand": [f"brand{i % 3}" for i in range(count)],
            "price": [np.nan if i % 10 == 9 else 1.0 + i for i in range(count)],
        }
    )


def events_frame(shoppers: int, items: int, seed: int) -> pd.DataFrame:
    """Return events of shoppers with two topics each."""
    rng = np.random.default_rng(seed)
    rows = []
    for u in range(shoppers):
        liked = [i for i in range(items) if i % 8 in (u % 8, (u + 3) % 8)]
        for basket in range(4):
            for i in rng.choice(liked, size=2, replace=False):
                rows.append((f"u{u:02}", f"i{i:03}", 1_600_000_000 + 86_400 * basket))
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


def site_of(folder: Path, **serving: object) -> SiteSettings:
    """Return settings that name no file."""
    return SiteSettings.model_validate(
        {
            "name": "books",
            "events": "events.csv",
            "items": "items.csv",
            "population_size": 20,
            "epsilon_cap": 8.0,
            "ledger": "ledger.sqlite",
            "work": folder / "work",
            "cache": folder / "cache",
            "serving": serving,
        }
    )


@cache
def platform_of(
    items: int, shoppers: int, seed: int = 0, *, encoders: tuple[str, ...] = ("tiny",)
) -> Platform:
    """Return a platform made in memory."""
    return platform_from(events_frame(shoppers, items, seed), items_frame(items), encoders)


def platform_from(events: pd.DataFrame, items: pd.DataFrame, encoders: tuple[str, ...]) -> Platform:
    """Return a platform made of these frames."""
    loaded = load_platform(events, items, seed=0, min_events=3)
    split = leave_one_out(loaded.sequences, first_time_only=True, seed=0)
    made = make_encoders(encoders)
    spec = ModelSpec.of([e.identity for e in made], 6)
    features = torch.from_numpy(encode_catalogue(made, loaded.catalogue.texts()))
    return Platform(
        name="books",
        catalogue=loaded.catalogue,
        split=split,
        spec=spec,
        features=features,
        norms=block_norms(spec, features),
        isolation=isolation(spec, features, block_norms(spec, features)),
        filter_seen=True,
        reports=(loaded.items_report, loaded.events_report),
        fingerprint=loaded.sequences.fingerprint(),
        scoring=torch.float32,
    )


def others_of(items: int, seed: int) -> Memory:
    """Return what a federation's other members might know of these items."""
    rng = np.random.default_rng(seed)
    pairs = sparse.random(items, items, 0.1, random_state=rng, data_rvs=lambda n: 5 * rng.random(n))
    pairs.setdiag(0)
    return Memory(9 * rng.random(items), sparse.csr_matrix(pairs + pairs.T))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., SimpleNamespace]:
    """Return what makes a snapshot, with what it was made of."""

    def made(
        items: int = 40,
        shoppers: int = 12,
        seed: int = 0,
        local: LocalLayer = LAYER,
        version: str = "v1",
        encoders: tuple[str, ...] = ("tiny", "tinier"),
        **serving: object,
    ) -> SimpleNamespace:
        platform = platform_of(items, shoppers, seed, encoders=encoders)
        model, others = Model(version, 1, encoders, 6, None), others_of(len(platform.catalogue), seed)
        site = site_of(tmp_path, **serving)
        snapshot: Snapshot = make_snapshot(
            platform, model, {"model": local}, others, site, tmp_path / "serving"
        )
        return SimpleNamespace(
            snapshot=snapshot, platform=platform, model=model, site=site, local=local, others=others
        )

    return made


@pytest.fixture
def served() -> Iterator[Callable[..., SimpleNamespace]]:
    """Return what serves a snapshot on a free port of this machine until the test ends."""
    running: list[InThread] = []

    def start(
        snapshot: Snapshot, settings: ServingSettings = ANYWHERE, feedback: object = NO_FEEDBACK
    ) -> SimpleNamespace:
        current = Current(snapshot)
        door = Door.of(settings) if "token" in settings.model_fields_set else Door(None)
        serving = Serving(current, settings.model_copy(update={"port": 0}), door, feedback)
        running.append(InThread(partial(serve, serving)))
        return SimpleNamespace(current=current, address=running[-1].address)

    def stop() -> None:
        while running:
            running.pop().stop()

    start.stop = stop  # for who looks at the end
    yield start
    stop()


@pytest.fixture
def member(tmp_path: Path, operator) -> ClientFolder:
    """Return the folder of a platform that is a member and has adopted nothing yet."""
    data = tmp_path / "data"
    data.mkdir()
    items_frame(40).to_csv(data / "items.csv", index=False)
    events_frame(12, 40, 0).to_csv(data / "events.csv", index=False)
    answers = SiteAnswers("books", "groceries", data / "events.csv", data / "items.csv", 20, 8.0, 1e-6, None)
    folder = init_folder(tmp_path / "books", answers)
    sent = write_request(folder, now())
    install_kit(folder, tmp_path / "kit", operator.answer(sent.file), operator.fingerprint, now())
    return folder
