"""From the platforms' own databases through a federation to lists, and back; the tables are those of the docs."""

import contextlib
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import partial

import grpc
import pytest
import tomli_w

import clients.participate
from clients.app import app as client_app
from clients.data.ingest import ingest
from clients.data.products import published
from clients.data.store import open_store
from clients.feedback import FeedbackStore, Interaction, Kind
from clients.folder import ClientFolder
from clients.own_ledger import open_ledger
from clients.participate import plan_for
from clients.platform import read_catalogue
from clients.policy import approve
from clients.serving.door import read_token
from clients.serving.v1 import serving_pb2 as m
from clients.serving.v1.serving_pb2_grpc import RecommenderStub
from clients.site import SiteSettings, read_site
from federation.bundle import CLIENT_PACKAGES, build_bundle, installed_code
from federation.validity import now
from privacy.accounting import epsilon
from privacy.ledger import Ledger
from server.app import app as server_app
from server.settings import FederationSettings
from shared_model.features import make_encoders
from shared_model.instructions import TrainInstructions
from shared_model.vocabulary import Vocabulary
from shared_model.vocabulary_file import vocabulary_bytes
from simulations.folder import write_federation
from simulations.grid import run_inline, run_server
from tests.e2e.shops import FIRST_DAY, Shop
from tests.showing import Showing
from tests.traces import traces

RUN = {"epsilon": 2.0}
LATER = FIRST_DAY.timestamp() + 86_400 * 20
WHO = "shopper-0001"
"""The shopper who comes back."""


@pytest.fixture
def shops(mariadb, postgresql):
    """Two platforms: books keeps its data in MariaDB, toys in PostgreSQL."""
    made = {"books": Shop("books", mariadb, 0), "toys": Shop("toys", postgresql, 1)}
    assert [shop.dialect for shop in made.values()] == ["mariadb", "postgresql"]
    for shop in made.values():
        shop.open()
    yield made
    for shop in made.values():
        shop.close()


def test_feedback_rows_train_in_the_next_run_of_the_federation_and_are_charged(shops, tmp_path, monkeypatch):
    """Without processes between, so that what each round trains on can be looked at."""
    sites = {}
    for name, shop in shops.items():
        folder = tmp_path / name
        text = tomli_w.dumps(
            {
                "name": name,
                "population_size": 20,
                "epsilon_cap": 8.0,
                "ledger": "ledger.sqlite",
                "work": "work",
                "cache": "cache",
                "vocabulary": str(tmp_path / "vocabulary.safetensors"),
                **shop.sources(),
            }
        )
        sites[name] = site = read_site(text, name).located(folder)
        folder.mkdir()
        Ledger.create(folder / "ledger.sqlite", population=name, epsilon_cap=8.0, delta=site.delta)
    trained: dict[str, list[tuple[str, ...]]] = {}
    original = clients.participate.read_events

    def looking(site):
        platform = original(site)
        sequences = platform.split.sequences
        items, _ = sequences.user(sequences.user_ids.index(WHO))
        trained.setdefault(site.settings.name, []).append(
            tuple(platform.catalogue.item_ids[row] for row in items)
        )
        return platform

    monkeypatch.setattr(clients.participate, "read_events", looking)

    vocabulary = Vocabulary.empty()

    def federate(run: str) -> None:
        (tmp_path / run).mkdir()
        write_federation(tmp_path / run, settings_of(run, vocabulary), list(sites.values()))
        run_server(server_app, run_inline(client_app), 2, {"run-dir": str(tmp_path / run)})

    def ingested(site: SiteSettings) -> int:
        return ingest(open_store(site.store), site.sources, site.catalogue, now=LATER).added

    assert [ingested(site) for site in sites.values()] == [120, 120]  # the search is left out
    catalogues = [published(read_catalogue(site)) for site in sites.values()]
    vocabulary = vocabulary.grown(catalogues, make_encoders(["hashed-words"]))
    (tmp_path / "vocabulary.safetensors").write_bytes(vocabulary_bytes(vocabulary))
    federate("first")
    bought = {
        name: next(f"i{n:02}" for n in range(30) if f"i{n:02}" not in trained[name][0]) for name in shops
    }
    for name, site in sites.items():
        store = FeedbackStore(site.feedback)
        store.record([Interaction("e1", WHO, bought[name], Kind.PURCHASE, LATER, request_id="r")])
        store.close()
        assert [row["item"] for row in shops[name].rows("feedback_interactions")] == [bought[name]]
        assert ingested(site) == 1
    federate("second")
    for name, site in sites.items():
        first, again, later, latest = trained[name]
        assert first == again
        assert later == latest == (*first, bought[name])
        ledger = open_ledger(site)
        assert [spend.run for spend in ledger.runs()] == ["first", "second"]
        asked = [settings_of(run, vocabulary).instructions for run in ("first", "second")]
        events = [plan_for(site, ask).event for ask in asked]
        assert ledger.budget().committed == pytest.approx(epsilon(events, site.delta), rel=1e-6)


