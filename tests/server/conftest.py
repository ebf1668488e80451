"""Fake replies and a fake Grid: what a server sees, without any client."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.proto.node_pb2 import NodeInfo

from privacy.errors import PlanError
from privacy.ledger import Head
from privacy.ledger.entry import canonical, signed_bytes
from privacy.ledger.keys import public_hex
from server.settings import FederationSettings
from shared_model.encoders import EncoderIdentity, identities_to_json
from shared_model.exchange import fingerprint
from shared_model.instructions import TrainInstructions

NAMES = ("beauty", "food", "games", "toys")
FIVE = (*NAMES, "wine")


def make_settings(names: Sequence[str] = NAMES, **values: Any) -> FederationSettings:
    """Return the settings of a run with one encoder and a model of 6 × 2."""
    identity = EncoderIdentity("tiny", "1", "ab" * 32, 6)
    instructions = {
        "run_id": "run-1",
        "round": 1,
        "rounds": 3,
        "local_steps": 2,
        "epsilon": 8.0,
        "delta": 1e-6,
        "clip_norm": 0.5,
        "sample_rate": 0.5,
        "learning_rate": 0.05,
        "scalar_learning_rate": 0.02,
        "negatives": 8,
        "targets": 3,
        "encoders": "tiny",
        "encoder_identities": identities_to_json([identity]),
        "width": 2,
        "history_length": 4,
        "seed": 3,
    } | values.pop("instructions", {})
    given = {
        "strategy": "FedAvg",
        "weights": {name: 10.0 * (n + 1) for n, name in enumerate(names)},
        "instructions": TrainInstructions.from_mapping(instructions),
    }
    return FederationSettings(**(given | values))


def update_of(ask: TrainInstructions, received: Mapping[str, np.ndarray], node: int) -> dict[str, np.ndarray]:
    """Return what node `node` answers in a round: the received tensors, moved by a fixed draw."""
    rng = np.random.default_rng([ask.round, node])
    return {
        name: (array + 0.03 * rng.uniform(-1, 1, array.shape)).astype(np.float32)
        for name, array in sorted(received.items())  # sorted, as an outbox returns them
    }


def key_of(name: str) -> Ed25519PrivateKey:
    """Return the key that is always made of a name."""
    return Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())


def signed(said: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return what a receipt says with the signature of the named key; what has no text cannot be signed."""
    unsigned = {name: value for name, value in said.items() if name != "signature"}
    try:
        text = canonical({"domain": "fedcart receipt 1", "receipt": unsigned})
    except PlanError:
        text = ""
    return unsigned | {"signature": key_of(key).sign(text.encode()).hex()}


def resign(reply: Message, key: str, **changes: Any) -> None:
    """Change what a reply's receipt says, and sign it anew."""
    reply.content["receipt"] = ConfigRecord(signed(dict(reply.content["receipt"]) | changes, key))


def head_of(platform: str, seq: int, *, history: str = "", key: str | None = None) -> Head:
    """Return the signed head of a platform's ledger; `history` makes it another ledger's, `key` another key's."""
    signer = key_of(key or platform)
    digest = sha256(f"{platform} {seq} {history}".encode()).hexdigest()
    signature = signer.sign(signed_bytes(platform, seq, digest)).hex()
    return Head(platform, seq, digest, public_hex(signer.public_key()), signature)


def reply_to(
    message: Message,
    platform: str,
    arrays: Mapping[str, np.ndarray],
    *,
    weight: float = 1.0,
    receipt: Mapping[str, Any] | None = None,
    key: str | None = None,
) -> Message:
    """Return a well-formed reply; `receipt` overrides what it says about itself, None leaves it out.

    The platform's own key signs the receipt, or the one named.
    """
    config = message.content.config_records["config"]
    said = {"platform": platform, "run": config["run_id"], "round": config["round"]}
    said |= {"noise": "chacha20-os-entropy", "committed": 1.5, "cap": 9.0, "delta": 1e-6}
    received = {n: a.numpy() for n, a in message.content.array_records["arrays"].items()}
    said["plan"], said["base"] = (
        TrainInstructions.from_mapping(dict(config)).fingerprint,
        fingerprint(received),
    )
    said["update"] = fingerprint(arrays)
    said["head"] = head_of(platform, 2 * config["round"]).to_text()
    said = {key: value for key, value in (said | dict(receipt or {})).items() if value is not None}
    return Message(
        RecordDict(
            {
                "arrays": ArrayRecord({name: Array(array) for name, array in arrays.items()}),
                "metrics": MetricRecord({"weight": weight}),
                "receipt": ConfigRecord(signed(said, key or platform)),
            }
        ),
        reply_to=message,
    )


Answer = Callable[[Message, int], Message | None]


class FakeGrid:
    """Nodes 1 … n that answer through a function; keeps what was asked. `order` reorders the replies.

    `registered` are the nodes' names, as in a deployment: a function of how often it was asked who is there.
    """

    def __init__(
        self,
        nodes: int,
        answer: Answer,
        order: Callable[[list], list] = list,
        registered: Callable[[int], Mapping[int, str]] | None = None,
    ) -> None:
        self.nodes, self.answer, self.order, self.registered = nodes, answer, order, registered
        self.looked = 0
        self.asked: list[list[dict[str, Any]]] = []
        self.sent: list[dict[str, np.ndarray]] = []

    def get_node_ids(self) -> list[int]:
        return list(range(1, self.nodes + 1))

    def get_nodes(self) -> list[NodeInfo]:
        self.looked += 1
        names = self.registered(self.looked) if self.registered else dict.fromkeys(self.get_node_ids(), "")
        return [NodeInfo(node_id=node, name=name) for node, name in names.items()]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        messages = sorted(messages, key=lambda m: m.metadata.dst_node_id)
        self.asked.append([dict(m.content.config_records["config"]) for m in messages])
        self.sent.append({n: a.numpy() for n, a in messages[0].content.array_records["arrays"].items()})
        for message in messages:
            message.metadata.__dict__["_message_id"] = f"message-{message.metadata.dst_node_id}"
        replies = [self.answer(message, message.metadata.dst_node_id) for message in messages]
        return self.order([reply for reply in replies if reply is not None])


def honest(message: Message, node: int) -> Message:
    """Answer as a client does."""
    ask = TrainInstructions.from_mapping(dict(message.content.config_records["config"]))
    received = {n: a.numpy() for n, a in message.content.array_records["arrays"].items()}
    return reply_to(message, FIVE[node - 1], update_of(ask, received, node))


def failing(message: Message, reason: str) -> Message:
    """Answer with an error, as a client that refuses does."""
    return Message(Error(100, reason), reply_to=message)


class Kit:
    """The builders above, for tests."""

    names = NAMES
    five = FIVE
    settings = staticmethod(make_settings)
    update = staticmethod(update_of)
    head = staticmethod(head_of)
    key = staticmethod(key_of)
    reply = staticmethod(reply_to)
    resign = staticmethod(resign)
    honest = staticmethod(honest)
    failing = staticmethod(failing)
    grid = FakeGrid


@pytest.fixture
def kit(flower: None) -> type[Kit]:
    """Return the builders of settings, replies and grids."""
    return Kit
