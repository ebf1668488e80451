"""Only a whole reply of a member, for this round of this run, is averaged."""

import io
import json
import math

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from privacy.ledger import Witness
from server import replies as module
from shared_model.model import initial_shared


@pytest.fixture
def sort_replies(tmp_path):
    """Sort with a witness that has seen nothing."""

    def sort(replies, ask, settings):
        start = ask.spec.exchange.to_numpy(initial_shared(ask.spec), "start")
        return module.sort_replies(replies, module.Question(ask, start), settings, Witness(tmp_path), {})

    return sort


@pytest.fixture
def asked(kit):
    """Return settings, instructions, the request's message for a node, and good arrays."""
    settings = kit.settings()
    ask = settings.instructions
    arrays = ask.spec.exchange.to_numpy(initial_shared(ask.spec), "start")

    def message(node):
        record = ArrayRecord({name: Array(array) for name, array in arrays.items()})
        content = RecordDict({"arrays": record, "config": ConfigRecord(ask.model_dump())})
        request = Message(content, dst_node_id=node, message_type="train")
        request.metadata.__dict__["_message_id"] = f"message-{node}"
        return request

    return settings, ask, message, arrays


def test_good_replies_come_by_name_with_their_declared_weight(kit, asked, sort_replies):
    settings, ask, message, arrays = asked
    replies = [
        kit.reply(message(node), name, arrays, weight=1e9)
        for node, name in enumerate(("toys", "beauty", "games", "food"), 1)
    ]
    good, bad = sort_replies(replies, ask, settings)
    assert [reply.platform for reply in good] == ["beauty", "food", "games", "toys"]
    assert bad == []
    for reply in good:
        assert dict(reply.message.content["metrics"]) == {"weight": settings.weights[reply.platform]}
        assert reply.receipt.committed == 1.5


def test_tensors_come_in_the_spec_s_order_whatever_the_sender_s(kit, asked, sort_replies):
    settings, ask, message, arrays = asked
    backwards = dict(reversed(arrays.items()))
    (good,), _ = sort_replies([kit.reply(message(1), "toys", backwards)], ask, settings)
    assert list(good.message.content["arrays"]) == [t.name for t in ask.spec.exchange.tensors]
    for name, array in arrays.items():
        np.testing.assert_array_equal(good.message.content["arrays"][name].numpy(), array)


def test_more_metrics_than_the_weight_do_not_pass(kit, asked, sort_replies):
    settings, ask, message, arrays = asked
    reply = kit.reply(message(1), "toys", arrays)
    reply.content["metrics"]["users"] = 1234
    (good,), _ = sort_replies([reply], ask, settings)
    assert set(good.message.content["metrics"]) == {"weight"}


@pytest.mark.parametrize(
    ("receipt", "said"),
    [
        ({"round": 2}, "replied for round 2"),
        ({"run": "run-0"}, "of 'run-0'"),
        ({"round": "1"}, "replied for round '1'"),
        ({"plan": "0" * 64}, "trained by another plan"),
        ({"base": "0" * 64}, "trained by another base model"),
        ({"plan": None}, "trained by another plan"),
        ({"base": 7}, "trained by another base model"),
        ({"platform": "stranger"}, "is no member of this run (beauty, food, games, toys)"),
        ({"platform": 7}, "node 1: is no member"),
        ({"committed": math.nan}, "committed is a finite number, not nan"),
        ({"committed": math.inf}, "committed is a finite number, not inf"),
        ({"committed": "much"}, "committed is a finite number, not 'much'"),
        ({"committed": [1.0]}, "committed is a finite number, not [1.0]"),
        ({"delta": math.nan}, "delta is a finite number"),
        ({"delta": 1e-9}, "says ε at delta 1e-09, and the run's is 1e-06"),
        ({"cap": None}, "exactly the fields"),
        ({"users": 1234}, "exactly the fields"),
        ({"noise": "x" * 201}, "noise is text of at most 200 characters"),
    ],
)
def test_a_receipt_that_does_not_fit_is_refused(kit, asked, sort_replies, receipt, said):
    settings, ask, message, arrays = asked
    good, (bad,) = sort_replies([kit.reply(message(1), "toys", arrays, receipt=receipt)], ask, settings)
    assert good == []
    assert said in bad.reason