def settings_of(run: str, vocabulary: Vocabulary) -> FederationSettings:
    """What the operator asks of a run."""
    instructions = TrainInstructions(
        run_id=run,
        round=1,
        rounds=2,
        delta=1e-6,
        share=0.5,
        encoders="hashed-words",
        vocabulary=vocabulary.digest,
        products=len(vocabulary),
        edges=len(vocabulary.edges),
        seed=3,
        **RUN,
    )
    return FederationSettings(sizes={"books": 20, "toys": 20}, instructions=instructions)


@pytest.mark.e2e
def test_from_rows_to_lists_and_back_with_real_processes(shops, make_federation, processes):
    """By the commands alone: ingest, start, run, publish, adopt, serve, feedback over gRPC, ingest, run."""
    federation = make_federation(run=RUN)
    fed, said = federation.folder, partial(_said, processes)
    folders = {name: _enrolled(federation, shop, federation.free_port()) for name, shop in shops.items()}
    for folder in folders.values():
        assert said("client", "ingest", "--folder", folder.path)["added"] == 120
    federation.agree_on_products(*folders.values())
    processes.start("server", command("server", "start", "--folder", fed.path))
    for name, folder in folders.items():
        processes.start(name, command("client", "start", "--folder", folder.path))
    federation.wait_for(lambda: federation.online() == set(shops), "both nodes online")

    first = _run(federation, processes)
    version = said("server", "publish", first, "--folder", fed.path)["version"]
    for name, folder in folders.items():
        said("client", "adopt", "--folder", folder.path)
        processes.start(f"serve-{name}", command("client", "serve", "--folder", folder.path))
    for name, shop in shops.items():
        with _calling(folders[name]) as channel:
            stub = RecommenderStub(channel)
            profile = partial(stub.Profile, m.ProfileRequest(shopper_id=WHO, request_id="same"))
            bought, before = _buy(stub, shop, version), profile()
            (group,) = said("client", "report", "--folder", folders[name].path)["groups"]
            assert (group["model_version"], group["conversion"]["value"]) == (version, 1.0)
            assert said("client", "fresh", "--folder", folders[name].path, expected=1)["run"] == first
            assert said("client", "ingest", "--folder", folders[name].path)["added"] == 1
            federation.wait_for(lambda ask=profile, was=before: ask() != was, "the event in serving")
            assert bought not in _listed(stub, 30)[1]

    for folder in folders.values():  # exit code 0: enough is new. A person of the platform asks for a run
        enough = said("client", "fresh", "--folder", folder.path)
        assert enough == {"events": 1, "run": first, "at_least": 1, "enough": True}
    second = _run(federation, processes)
    newer = said("server", "publish", second, "--folder", fed.path)["version"]
    for folder in folders.values():
        said("client", "adopt", "--folder", folder.path)
        with _calling(folder) as channel:
            ask = partial(_listed, RecommenderStub(channel), 3)
            federation.wait_for(lambda ask=ask: ask()[0].model_version == newer, "the new model in serving")
        assert said("client", "fresh", "--folder", folder.path, expected=1)["run"] == second
        ledger, site = open_ledger(folder.site()), folder.site()
        assert [(s.run, s.reservations, s.open) for s in ledger.runs()] == [(first, 2, 0), (second, 2, 0)]
        event = plan_for(site, FederationSettings.load(fed.runs / first).instructions).event
        assert ledger.budget().committed == pytest.approx(epsilon([event, event], site.delta), rel=1e-6)
    for name, folder in folders.items():  # with node, worker and service running
        with _calling(folder) as channel:
            stub = RecommenderStub(channel)
            ask = partial(stub.Recommend, m.RecommendRequest(who=m.Who(shopper_id=WHO)))
            assert not ask().cold
            assert traces(folder.path, WHO)
            assert said("client", "erase", WHO, "--folder", folder.path)["feedback"] == 4
            federation.wait_for(lambda ask=ask: ask().cold, "the erasure in serving")
        assert traces(folder.path, WHO) == []
        for table in ("feedback_impressions", "feedback_interactions"):
            assert not [row for row in shops[name].rows(table) if row["shopper"] == WHO]
    for name in (*shops, *(f"serve-{name}" for name in shops), "server"):
        processes.running[name].terminate()
        assert processes.running[name].wait(60) == 0, processes.log(name)


