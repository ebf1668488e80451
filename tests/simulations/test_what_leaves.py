"""Every byte that a client sends, in whole federations over data full of planted names and rare numbers.

Three platforms of different sizes take part, one has a file that cannot be read, one's budget (or policy) refuses,
and one has a bug whose text holds what must not leave. What each client answers is looked at in both forms in which
Flower sends messages: as one protobuf, and as the tree of objects that a deployed node pushes.
"""

import base64
import hashlib
import importlib.util
import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import structlog
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.serde import message_from_proto
from flwr.proto.message_pb2 import Message as ProtoMessage

import clients.participate as participation
from clients.app import REFUSED
from clients.app import app as client_app
from clients.data.products import published
from clients.platform import read_catalogue
from clients.site import SiteSettings, save_site
from privacy.ledger import Head, Ledger
from server.app import app as server_app
from server.settings import FederationSettings
from shared_model.encoders import HashedWordsEncoder
from shared_model.exchange import fingerprint
from shared_model.features import ENCODERS, make_encoders
from shared_model.instructions import TrainInstructions
from shared_model.stages import Stage
from shared_model.vocabulary import Vocabulary
from shared_model.vocabulary_file import vocabulary_bytes
from simulations.grid import run_server
from tests.collector import collecting
from tests.simulations.planted import COLUMNS, Planted, plant, search, wire

ROUNDS = 2
SIZES = {"alpha": (9, 40), "bravo": (17, 81), "delta": (31, 123)}
"""Good platforms → shoppers and items: nothing that leaves may tell them apart. The names are of one length."""


FAILING = {"brokn": "data", "buggy": "data", "refus": "budget.refused"}


# The federations


@dataclass
class Sent:
    """What one client answered in one round: the bytes, and what a server reads from them."""

    platform: str
    round: int
    bodies: list[bytes]

    @property
    def reply(self) -> Message:
        return message_from_proto(ProtoMessage.FromString(self.bodies[0]))