def without(arrays, name):
    return {key: array for key, array in arrays.items() if key != name}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a | {"item_embeddings": np.zeros((3, 3), np.float32)}, "unknown ['item_embeddings']"),
        (lambda a: without(a, "residual_in"), "missing ['residual_in']"),
        (lambda a: a | {"log_isolation": np.array([np.nan], np.float32)}, "NaN or inf"),
        (lambda a: a | {"log_isolation": np.array([np.inf], np.float32)}, "NaN or inf"),
        (lambda a: a | {"log_isolation": np.zeros((1, 1), np.float32)}, "log_isolation"),
        (lambda a: a | {"log_isolation": np.zeros(1)}, "float64"),
        (
            lambda a: a | {"log_isolation": np.array([0.041], np.float32)},
            "2 steps of training move it by 0.04003 at most",
        ),
        (lambda a: {name: array * np.float32(-1e30) for name, array in a.items()}, "'residual_in' moved by"),
        (
            lambda a: a | {"residual_out": a["residual_out"] + np.float32(3e38)},
            "'residual_out' moved by 3e+38",
        ),
        (lambda _: {}, "missing"),
    ],
)
def test_arrays_that_the_spec_does_not_admit_are_refused(kit, asked, sort_replies, change, said):
    settings, ask, message, arrays = asked
    good, (bad,) = sort_replies([kit.reply(message(1), "toys", change(arrays))], ask, settings)
    assert good == []
    assert bad.platform == "toys"
    assert said in bad.reason


def pickled():
    body = io.BytesIO()
    np.save(body, np.array([print], dtype=object), allow_pickle=True)
    return body.getvalue()


@pytest.mark.parametrize(
    "data", [b"", b"garbage", b"\x93NUMPY\x01\x00", pickled()], ids=["empty", "garbage", "cut", "pickle"]
)
def test_arrays_that_cannot_be_decoded_are_refused(kit, asked, sort_replies, data):
    settings, ask, message, arrays = asked
    reply = kit.reply(message(1), "toys", arrays)
    reply.content["arrays"]["log_isolation"] = Array(
        dtype="float32", shape=(1,), stype="numpy.ndarray", data=data
    )
    good, (bad,) = sort_replies([reply, kit.reply(message(2), "food", arrays)], ask, settings)
    assert [g.platform for g in good] == ["food"]
    assert "cannot be decoded" in bad.reason


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("receipt"),
        lambda c: c.pop("metrics"),
        lambda c: c.pop("arrays"),
        lambda c: c.update({"more": MetricRecord({"loss": 0.5})}),
        lambda c: c.update({"receipt": MetricRecord({"round": 1})}),
        lambda c: c.update({"arrays": MetricRecord({"a": 1})}),
        lambda c: c.update({"metrics": ConfigRecord({"weight": 1.0})}),
    ],
)
def test_a_reply_of_another_shape_is_refused_and_the_others_count(kit, asked, sort_replies, change):
    settings, ask, message, arrays = asked
    reply = kit.reply(message(1), "toys", arrays)
    change(reply.content)
    good, (bad,) = sort_replies([reply, kit.reply(message(2), "food", arrays)], ask, settings)
    assert [g.platform for g in good] == ["food"]
    assert "must hold arrays, metrics and a receipt" in bad.reason


def test_a_platform_counts_once_a_round(kit, asked, sort_replies):
    settings, ask, message, arrays = asked
    moved = {name: array + np.float32(0.01) for name, array in arrays.items()}
    replies = [kit.reply(message(1), "toys", arrays), kit.reply(message(2), "toys", moved)]
    (good,), (bad,) = sort_replies(replies, ask, settings)
    np.testing.assert_array_equal(
        good.message.content["arrays"]["log_isolation"].numpy(), arrays["log_isolation"]
    )
    assert (bad.platform, bad.reason) == ("toys", "toys: replied twice in round 1")


@pytest.mark.parametrize(
    ("reason", "platform", "code"),
    [
        ("toys:budget.refused", "toys", "budget.refused"),
        ("", "node 3", "no reason given"),
        ("toys", "toys", "no reason given"),
    ],
)
def test_an_error_is_reported_by_platform_and_code(kit, asked, sort_replies, reason, platform, code):
    settings, ask, message, _ = asked
    good, (bad,) = sort_replies([kit.failing(message(3), reason)], ask, settings)
    assert good == []
    assert (bad.platform, bad.reason) == (platform, code)


