"""The ClientApp: what a reply holds, and that an error says nothing about the data.

Every byte of whole federations is looked at in `tests/simulations/test_what_leaves.py`.
"""

import json
import sqlite3
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.common.serde import message_to_proto

from clients import app as module
from clients.app import app, find_site
from clients.errors import DataError, OutboxError, PolicyError, SiteError
from clients.site import load_site, save_site
from privacy.errors import BudgetRefusedError, LedgerTamperedError, MechanismError
from privacy.ledger import Head, Kind, Receipt, Statement
from privacy.ledger.keys import key_path, load_key_file
from shared_model.errors import FedcartError

SECRET = "shopper-4711-bought-a-secret"
pytestmark = pytest.mark.usefixtures("flower")


def context_of(node_config=None, run_config=None):
    return Context(
        run_id=1, node_id=7, node_config=node_config or {}, state=RecordDict(), run_config=run_config or {}
    )


def message_of(ask, arrays, config=None):
    content = RecordDict(
        {
            "arrays": ArrayRecord({name: Array(array) for name, array in arrays.items()}),
            "config": ConfigRecord(ask.model_dump() | (config or {})),
        }
    )
    message = Message(content, dst_node_id=7, message_type="train")
    message.metadata.__dict__["_message_id"] = "request"
    return message


@pytest.fixture
def call(make_site, ask, start, tmp_path):
    """Return what sends a request through the app to a fresh site, and returns the reply."""
    site = make_site()
    save_site(tmp_path / "client.toml", site)

    def send(config=None, arrays=None, node_config=None):
        given = start(ask) if arrays is None else arrays
        context = context_of(node_config or {"site": str(tmp_path / "client.toml")})
        return app(message_of(ask, given, config), context)

    send.site, send.ask = site, ask
    return send


def wire(reply):
    return message_to_proto(reply).SerializeToString()


def test_a_reply_holds_shared_tensors_the_declared_weight_and_what_was_spent(call, ask):
    reply = call()
    assert set(reply.content) == {"arrays", "metrics", "receipt"}
    arrays = {name: array.numpy() for name, array in reply.content["arrays"].items()}
    ask.spec.exchange.validate(arrays, "reply")
    assert dict(reply.content["metrics"]) == {"weight": 20.0}
    receipt = dict(reply.content["receipt"])
    assert set(receipt) == {
        *(field.name for field in fields(Statement)),
        *("committed", "cap", "delta", "head", "signature"),
    }
    assert (receipt["platform"], receipt["run"], receipt["round"]) == ("toys", "run-1", 1)
    assert (receipt["cap"], receipt["delta"]) == (9.0, 1e-6)
    assert 0 < receipt["committed"] < 9


def test_the_receipt_is_signed_by_the_ledger_s_key(call):
    receipt = Receipt.from_mapping(dict(call().content["receipt"]))
    receipt.check()
    key = load_key_file(key_path(Path(call.site.ledger))).public_key()
    receipt.head.check(key)


def test_the_head_is_the_ledger_s_after_it_was_settled(call, ledger_of):
    first = Head.from_text(call().content["receipt"]["head"])
    ledger = ledger_of(call.site)
    assert first == ledger.head()
    assert [entry.kind for entry in ledger.history()][first.seq] is Kind.SETTLE
    assert first.population == "toys"
    first.check(load_key_file(key_path(Path(call.site.ledger))).public_key())
    assert Head.from_text(call().content["receipt"]["head"]) == first, "asked again: the same head"
    ledger.note("something else happened")
    later = Head.from_text(call().content["receipt"]["head"])
    assert later == ledger.head() != first, "or a later one"
    assert ledger.verify([first, later]).ok


def test_without_privacy_there_is_no_ledger_and_no_head(make_site, call, tmp_path):
    save_site(tmp_path / "client.toml", make_site(cap=None, allow_plain_training=True))
    receipt = dict(call({"epsilon": 0.0}).content["receipt"])
    assert set(receipt) == {"platform", "run", "round", "plan", "base", "update", "noise"}


class VeryOddError(Exception):
    """A bug's exception, whose text and name hold what must not leave."""


ERRORS = [
    (ValueError(SECRET), "internal"),
    (KeyError(SECRET), "internal"),
    (RuntimeError(SECRET), "internal"),
    (UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET), "internal"),
    (MemoryError(SECRET), "internal"),
    (RecursionError(SECRET), "internal"),
    (sqlite3.OperationalError(SECRET), "internal"),
    (np.linalg.LinAlgError(SECRET), "internal"),
    (VeryOddError(SECRET), "internal"),
    (FedcartError(SECRET), "internal"),
    (DataError(SECRET), "data"),
    (SiteError(SECRET), "site"),
    (PolicyError(SECRET), "policy"),
    (OutboxError(SECRET), "outbox"),
    (BudgetRefusedError(SECRET), "budget.refused"),
    (LedgerTamperedError(SECRET), "ledger.tampered"),
    (MechanismError(SECRET), "mechanism.refused"),
]


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=[type(e).__name__ for e, _ in ERRORS])
def test_every_error_leaves_as_platform_and_code(call, monkeypatch, error, code):
    def fail(*_):
        try:
            raise ValueError(SECRET + " first")
        except ValueError as first:
            raise error from first

    monkeypatch.setattr(module, "participate", fail)
    reply = call()
    assert (reply.error.code, reply.error.reason) == (module.REFUSED, f"toys:{code}")
    assert not reply.has_content()
    assert SECRET.encode() not in wire(reply)