@pytest.fixture(scope="module")
def patch():
    """Offer a small encoder, so that a round takes milliseconds, and the means to patch more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENCODERS, "sixteen", lambda: HashedWordsEncoder(dimension=16, buckets=2**10))
        yield patch


def vocabulary_of(*folders: tuple[Path, str]) -> Vocabulary:
    """Return what these platforms agreed to publish of their catalogues, beforehand."""
    catalogues = [published(read_catalogue(site_in(folder, name))) for folder, name in folders]
    return Vocabulary.empty().grown(catalogues, make_encoders(["sixteen"]), neighbours=5)


def instructions(epsilon: float, vocabulary: Vocabulary) -> TrainInstructions:
    return TrainInstructions.from_mapping(
        {
            "run_id": "run-1",
            "round": 1,
            "rounds": ROUNDS,
            "epsilon": epsilon,
            "delta": 1e-6,
            "share": 0.5,
            "encoders": "sixteen",
            "vocabulary": vocabulary.digest,
            "products": len(vocabulary),
            "edges": len(vocabulary.edges),
            "seed": 3,
        }
    )


def site_in(folder: Path, name: str, **values) -> SiteSettings:
    given = {
        "name": name,
        "events": folder / f"{name}-verkauf.csv",
        "items": folder / f"{name}-artikel.csv",
        "columns": COLUMNS,
        "population_size": 40,
        "epsilon_cap": 9.0,
        "ledger": str(folder / "ledger.sqlite"),
        "work": folder / "work",
        "cache": folder / "cache",
        "reproducible_noise": True,  # so that no four bytes of noise are ever a planted number by chance
    }
    return SiteSettings.model_validate(given | values)


@dataclass
class Federation:
    """A run: what was planted, what was sent, what the server wrote and what was logged."""

    private: bool
    ask: TrainInstructions
    run: Path
    needles: dict[bytes, str]
    sent: list[Sent]
    logs: str
    traces: bytes

    def good(self) -> list[Sent]:
        return [one for one in self.sent if one.reply.has_content()]


def with_bug(original, secrets):
    """Return `original`, which on the platform of population size 33 fails with a text that must not leave."""

    def read(data, *given):
        if data.settings.population_size == 33:
            raise IndexError(*secrets)
        return original(data, *given)

    return read


@pytest.fixture(scope="module", params=["private", "plain"])
def federation(request, patch, tmp_path_factory):
    private, base = request.param == "private", tmp_path_factory.mktemp("federation")
    run, planted, sites = base / "run", Planted(), []
    folders = {name: base / f"geheimer-ordner-{name}" for name in sorted({*SIZES, *FAILING})}
    for name, folder in folders.items():
        own = plant(folder, name, *SIZES.get(name, (13, 60)), broken=name == "brokn")
        planted.texts |= own.texts
        planted.numbers |= own.numbers
    vocabulary = vocabulary_of(*((folders[name], name) for name in SIZES))
    (base / "vocabulary.safetensors").write_bytes(vocabulary_bytes(vocabulary))
    for name, folder in folders.items():
        size = 33 if name == "buggy" else 40
        plain = not private and name != "refus"
        site = site_in(
            folder,
            name,
            population_size=size,
            allow_plain_training=plain,
            vocabulary=base / "vocabulary.safetensors",
        )
        cap = 2.0 if name == "refus" else site.epsilon_cap
        Ledger.create(Path(site.ledger), population=name, epsilon_cap=cap, delta=site.delta)
        save_site(run / "sites" / f"{len(sites):02}-{name}.toml", site)
        sites.append(site)
    ask, sent = instructions(8.0 if private else 0.0, vocabulary), []
    FederationSettings(sizes={s.name: s.population_size for s in sites}, instructions=ask).save(run)

    def execute(calls):
        replies = []
        for message, context in calls:
            name, number = sites[context.node_id - 1].name, message.content["config"]["round"]
            replies.append(client_app(message, context))
            sent.append(Sent(name, number, wire(replies[-1])))  # at once: the server changes messages
            assert not context.state, "nothing is left with Flower either"
        return replies

    logs = io.StringIO()
    patching = pytest.MonkeyPatch.context()
    with collecting() as collector, patching as bugs, redirect_stdout(logs), redirect_stderr(logs):
        bugs.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        bug = with_bug(participation.read_events, sorted(planted.texts))
        bugs.setattr(participation, "read_events", bug)
        structlog.reset_defaults()  # a worker that ran here before may have left its own
        run_server(server_app, execute, len(sites), {"run-dir": str(run)})
    traces = b"".join(collector.bodies)
    return Federation(private, ask, run, planted.needles(), sent, logs.getvalue(), traces)


def test_nothing_of_the_data_leaves(federation):
    needles, sent, ask, private = federation.needles, federation.sent, federation.ask, federation.private
    assert len(needles) > 20_000
    assert sorted((s.platform, s.round) for s in sent) == [
        (name, number) for name in sorted({*SIZES, *FAILING}) for number in range(1, ROUNDS + 1)
    ]
    assert {s.platform for s in federation.good()} == set(SIZES)
    bodies = [body for one in sent for body in one.bodies]
    assert search(b"\0----\0".join(bodies), needles) == set()
    files = [file.read_bytes() for file in federation.run.iterdir() if file.is_file()]
    assert search(b"\0----\0".join(files), needles) == set(), "nor in what the server makes of it"
    assert search(federation.logs.encode(), needles), (
        "there was something to hide: the platform's own log says what is wrong"
    )

    assert search(federation.traces, needles) == set(), "nor in the spans of both sides"
    assert b"round" in federation.traces
    assert (b"training" in federation.traces) == private

    # only the noised sum of the round's stage and a receipt of agreed fields
    receipt = {"platform": str, "run": str, "round": int, "plan": str, "base": str}
    receipt |= {"update": str, "noise": str}
    if private:
        receipt |= {"committed": float, "cap": float, "delta": float, "head": str, "signature": str}
    for one in federation.good():
        content = one.reply.content
        assert {key: type(record) for key, record in content.items()} == {
            "arrays": ArrayRecord,
            "receipt": ConfigRecord,
        }
        arrays = {name: array.numpy() for name, array in content["arrays"].items()}
        stage = (Stage.POPULARITY, Stage.EDGES)[one.round - 1]
        ask.shape.answer(stage).validate(arrays, one.platform)
        assert set(arrays) == {stage.value}
        assert all(np.abs(array).sum() > 0 for array in arrays.values())
        assert {key: type(value) for key, value in content["receipt"].items()} == receipt
        if private:
            assert set(json.loads(content["receipt"]["head"])) == {
                *("population", "seq", "hash", "public_key", "signature")
            }

    # errors are a name and a code
    codes = FAILING if private else FAILING | {"refus": "policy"}
    for one in sent:
        if one.platform in codes:
            assert not one.reply.has_content()
            error = one.reply.error
            assert (error.code, error.reason) == (REFUSED, f"{one.platform}:{codes[one.platform]}")


def test_how_much_data_a_platform_has_shows_nowhere(federation):
    """Beside noised tensors, everything is the same for nine shoppers and for thirty-one."""
    # sorted: a tree's objects stand in the order of their hashes
    for number in range(1, ROUNDS + 1):
        lengths = {tuple(sorted(map(len, s.bodies))) for s in federation.good() if s.round == number}
        assert len(lengths) == 1, "a round's message is of one length, whoever sends it"
        said = []
        for one in federation.good():
            if one.round == number:
                receipt = dict(one.reply.content["receipt"])
                assert receipt.pop("platform") == one.platform
                arrays = {name: array.numpy() for name, array in one.reply.content["arrays"].items()}
                assert receipt.pop("update") == fingerprint(arrays), "what is said of an update is the update"
                if federation.private:
                    head = Head.from_text(receipt.pop("head"))
                    assert head.population == one.platform
                    receipt["entries"] = head.seq + 1
                    assert len(receipt.pop("signature")) == 128
                said.append(receipt)
        assert len(said) == len(SIZES)
        assert all(other == said[0] for other in said)
    failed = {(len(one.bodies[0]), one.platform) for one in federation.sent if not one.reply.has_content()}
    assert len(failed) == len(FAILING), "a refusal is of the same length in every round"


def test_the_signed_receipt_is_a_function_of_what_is_sent_whatever_the_data(patch, tmp_path, monkeypatch):
    """Same key, clock, request and noised tensors, other shoppers, items and events: the same receipt, byte for byte."""

    def clock():
        return datetime(2026, 3, 1, tzinfo=UTC)

    def opened(site):
        return Ledger.open(Path(site.ledger), population=site.population, clock=clock)

    released = participation._released
    own: list[dict] = []

    def same_tensors(this, data):
        own.append(released(this, data))
        return own[0]

    monkeypatch.setattr(participation, "open_ledger", opened)
    monkeypatch.setattr(participation, "_released", same_tensors)
    contributions = []
    folders = [tmp_path / str(number) for number in range(len(SIZES))]
    for folder, (shoppers, items) in zip(folders, SIZES.values(), strict=True):
        plant(folder, "alpha", shoppers, items)
    vocabulary = vocabulary_of(*((folder, "alpha") for folder in folders))
    (tmp_path / "vocabulary.safetensors").write_bytes(vocabulary_bytes(vocabulary))
    ask = instructions(8.0, vocabulary)
    for number, folder in enumerate(folders):
        site = site_in(folder, "alpha", vocabulary=tmp_path / "vocabulary.safetensors")
        if number == 0:
            Ledger.create(
                Path(site.ledger), population="alpha", epsilon_cap=9.0, delta=site.delta, clock=clock
            )
            ledger, key = Path(site.ledger).read_bytes(), Path(f"{site.ledger}.key").read_bytes()
        Path(site.ledger).write_bytes(ledger)
        Path(f"{site.ledger}.key").write_bytes(key)
        Path(f"{site.ledger}.key").chmod(0o600)
        (site.work / "outbox").mkdir(parents=True)
        (site.work / "outbox" / "id").write_text("0" * 32)
        contributions.append(participation.participate(site, ask, {}))
    first, *others = contributions
    for other in others:
        assert (other.receipt, other.statement) == (first.receipt, first.statement)
    assert len({fingerprint(arrays) for arrays in own}) == len(SIZES), "the data differ"


@pytest.mark.parametrize("round", [1, 2])
def test_one_shopper_moves_what_leaves_by_a_row_of_norm_one_and_else_nothing(patch, tmp_path, round):
    """The same noise for neighbours: their sums differ by one shopper's row, and their receipts by names of the sums."""
    tmp_path = tmp_path / "alpha"
    plant(tmp_path, "alpha", 17, 81)
    vocabulary = vocabulary_of((tmp_path, "alpha"))
    (tmp_path / "vocabulary.safetensors").write_bytes(vocabulary_bytes(vocabulary))
    ask = instructions(8.0, vocabulary).model_copy(update={"round": round})
    given = {} if round == 1 else {"temper": np.full(len(vocabulary), 1.0, np.float32)}
    shoppers = pd.read_csv(tmp_path / "alpha-verkauf.csv")
    sums, said = [], []
    for gone in (None, *shoppers[COLUMNS["user"]].unique()):
        shoppers[shoppers[COLUMNS["user"]] != gone].to_csv(tmp_path / "alpha-verkauf.csv", index=False)
        own = {"ledger": str(tmp_path / f"{len(sums)}.sqlite"), "work": tmp_path / str(len(sums))}
        site = site_in(tmp_path, "alpha", vocabulary=tmp_path / "vocabulary.safetensors", **own)
        Ledger.create(Path(site.ledger), population="alpha", epsilon_cap=9.0, delta=site.delta)
        made = participation.participate(site, ask, given)
        (array,) = made.arrays.values()
        sums.append(array.astype(np.float64))
        names = {"update", "head", "signature"}
        said.append({key: value for key, value in made.receipt.to_mapping().items() if key not in names})
    moved = [float(np.linalg.norm(one - sums[0])) for one in sums[1:]]
    assert len(moved) == 17
    assert max(moved) == pytest.approx(1, abs=1e-5), "a row is as long as it may be"
    assert all(one == said[0] for one in said)


