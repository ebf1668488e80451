"""A federation with one admitted platform, made once and copied for each test; runs to publish; a served registry."""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs

from clients.enrol import init_folder as init_platform
from clients.enrol import install_kit, write_request
from clients.folder import ClientFolder
from clients.template import SiteAnswers
from federation.keys import fingerprint, signing_text
from federation.kit import ModelTerms
from federation.registry.card import MemberFacts, RunFacts
from federation.validity import now
from privacy.ledger import Budget, Head, Receipt, Statement
from privacy.ledger.entry import signed_bytes
from privacy.ledger.keys import public_hex
from server import enrol
from server.folder import ModelChoice, OperatorSettings, RegistrySettings, ServerFolder
from server.registry.run import FinishedRun
from server.registry.serve import serve
from server.registry.store import ModelStore, Published
from shared_model.model import initial_shared
from tests.in_thread import InThread

TIME = now()


def write_data(folder: Path) -> None:
    """A small shop of 20 shoppers."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    nouns = ("milk", "bread", "lamp", "chair", "kettle", "train")
    items = [(f"i{n:02}", f"{nouns[n % 6]} {n}") for n in range(30)]
    pd.DataFrame(items, columns=["item_id", "title"]).to_csv(folder / "items.csv", index=False)
    events = [
        (f"u{u:02}", f"i{i:02}", 1_600_000_000 + 86_400 * day)
        for u in range(20)
        for day, i in enumerate(rng.choice(30, size=6, replace=False))
    ]
    columns = ["user_id", "item_id", "timestamp"]
    pd.DataFrame(events, columns=columns).to_csv(folder / "events.csv", index=False)


def enrolled(root: Path, fed: ServerFolder, name: str) -> ClientFolder:
    """Enrol a platform from init to join."""
    data = root / "data"
    answers = SiteAnswers(name, "groceries", data / "events.csv", data / "items.csv", 20, 8.0, 1e-6)
    folder = init_platform(root / name, answers)
    sent = write_request(folder, TIME)
    kit = enrol.admit(fed, sent.file, sent.file.read_bytes(), sent.fingerprint, TIME).kit
    install_kit(
        folder, kit, kit.read_bytes(), fingerprint(enrol.card_of(fed).signing_key), TIME
    )  # as a person confirms
    return folder


def init_federation(path: Path, name: str = "groceries") -> ServerFolder:
    settings = OperatorSettings(
        name=name, address="localhost:9443", model=ModelChoice(width=2, history_length=6)
    )
    return enrol.init_folder(path, settings, TIME)


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A federation `fed`, another one `other`, the platform `books`, and `data`; not to be written to."""
    root = tmp_path_factory.mktemp("pristine")
    write_data(root / "data")
    fed = init_federation(root / "fed")
    init_federation(root / "other", "fashion")
    enrolled(root, fed, "books")
    return root


@pytest.fixture
def root(pristine: Path, tmp_path: Path) -> Path:
    """A copy of all that, for one test."""
    return Path(shutil.copytree(pristine, tmp_path / "root"))


@pytest.fixture
def fed(root: Path) -> ServerFolder:
    """Return the federation's folder."""
    return ServerFolder(root / "fed")


@pytest.fixture
def books(root: Path) -> ClientFolder:
    """Return an admitted platform's folder."""
    return ClientFolder(root / "books")


SECURE = "chacha20-os-entropy"


def head_of(platform: str, seq: int = 6) -> dict:
    """Return a signed head of a platform's ledger."""
    signer = Ed25519PrivateKey.from_private_bytes(sha256(platform.encode()).digest())
    digest = sha256(f"{platform} {seq}".encode()).hexdigest()
    signature = signer.sign(signed_bytes(platform, seq, digest)).hex()
    return Head(platform, seq, digest, public_hex(signer.public_key()), signature).to_json()