@pytest.mark.parametrize("where", ["load_platform", "training_data", "leave_one_out"])
def test_a_bug_deep_inside_says_nothing_either(call, monkeypatch, where):
    def fail(*_, **__):
        raise IndexError(SECRET)

    for name in ("clients.platform", "clients.participate"):
        monkeypatch.setattr(f"{name}.{where}", fail, raising=False)
    reply = call()
    assert reply.error.reason == "toys:data"
    assert SECRET.encode() not in wire(reply)


def test_a_bug_in_training_does_not_show_at_all(call, start, ask, monkeypatch):
    def fail(*_, **__):
        raise IndexError(SECRET)

    monkeypatch.setattr("clients.participate.train_private", fail)
    reply = call()
    arrays = {name: array.numpy() for name, array in reply.content["arrays"].items()}
    assert all(np.array_equal(arrays[name], array) for name, array in start(ask).items())
    assert SECRET.encode() not in wire(reply)


def test_a_bad_file_is_told_to_the_platform_and_not_to_the_server(call, capsys):
    call.site.events.write_text(f"user_id,{SECRET},timestamp\n{SECRET},{SECRET},never\n")
    reply = call()
    assert reply.error.reason == "toys:data"
    assert SECRET.encode() not in wire(reply)
    out = capsys.readouterr()
    assert SECRET in out.out + out.err  # the person at the platform can see what is wrong


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"epsilon": float("nan")}, "bad-input"),
        ({"more": 1}, "bad-input"),
        ({"round": 0}, "bad-input"),
        ({"epsilon": 0.0}, "policy"),
        ({"delta": 1e-5}, "policy"),
        ({"encoder_identities": "[]"}, "encoder"),
        ({"width": 5}, "exchange"),
    ],
)
def test_each_refusal_has_its_code(call, config, code):
    assert call(config).error.reason == f"toys:{code}"


def test_a_cap_below_what_the_run_needs_has_its_code(call, ledger_of):
    ledger_of(call.site).change_cap(5.0, "test")
    assert call().error.reason == "toys:budget.refused"


def test_a_message_without_its_records_is_answered(make_site, tmp_path):
    save_site(tmp_path / "client.toml", make_site())
    message = Message(RecordDict({}), dst_node_id=7, message_type="train")
    message.metadata.__dict__["_message_id"] = "request"
    reply = app(message, context_of({"site": str(tmp_path / "client.toml")}))
    assert reply.error.reason == "toys:internal"


def test_without_a_site_the_node_is_named(call, tmp_path):
    assert call(node_config={"site": str(tmp_path / "missing.toml")}).error.reason == "node-7:site"


# Which site is this node's?


def test_a_node_s_own_site_comes_first(make_site, tmp_path):
    site = make_site()
    save_site(tmp_path / "client.toml", site)
    save_site(tmp_path / "run" / "sites" / "00-other.toml", site.model_copy(update={"name": "other"}))
    context = context_of(
        {"site": str(tmp_path / "client.toml"), "partition-id": 0}, {"run-dir": str(tmp_path / "run")}
    )
    assert find_site(context) == load_site(tmp_path / "client.toml")


def test_a_simulated_node_takes_the_site_of_its_number(make_site, tmp_path):
    site = make_site()
    for number, name in enumerate(("toys", "food", "beauty")):
        path = tmp_path / "sites" / f"{number:02}-{name}.toml"
        save_site(path, site.model_copy(update={"name": name}))
    run = {"run-dir": str(tmp_path)}
    names = [find_site(context_of({"partition-id": n}, run)).name for n in range(3)]
    assert names == ["toys", "food", "beauty"]
    with pytest.raises(SiteError, match="holds 3 sites, and this is node 3"):
        find_site(context_of({"partition-id": 3}, run))


@pytest.mark.parametrize(
    ("node_config", "run_config"), [({}, {}), ({"site": ""}, {"run-dir": ""}), ({}, {"run-dir": "somewhere"})]
)
def test_a_node_without_a_site_is_told_how_to_get_one(node_config, run_config):
    with pytest.raises(SiteError, match="--node-config"):
        find_site(context_of(node_config, run_config))


def test_the_receipt_is_plain_json(call):
    json.dumps(dict(call().content["receipt"]))