def text(kit, **changes):
    return json.dumps(kit.head("toys", 2).to_json() | changes)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (lambda kit: None, "exactly the fields"),
        (lambda kit: 7, "a head is text"),
        (lambda kit: math.nan, "a head is text"),
        (lambda kit: "", "one JSON object"),
        (lambda kit: text(kit, seq=math.nan), "exactly the fields"),
        (lambda kit: text(kit, seq=-1), "seq is a whole number"),
        (lambda kit: text(kit, users=1234), "exactly the fields"),
        (lambda kit: text(kit) + " " * 1000, "at most 1000 characters"),
        (lambda kit: text(kit, seq=3), "signature"),
        (lambda kit: text(kit, hash="0" * 64), "signature"),
        (lambda kit: text(kit, signature="0" * 128), "signature"),
        (lambda kit: text(kit, public_key=kit.head("food", 2).public_key), "signature"),
        (lambda kit: text(kit, public_key="f" * 64), "head"),
    ],
)
def test_a_head_that_is_not_the_platform_s_own_makes_a_bad_reply(kit, asked, sort_replies, head, said):
    settings, ask, message, arrays = asked
    replies = [
        kit.reply(message(1), "toys", arrays, receipt={"head": head(kit)}),
        kit.reply(message(2), "food", arrays),
    ]
    good, (bad,) = sort_replies(replies, ask, settings)
    assert [(g.platform, g.head) for g in good] == [("food", kit.head("food", 2))]
    assert (bad.platform, bad.head) == ("toys", None)
    assert bad.reason.startswith("toys: its receipt is not good: ")
    assert said in bad.reason


@pytest.mark.parametrize(
    ("key", "said"), [("food", "another member's ledger, 'food'"), ("toys", "signature")]
)
def test_the_ledger_of_another_member_makes_a_bad_reply(kit, asked, sort_replies, key, said):
    settings, ask, message, arrays = asked
    theirs = {"head": kit.head("food", 2).to_text()}
    good, (bad,) = sort_replies(
        [kit.reply(message(1), "toys", arrays, receipt=theirs, key=key)], ask, settings
    )
    assert good == []
    assert said in bad.reason


@pytest.mark.parametrize(
    "change",
    [{"committed": 0.5}, {"cap": 99.0}, {"delta": 1e-9}, {"noise": "another"}, {"signature": "0" * 128}],
)
def test_a_receipt_that_its_ledger_s_key_did_not_sign_is_refused(kit, asked, sort_replies, change):
    settings, ask, message, arrays = asked
    reply = kit.reply(message(1), "toys", arrays)
    reply.content["receipt"].update(change)
    good, (bad,) = sort_replies([reply], ask, settings)
    assert good == []
    assert bad.code == "reply.receipt"
    assert "its signature is not from the key of its ledger" in bad.reason


def test_a_receipt_is_for_the_tensors_that_come_with_it(kit, asked, sort_replies):
    settings, ask, message, arrays = asked
    others = {name: array + np.float32(0.001) for name, array in arrays.items()}
    reply = kit.reply(message(1), "toys", arrays)
    reply.content["arrays"] = kit.reply(message(1), "toys", others).content["arrays"]
    good, (bad,) = sort_replies([reply], ask, settings)
    assert (good, bad.code) == ([], "reply.receipt")
    assert "not for this one" in bad.reason


def test_a_receipt_of_another_round_cannot_be_sent_again(kit, asked, sort_replies):
    """Neither as it is nor with the new round's numbers under the old signature."""
    settings, ask, message, arrays = asked
    for changes in ({"round": 2}, {"plan": "0" * 64}, {"base": "0" * 64}, {"run": "run-0"}):
        old = kit.reply(message(1), "toys", arrays, receipt=changes)
        now = dict(kit.reply(message(1), "toys", arrays).content["receipt"])
        good, (bad,) = sort_replies([old], ask, settings)
        assert (good, bad.code) == ([], "reply.stale")
        old.content["receipt"].update({name: now[name] for name in changes})
        good, (bad,) = sort_replies([old], ask, settings)
        assert (good, bad.code) == ([], "reply.receipt")


