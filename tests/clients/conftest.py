"""A small platform: frames, files, training data and a site that can take part in a round."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from clients.data import leave_one_out, load_platform
from clients.examples import training_data
from clients.participate import open_ledger
from clients.platform import HashableSite, Platform, prepare_platform
from clients.site import SiteSettings
from federation.certificates import make_authority
from federation.keys import fingerprint, make_signing_key, signing_text
from federation.kit import Card, ModelTerms, Recipient, make_kit
from federation.request import read_request
from federation.validity import now
from privacy.ledger import Ledger
from shared_model.encoders import HashedWordsEncoder, identities_to_json
from shared_model.features import ENCODERS, encode_catalogue, make_encoders
from shared_model.instructions import TrainInstructions
from shared_model.isolation import isolation
from shared_model.model import ModelSpec, block_norms, initial_shared

TIME = now()
NOUNS = ("milk", "bread", "lamp", "chair", "kettle", "train", "doll", "shampoo")
KINDS = ("red", "blue", "small", "large", "organic", "wooden")


@pytest.fixture(autouse=True)
def _tiny_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offer two small encoders by name, so that a round takes milliseconds."""
    monkeypatch.setitem(ENCODERS, "tiny", lambda: HashedWordsEncoder(dimension=16, buckets=2**10))
    monkeypatch.setitem(ENCODERS, "tinier", lambda: HashedWordsEncoder(dimension=8, buckets=2**9))


def item_frame(count: int = 80) -> pd.DataFrame:
    """Items with titles of two words and a number; each noun is a topic."""
    titles = [f"{KINDS[i % 6]} {NOUNS[i % 8]} {i}" for i in range(count)]
    return pd.DataFrame({"item_id": [f"i{i:02}" for i in range(count)], "title": titles})


def event_frame(shoppers: int = 9, seed: int = 0, items: int = 80) -> pd.DataFrame:
    """Shoppers of one or two topics with 3 to 7 baskets; rows that cleaning drops are mixed in."""
    rng = np.random.default_rng(seed)
    rows = []
    for u in range(shoppers):
        liked = [i for i in range(items) if i % 8 in (u % 8, (u + 3) % 8)]
        for basket in range(int(rng.integers(3, 8))):
            for i in rng.choice(liked, size=int(rng.integers(1, 4)), replace=False):
                rows.append((f"u{u:02}", f"i{i:02}", 1_600_000_000 + 86_400 * basket))
    rows += [("u01", "unknown", 1_600_000_000), ("u02", "i03", -5), ("short", "i01", 1_600_000_000), rows[0]]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    return frame.sample(frac=1, random_state=seed).reset_index(drop=True)


def data_of(
    events: pd.DataFrame,
    spec: ModelSpec,
    encoders: tuple[str, ...],
    targets: int = 3,
    dtype: torch.dtype = torch.float64,
) -> SimpleNamespace:
    """Take raw frames all the way to training examples, as a client does."""
    loaded = load_platform(events, item_frame(), seed=0, min_events=3)
    split = leave_one_out(loaded.sequences, first_time_only=True, seed=0)
    features = torch.from_numpy(encode_catalogue(make_encoders(encoders), loaded.catalogue.texts())).to(dtype)
    norms = block_norms(spec, features)
    data = training_data(split, features, norms, isolation(spec, features, norms), spec, targets)
    return SimpleNamespace(split=split, data=data, features=features, users=split.sequences.user_ids)


@pytest.fixture(params=[("tiny",), ("tiny", "tinier")], ids=["one encoder", "two encoders"])
def setting(request: pytest.FixtureRequest) -> SimpleNamespace:
    """Return a model shape with trained-looking shared tensors, and a builder of its training data."""
    encoders = request.param
    spec = ModelSpec(tuple({"tiny": 16, "tinier": 8}[e] for e in encoders), 3, 6)
    generator = torch.Generator().manual_seed(5)
    start = initial_shared(spec)
    shared = {
        name: t.double() + 0.3 * torch.randn(t.shape, generator=generator, dtype=torch.float64)
        for name, t in start.items()
    }
    return SimpleNamespace(
        spec=spec,
        encoders=encoders,
        shared=shared,
        start={name: t.double() for name, t in start.items()},
        of=lambda events, **kwargs: data_of(events, spec, encoders, **kwargs),
    )