def _enrolled(federation, shop: Shop, port: int) -> ClientFolder:
    """A member whose events, items and feedback are in the shop's database."""
    folder = federation.platform(shop.name, shop.seed)
    site = tomllib.loads(folder.site_file.read_text())
    kept = {key: value for key, value in site.items() if key not in {"events", "items"}}
    folder.site_file.write_text(tomli_w.dumps(kept | shop.sources() | {"serving": {"port": port}}))
    approve(folder.approvals, build_bundle()[1], installed_code(CLIENT_PACKAGES), now())
    return folder


@contextlib.contextmanager
def _calling(folder: ClientFolder) -> Iterator[grpc.Channel]:
    """A channel to a platform's service, on which every call shows the token."""
    serving = folder.site().serving
    with grpc.insecure_channel(f"127.0.0.1:{serving.port}") as channel:
        yield grpc.intercept_channel(channel, Showing(read_token(serving)))


def _listed(stub: RecommenderStub, count: int) -> tuple[m.Header, list[str]]:
    who = m.Who(shopper_id=WHO)
    answer = stub.Recommend(m.RecommendRequest(who=who, count=count), wait_for_ready=True, timeout=120)
    return answer.header, [item.item_id for item in answer.items]


def _buy(stub: RecommenderStub, shop: Shop, version: str) -> str:
    """The shopper sees three items and buys the first, which is in the database when it is acknowledged."""
    header, shown = _listed(stub, 3)
    assert header.model_version == version
    had = {row["sku"] for row in shop.rows("events") if row["customer"] == WHO}
    assert len(shown) == 3
    assert not had & set(shown)
    about = {"request_id": header.request_id, "shopper_id": WHO}
    impression = m.Impression(
        event_id="shown", item_ids=shown, model_version=version, arm=header.arm, **about
    )
    purchase = m.Interaction(event_id="bought", kind="PURCHASE", item_id=shown[0], value=9.5, **about)
    sent = m.RecordFeedbackRequest(impressions=[impression], interactions=[purchase])
    assert stub.RecordFeedback(sent).recorded == 2
    assert [row["item"] for row in shop.rows("feedback_impressions")] == shown
    (row,) = shop.rows("feedback_interactions")
    assert (row["item"], row["kind"], row["value"]) == (shown[0], "purchase", 9.5)
    return shown[0]


def _run(federation, processes) -> str:
    """Train a run to its end and return its name."""
    before = set(federation.folder.runs.glob("*"))
    run = processes.start("run", command("server", "run", "--folder", federation.folder.path))
    assert run.wait(200) == 0, processes.log("run") + processes.log("server")
    (made,) = set(federation.folder.runs.glob("*")) - before
    return made.name


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "fedcart", *map(str, arguments)]


def _said(processes, *arguments: object, expected: int = 0) -> dict:
    """What a command prints as JSON, with the expected exit code."""
    line = command(*arguments, "--format", "json")
    done = subprocess.run(line, env=processes.environment, capture_output=True, text=True, check=False)
    assert done.returncode == expected, done.stderr
    return json.loads(done.stdout)
