"""Replies are checked before anything is averaged: who, for what, which tensors, how far they moved, which weight.

| a reply …                                             | code of its refusal          |
|-------------------------------------------------------|------------------------------|
| of other records than arrays, metrics and a receipt   | `reply.form`                 |
| of somebody who is no member, or for another platform | `reply.stranger`             |
| for another run, round, plan or base model            | `reply.stale`                |
| that is its platform's second                         | `reply.twice`                |
| whose receipt is not signed by its ledger's key, has  | `reply.receipt`              |
| no good ε or ledger head, or is for another update    |                              |
| with other tensors, shapes or types, or undecodable   | `exchange`                   |
| with NaN or inf                                       | `exchange.not-finite`        |
| further from the start than training moves it         | `exchange.reach`             |
| whose ledger went back, is another than enrolled, or  | `ledger.rollback`, `ledger.mismatch` |
| is another's                                          |                              |
| that says no by itself                                | the client's own code        |
| of Flower, for a node that is gone                    | `node`                       |

Codes are public; none depends on data.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray

from privacy.errors import LedgerError, LedgerRolledBackError
from privacy.ledger import Head, Receipt
from privacy.plain import WORDS, plain
from server.errors import ReplyError
from server.settings import FederationSettings
from server.strategies import WEIGHT_KEY
from shared_model.errors import ExchangeError
from shared_model.exchange import fingerprint
from shared_model.instructions import TrainInstructions
from shared_model.reach import require_reach


@dataclass(frozen=True)
class GoodReply:
    """A validated reply, its message carrying the declared weight of its platform.

    `receipt` is signed by the key of the platform's ledger, and `noise` is what it says of its noise; without privacy
    there is no receipt, and `noise` is the platform's unsigned word.
    """

    platform: str
    message: Message
    noise: str
    receipt: Receipt | None

    @property
    def head(self) -> Head | None:
        """The signed head of the platform's ledger, None without privacy."""
        return None if self.receipt is None else self.receipt.head


@dataclass(frozen=True)
class BadReply:
    """A reply that does not count, and why; `head` if it contradicts what the witness holds of the platform."""

    platform: str
    code: str
    reason: str
    head: Head | None = None


def refused(platform: str, code: str, reason: str, head: Head | None = None) -> BadReply:
    """A reply that does not count, its sender's words made plain before they are shown, logged or counted."""
    return BadReply(plain(platform, _NAME), code, plain(reason, 2 * WORDS), head)


_NAME = 64
"""Most characters of a platform's name, and of a code."""


@dataclass(frozen=True)
class Question:
    """What all members were asked in one round: instructions as they were sent, and the tensors to begin with."""

    ask: TrainInstructions
    arrays: Mapping[str, NDArray]

    @cached_property
    def base(self) -> str:
        """The fingerprint of the tensors."""
        return fingerprint(self.arrays)


class Judge(Protocol):
    """Who knows earlier heads of the platforms' ledgers."""

    def judge(self, platform: str, head: Head) -> None:
        """Raise LedgerError if the head does not count."""


def sort_replies(
    replies: Iterable[Message],
    question: Question,
    settings: FederationSettings,
    witness: Judge,
    registered: Mapping[str, str],
) -> tuple[list[GoodReply], list[BadReply]]:
    """Split a round's replies into those that may be averaged and those that may not.

    The weight of a good reply is replaced by the platform's declared one, so no client can buy influence, and
    no private count can enter. Good replies come in the order of their platforms' names: sums of floats then do
    not depend on who answered first. A second reply of a platform in the same round is refused, and so is one whose
    ledger is another than the enrolled one, or went back, against what `witness` holds.

    `registered` says under which name the node of each request is registered: request's id → name. A reply that
    speaks for another platform is refused. It is empty in simulations, whose nodes have no names.
    """
    good: dict[str, GoodReply] = {}
    bad: list[BadReply] = []
    for message in replies:
        if message.has_error():
            bad.append(_failure(message, registered))
            continue
        try:
            reply = _check(message, question, settings)
            _require_registered(reply.platform, message, registered)
            if reply.platform in good:
                raise ReplyError("twice", f"{reply.platform}: replied twice in round {question.ask.round}")
        except ExchangeError as error:
            who = registered.get(message.metadata.reply_to_message_id) or _name(message)
            bad.append(refused(who, error.code, str(error)))
            continue
        try:
            if reply.head is not None:
                witness.judge(reply.platform, reply.head)
            good[reply.platform] = reply
        except LedgerError as error:
            contradicts = isinstance(error, LedgerRolledBackError)
            reason = f"{error.code}: {error}"
            bad.append(refused(reply.platform, error.code, reason, reply.head if contradicts else None))
    return [good[name] for name in sorted(good)], bad