@pytest.fixture
def events() -> Callable[..., pd.DataFrame]:
    """Return the builder of raw interactions."""
    return event_frame


@pytest.fixture
def make_site(tmp_path: Path) -> Callable[..., SiteSettings]:
    """Return a builder of sites with files, and a ledger unless `cap` is None."""

    def make(name: str = "toys", *, cap: float | None = 9.0, seed: int = 0, **values) -> SiteSettings:
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        event_frame(seed=seed).to_csv(folder / "events.csv", index=False)
        item_frame().to_csv(folder / "items.csv", index=False)
        given = {
            "name": name,
            "events": folder / "events.csv",
            "items": folder / "items.csv",
            "population_size": 20,
            "epsilon_cap": cap or 1.0,
            "ledger": str(folder / "ledger.sqlite"),
            "feedback": str(folder / "feedback.sqlite"),
            "store": folder / "store",
            "work": folder / "work",
            "cache": tmp_path / "cache",
        }
        site = SiteSettings.model_validate(given | values)
        if cap is not None:
            Ledger.create(Path(site.ledger), population=site.population, epsilon_cap=cap, delta=site.delta)
        return site

    return make


@pytest.fixture
def ask() -> TrainInstructions:
    """Return the first round's request of a five-round run at ε = 8."""
    return make_ask()


def make_ask(**values) -> TrainInstructions:
    encoders = values.get("encoders", "tiny")
    given = {
        "run_id": "run-1",
        "round": 1,
        "rounds": 5,
        "local_steps": 1,
        "epsilon": 8.0,
        "delta": 1e-6,
        "clip_norm": 0.5,
        "sample_rate": 0.5,
        "learning_rate": 0.05,
        "scalar_learning_rate": 0.02,
        "negatives": 8,
        "targets": 3,
        "encoders": encoders,
        "encoder_identities": identities_to_json([e.identity for e in make_encoders(encoders.split(","))]),
        "width": 2,
        "history_length": 6,
        "seed": 3,
    }
    return TrainInstructions.from_mapping(given | values)


@pytest.fixture
def start() -> Callable[[TrainInstructions], dict[str, np.ndarray]]:
    """Return the builder of what the server sends in the first round."""
    return lambda ask: ask.spec.exchange.to_numpy(initial_shared(ask.spec), "start")


@pytest.fixture
def ledger_of() -> Callable[[SiteSettings], Ledger]:
    """Return what opens a site's ledger."""
    return open_ledger


@pytest.fixture
def platform_of() -> Callable[..., Platform]:
    """Return what prepares a site's platform with the small encoder."""
    return lambda site: prepare_platform(HashableSite(site), ("tiny",), 2, 6)


class Operator:
    """The federation's side, as far as a platform sees it."""

    def __init__(self, folder: Path, name: str = "groceries") -> None:
        folder.mkdir()
        self.key = make_signing_key(folder / "signing.key")
        self.number = 0
        self.authority = make_authority(name, TIME)
        self.card = Card(
            federation=name,
            address="fed.example.org:9443",
            signing_key=signing_text(self.key),
            certificates=self.authority[1].decode(),
            model=ModelTerms(
                encoders="tiny",
                encoder_identities=identities_to_json([e.identity for e in make_encoders(["tiny"])]),
                width=2,
                history_length=6,
            ),
            fedcart="0.1.0",
            flower="1.41.0",
        )

    @property
    def fingerprint(self):
        return fingerprint(self.card.signing_key)

    def answer(self, file: Path, *, time=TIME, number=None, card=None, **recipient) -> bytes:
        received = read_request(file.read_bytes(), "r", self.card.federation, now())
        to = Recipient.of(received.request, received.digest)
        self.number = number or self.number + 1
        return make_kit(
            card or self.card, Recipient(**(to.__dict__ | recipient)), self.number, self.key, time
        )


@pytest.fixture
def make_operator() -> type[Operator]:
    """Return what makes operators, each with its own key."""
    return Operator


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    """Return the operator of the platform's federation."""
    return Operator(tmp_path / "operator")
