"""A small platform: frames, files, a vocabulary and a site that can take part in a round."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clients.data import build_catalogue, items_table
from clients.data.products import published
from clients.own_ledger import open_ledger
from clients.platform import HashableSite, Platform, prepare_platform
from clients.site import SiteSettings
from federation.certificates import make_authority
from federation.keys import fingerprint, make_signing_key, signing_text
from federation.kit import Card, ModelTerms, Recipient, make_kit
from federation.request import read_request
from federation.validity import now
from privacy.ledger import Ledger
from shared_model.encoders import HashedWordsEncoder, identities_to_json
from shared_model.features import ENCODERS, make_encoders
from shared_model.instructions import TrainInstructions
from shared_model.stages import Stage
from shared_model.vocabulary import Vocabulary
from shared_model.vocabulary_file import vocabulary_bytes

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


def vocabulary_of(items: pd.DataFrame, neighbours: int = 5) -> Vocabulary:
    """Return the vocabulary that one platform's catalogue makes."""
    encoders = [HashedWordsEncoder(dimension=16, buckets=2**10)]
    return Vocabulary.empty().grown([published(build_catalogue(items_table(items))[0])], encoders, neighbours)


VOCABULARY = vocabulary_of(item_frame())


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
        (folder / "vocabulary.safetensors").write_bytes(vocabulary_bytes(VOCABULARY))
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
            "vocabulary": folder / "vocabulary.safetensors",
        }
        site = SiteSettings.model_validate(given | values)
        if cap is not None:
            Ledger.create(Path(site.ledger), population=site.population, epsilon_cap=cap, delta=site.delta)
        return site

    return make


@pytest.fixture
def ask() -> TrainInstructions:
    """Return the first round's request of a run at ε = 8."""
    return make_ask()


def make_ask(**values) -> TrainInstructions:
    given = {
        "run_id": "run-1",
        "round": 1,
        "rounds": 2,
        "epsilon": 8.0,
        "delta": 1e-6,
        "share": 0.25,
        "encoders": "tiny",
        "vocabulary": VOCABULARY.digest,
        "products": len(VOCABULARY),
        "edges": len(VOCABULARY.edges),
        "seed": 3,
    }
    return TrainInstructions.from_mapping(given | values)


@pytest.fixture
def start() -> Callable[[TrainInstructions], dict[str, np.ndarray]]:
    """Return the builder of what the server sends with a round's request."""

    def given(ask: TrainInstructions) -> dict[str, np.ndarray]:
        return {} if ask.stage is Stage.POPULARITY else {"temper": np.full(ask.products, 1.5, np.float32)}

    return given


@pytest.fixture
def ledger_of() -> Callable[[SiteSettings], Ledger]:
    """Return what opens a site's ledger."""
    return open_ledger


@pytest.fixture
def platform_of() -> Callable[..., Platform]:
    """Return what prepares a site's platform with the small encoder."""
    return lambda site: prepare_platform(HashableSite(site), ("tiny",), 6)


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