def _failure(message: Message, registered: Mapping[str, str]) -> BadReply:
    """A client's `<platform>:<code>`, or Flower's own words about a node, under the registered name."""
    reason = message.error.reason or "no reason given"
    platform, _, code = reason.partition(":")
    own = message.error.code >= _OWN_CODES and len(code) <= _NAME and _CODE.fullmatch(code) is not None
    name = registered.get(message.metadata.reply_to_message_id)
    if name is None:
        name = platform if message.error.reason else _name_of_node(message)
        return refused(name, code if own else "node", code or "no reason given")
    if platform == name and code:
        return refused(name, code if own else "node", code)
    return refused(name, "node", reason)


_CODE = re.compile(r"[a-z]+(-[a-z]+)*(\.[a-z]+(-[a-z]+)*){0,2}")
_OWN_CODES = 100
"""Error codes from here on are those of fedcart's clients; Flower's own are smaller."""


def _require_registered(platform: str, message: Message, registered: Mapping[str, str]) -> None:
    name = registered.get(message.metadata.reply_to_message_id)
    if registered and name != platform:
        raise ReplyError(
            "stranger",
            f"its receipt speaks for {platform!r}, but its node is registered as {name!r}: both names must be one",
        )


def _name_of_node(message: Message) -> str:
    return f"node {message.metadata.src_node_id}"


def _name(message: Message) -> str:
    receipt = message.content.config_records.get("receipt")
    name = receipt.get("platform") if receipt is not None else None
    return name if isinstance(name, str) else _name_of_node(message)


def _shape(content: RecordDict) -> dict[str, type]:
    return {key: type(record) for key, record in content.items()}


def _decode(record: ArrayRecord, name: str) -> dict[str, NDArray]:
    try:
        return {key: array.numpy() for key, array in record.items()}
    except Exception as error:  # the bytes are a stranger's, and numpy has many ways to refuse them
        raise ExchangeError(f"{name}: its arrays cannot be decoded ({type(error).__name__})") from None


def _signed(said: Mapping[str, object], name: str, members: Collection[str], delta: float) -> Receipt:
    """Return the receipt, signed by the key of the ledger whose head it has; its ε is at the run's `delta`.

    The ledger's population is named after the platform, or after no member: none may speak for another's ledger.
    """
    try:
        receipt = Receipt.from_mapping(said)
        receipt.check()
    except LedgerError as error:
        raise ReplyError("receipt", f"{name}: its receipt is not good: {error}") from None
    if receipt.delta != delta:
        raise ReplyError(
            "receipt", f"{name}: its receipt says ε at delta {receipt.delta:g}, and the run's is {delta:g}"
        )
    population = receipt.head.population
    if population != name and population in members:
        raise ReplyError(
            "receipt", f"{name}: its receipt has the head of another member's ledger, {population!r}"
        )
    return receipt


def _check(message: Message, question: Question, settings: FederationSettings) -> GoodReply:
    content, ask = message.content, question.ask
    name = _name(message)
    if _shape(content) != {"arrays": ArrayRecord, "metrics": MetricRecord, "receipt": ConfigRecord}:
        raise ReplyError(
            "form",
            f"{name}: a reply must hold arrays, metrics and a receipt, each of its kind, not {sorted(content)}",
        )
    said = dict(content.config_records["receipt"])
    _require_fresh(name, said, question)
    if name not in settings.weights:
        raise ReplyError(
            "stranger", f"{name}: is no member of this run ({', '.join(sorted(settings.weights))})"
        )
    receipt = _signed(said, name, settings.weights, ask.delta) if ask.epsilon > 0 else None
    where = f"{name}, round {ask.round}"
    arrays = _decode(content.array_records["arrays"], name)
    ask.spec.exchange.validate(arrays, where)
    require_reach(question.arrays, arrays, ask, where)
    if said.get("update") != fingerprint(arrays):
        raise ReplyError(
            "receipt",
            f"{where}: its receipt is for the update {str(said.get('update'))[:16]}, not for this one",
        )
    # In the spec's order, whatever the sender's was: FedAvgM and Krum go by position.
    content["arrays"] = ArrayRecord({t.name: Array(arrays[t.name]) for t in ask.spec.exchange.tensors})
    content["metrics"] = MetricRecord({WEIGHT_KEY: float(settings.weights[name])})
    return GoodReply(name, message, str(said.get("noise", "")), receipt)


def _require_fresh(name: str, receipt: Mapping[str, object], question: Question) -> None:
    """Raise ReplyError if the receipt is of another request than the one that was sent."""
    ask = question.ask
    if (receipt.get("run"), receipt.get("round")) != (ask.run_id, ask.round):
        raise ReplyError(
            "stale",
            f"{name}: replied for round {receipt.get('round')!r} of {receipt.get('run')!r}, "
            f"asked for round {ask.round} of {ask.run_id!r}",
        )
    for what, said, asked in (
        ("plan", receipt.get("plan"), ask.fingerprint),
        ("base model", receipt.get("base"), question.base),
    ):
        if said != asked:
            raise ReplyError(
                "stale",
                f"{name}: trained by another {what} ({str(said)[:16]}) than the one of round {ask.round} ({asked[:16]})",
            )