def test_a_client_s_log_stays_on_its_machine():
    """Flower uploads the logs of servers and of simulations, and not those of a deployed node's client."""

    def source(module: str) -> str:
        return Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8")

    assert "start_log_uploader(" in source("flwr.superlink.runtime.run_serverapp")
    for module in ("flwr.supernode.runtime.run_clientapp", "flwr.supernode.start_client_internal"):
        assert "log_uploader" not in source(module)
        assert "PushLogs" not in source(module)


# The search finds what it should


def leaks(planted: Planted) -> dict[str, Message | Error]:
    name = next(t for t in sorted(planted.texts) if t.startswith("Kundin"))
    when = next(n for n in sorted(planted.numbers) if 1.6e9 < n < 1.7e9)
    price = min(planted.numbers)
    receipt = {
        "text": name,
        "lower": name.lower(),
        "utf16": name.encode("utf-16-le"),
        "hex": name.encode().hex(),
        "base64": base64.b64encode(b"x" + name.encode() + b"yz").decode(),
        "urlsafe": base64.urlsafe_b64encode(b"xy" + name.encode() + b"z").decode(),
        "hashed": hashlib.sha256(name.encode()).hexdigest(),
        "inside": f"could not read {name}, giving up",
        "time": int(when),
        "milliseconds": int(when) * 1000,
        "float time": float(when),
        "price": price,
        "price as text": f"costs {price:.2f}",
    }
    contents = {key: RecordDict({"receipt": ConfigRecord({"x": value})}) for key, value in receipt.items()}
    contents["key"] = RecordDict({"receipt": ConfigRecord({name: 1})})
    contents["record"] = RecordDict({name: MetricRecord({})})
    contents["metric"] = RecordDict({"metrics": MetricRecord({"x": [0.5, price]})})
    arrays = {
        "float32": np.array([0.25, price], np.float32),
        "float64": np.array([price]),
        "big-endian": np.array([price], ">f4"),
        "int64": np.array([int(when)]),
        "nanoseconds": np.array([int(when) * 10**9]),
    }
    contents |= {k: RecordDict({"a": ArrayRecord({"x": Array(array)})}) for k, array in arrays.items()}
    contents["tensor's name"] = RecordDict({"a": ArrayRecord({name: Array(np.zeros(1))})})
    return contents | {"error": Error(REFUSED, f"alpha:{name}")}


@pytest.mark.usefixtures("flower")
def test_a_leak_of_each_kind_would_be_found(tmp_path):
    planted = plant(tmp_path / "data", "alpha", 9, 40)
    needles = planted.needles()
    request = Message(RecordDict({}), dst_node_id=7, message_type="train")
    request.metadata.__dict__["_message_id"] = "request"
    assert search(wire(Message(RecordDict({}), reply_to=request))[0], needles) == set()
    for kind, leak in leaks(planted).items():
        protobuf, *objects = wire(Message(leak, reply_to=request))
        assert search(protobuf, needles), kind
        assert search(b"".join(objects), needles), kind