def receipt_of(owner: str, seq: int = 6, *, committed: float = 8.0, **changes: object) -> dict:
    """Return a receipt that the key of a platform's ledger signed, for round 3 of run-1."""
    signer = Ed25519PrivateKey.from_private_bytes(sha256(owner.encode()).digest())
    said = {
        "platform": owner,
        "run": "run-1",
        "round": 3,
        "plan": "x",
        "base": "y",
        "update": "z",
        "noise": SECURE,
    }
    statement = Statement(**(said | changes))
    budget = Budget(owner, committed, 0.0, committed, 9.0, 1.0, 1e-6, seq + 1)
    return Receipt.sign(statement, budget, Head.from_json(head_of(owner, seq)), signer).to_mapping()


def make_run(terms: ModelTerms, seed: int = 1, **facts: object) -> FinishedRun:
    """Return a finished private run whose tensors are a draw from `seed`."""
    rng = np.random.default_rng(seed)
    start = terms.spec.exchange.to_numpy(initial_shared(terms.spec), "start")
    arrays = {n: (a + 0.1 * rng.standard_normal(a.shape)).astype(np.float32) for n, a in start.items()}
    member = {
        "platform": "books",
        "rounds": 3,
        "epsilon_run": 7.9,
        "epsilon_ledger": 8.0,
        "noise": SECURE,
        "head": head_of("books"),
        "receipt": receipt_of("books"),
    }
    given = {
        "id": f"run-{seed}",
        "origin": "federation",
        "strategy": "FedAvg",
        "rounds": 3,
        "local_steps": 2,
        "epsilon": 8.0,
        "delta": 1e-6,
        "clip_norm": 1.0,
        "sample_rate": 0.3,
        "versions": {"fedcart": "0.1.0"},
    }
    taints = facts.pop("taints", [])
    return FinishedRun(
        arrays=arrays,
        terms=terms,
        facts=RunFacts.model_validate(given | facts),
        members=[MemberFacts.model_validate(member)],
        taints=taints,
        evaluation=None,
    )


@pytest.fixture
def run_of(fed: ServerFolder) -> Callable[..., FinishedRun]:
    """Return the builder of runs of this federation's model."""
    terms = enrol.card_of(fed).model
    return lambda seed=1, **facts: make_run(facts.pop("terms", terms), seed, **facts)


@pytest.fixture
def publish(fed: ServerFolder, run_of) -> Callable[..., Published]:
    """Return what publishes the model of run `seed`."""
    return lambda seed=1, **facts: ModelStore.open(fed).publish(run_of(seed, **facts), now())


@pytest.fixture
def helpers() -> SimpleNamespace:
    """Return builders that tests call by name."""
    return SimpleNamespace(
        enrolled=enrolled, make_run=make_run, head=head_of, receipt=receipt_of, signing_text=signing_text
    )


class Served:
    """A registry on a free port of this machine, in a thread of its own."""

    def __init__(self, folder: ServerFolder) -> None:
        anywhere = RegistrySettings.model_construct(host="127.0.0.1", port=0)
        self._thread = InThread(partial(serve, folder, anywhere))
        self.address = f"localhost:{self._thread.address.rpartition(':')[2]}"

    def stop(self) -> None:
        """End it."""
        self._thread.stop()


@pytest.fixture(autouse=True)
def log() -> Iterator[list]:
    """What a registry in this process logs."""
    with capture_logs() as entries:
        yield entries


@pytest.fixture
def served(fed: ServerFolder) -> Iterator[Served]:
    """Return the federation's registry, taking calls."""
    registry = Served(fed)
    yield registry
    registry.stop()


@pytest.fixture
def serve_folder() -> Iterator[Callable[[ServerFolder], Served]]:
    """Return what serves a folder until the end of the test."""
    running: list[Served] = []

    def start(folder: ServerFolder) -> Served:
        running.append(Served(folder))
        return running[-1]

    yield start
    for registry in running:
        registry.stop()