def test_a_run_without_privacy_has_no_ledger_and_needs_no_head(kit, asked, sort_replies):
    settings, ask, message, arrays = asked
    plain = ask.model_copy(update={"epsilon": 0.0})
    said = {"head": None, "plan": plain.fingerprint}
    replies = [kit.reply(message(1), "toys", arrays, receipt=said)]
    (good,), _ = sort_replies(replies, plain, settings)
    assert good.head is None


def test_a_ledger_that_went_back_makes_a_bad_reply_that_says_so(kit, asked, tmp_path):
    settings, ask, message, arrays = asked
    witness = Witness(tmp_path)
    witness.keep(1, {"toys": kit.head("toys", 5), "food": kit.head("food", 1)})
    replies = [kit.reply(message(1), "toys", arrays), kit.reply(message(2), "food", arrays)]
    (good,), (bad,) = module.sort_replies(replies, module.Question(ask, arrays), settings, witness, {})
    assert good.platform == "food"
    assert (bad.platform, bad.head) == ("toys", kit.head("toys", 2))
    assert bad.reason.startswith(
        "ledger.rollback: the ledger of 'toys' went back: entry 2 came after entry 5"
    )


def test_a_ledger_may_have_a_population_of_another_name_but_one_owner(kit, asked, tmp_path):
    settings, ask, message, arrays = asked
    shared, stranger = kit.head("shoppers", 4, key="toys"), kit.head("shoppers", 4, key="games")
    replies = [
        kit.reply(message(1), "toys", arrays, receipt={"head": shared.to_text()}),
        kit.reply(message(2), "games", arrays, receipt={"head": stranger.to_text()}),
    ]
    witness = Witness(tmp_path)
    (good,), _ = module.sort_replies(replies[:1], module.Question(ask, arrays), settings, witness, {})
    witness.keep(1, {good.platform: good.head})
    (again,), (bad,) = module.sort_replies(replies, module.Question(ask, arrays), settings, witness, {})
    assert again.platform == "toys"
    assert (bad.platform, bad.head) == ("games", None)
    assert bad.reason.startswith("ledger.mismatch: the ledger of 'games' names the population 'shoppers'")


CODES = [
    (lambda r: r.content.pop("metrics"), "reply.form"),
    (lambda r: r.content["receipt"].update({"round": 9}), "reply.stale"),
    (lambda r: r.content["receipt"].update({"base": "0" * 64}), "reply.stale"),
    (lambda r: r.content["receipt"].update({"platform": "stranger"}), "reply.stranger"),
    (lambda r: r.content["receipt"].update({"committed": math.nan}), "reply.receipt"),
    (lambda r: r.content["receipt"].update({"head": "?"}), "reply.receipt"),
    (lambda r: r.content["arrays"].pop("log_isolation"), "exchange"),
    (lambda r: put(r, math.nan), "exchange.not-finite"),
    (lambda r: put(r, 1e30), "exchange.reach"),
]


def put(reply, value):
    reply.content["arrays"]["log_isolation"] = Array(np.array([value], np.float32))


@pytest.mark.parametrize(("change", "code"), CODES)
def test_every_refusal_has_a_public_code(kit, asked, sort_replies, change, code):
    settings, ask, message, arrays = asked
    reply = kit.reply(message(1), "toys", arrays)
    change(reply)
    good, (bad,) = sort_replies([reply, kit.reply(message(2), "food", arrays)], ask, settings)
    assert [g.platform for g in good] == ["food"]
    assert bad.code == code


@pytest.mark.parametrize(
    ("number", "reason", "code"),
    [
        (100, "toys:budget.refused", "budget.refused"),
        (100, "toys:<b>Kundin 7</b>", "node"),
        (100, f"toys:{'a' * 5}.B", "node"),
        (2, "toys:data", "node"),
        (5, "Error: Node Unavailable", "node"),
    ],
)
def test_only_a_client_s_own_code_is_taken_for_one(asked, sort_replies, number, reason, code):
    settings, ask, message, _ = asked
    _, (bad,) = sort_replies([Message(Error(number, reason), reply_to=message(1))], ask, settings)
    assert bad.code == code
