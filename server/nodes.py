"""Flower's list of nodes, made to agree with the registry.

It is written through Flower's own state classes in SuperLink's database, so it works whether SuperLink runs or
not, and no control address needs to be open. A SuperNode whose key was taken off is refused at its next message.
Flower never forgets a key: one that was taken off cannot be put on again.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.server.superlink.linkstate import LinkState, LinkStateFactory
from flwr.supercore.constant import NodeStatus
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.superlink.federation import NoOpFederationManager
from sqlalchemy.exc import SQLAlchemyError

from federation.keys import read_node_text
from server.errors import RegistryError


@dataclass(frozen=True)
class Node:
    """A node as Flower knows it: `status` is "registered" (never seen), "online" or "offline"."""

    name: str
    node_id: int
    status: str
    online_until: float | None


@dataclass(frozen=True)
class NodeChanges:
    """Whose nodes were put on and taken off."""

    registered: list[str]
    removed: list[str]


def agree(database: Path, wanted: Mapping[str, str]) -> NodeChanges:
    """Make Flower's nodes exactly those `wanted`: name → node key. Doing it again changes nothing.

    Raises RegistryError if the database cannot be used, or Flower refuses a key.
    """
    keys = {_flower_key(text): name for name, text in wanted.items()}
    registered, removed = [], []
    with _state(database) as state:
        for info in _present(state):
            if keys.get(info.public_key) != info.name:
                state.delete_node(NOOP_FLWR_AID, info.node_id)
                removed.append(info.name)
        present = {info.public_key for info in _present(state)}
        for key, name in keys.items():
            if key in present:
                continue
            try:
                made = state.create_node(
                    NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, key, HEARTBEAT_DEFAULT_INTERVAL, name=name
                )
            except ValueError:
                made = 0
            if not made:
                raise RegistryError(
                    f"{database}: Flower has seen the node key of {name!r} before and does not take it again. The "
                    "platform needs new keys: fedcart client request --rotate."
                )
            registered.append(name)
    return NodeChanges(sorted(registered), sorted(removed))


def list_nodes(database: Path) -> list[Node]:
    """Return Flower's nodes, by name."""
    with _state(database) as state:
        nodes = [Node(i.name, i.node_id, i.status, i.online_until) for i in _present(state)]
    return sorted(nodes, key=lambda node: node.name)


def make_database(database: Path) -> None:
    """Make Flower's database, for its owner only."""
    database.touch(mode=0o600)
    with _state(database):
        pass


def _present(state: LinkState) -> list:
    nodes = state.get_node_info(owner_aids=[NOOP_FLWR_AID])
    return [node for node in nodes if node.status != NodeStatus.UNREGISTERED]


@contextlib.contextmanager
def _state(database: Path) -> Iterator[LinkState]:
    if not database.exists():
        raise RegistryError(f"{database}: Flower's database is missing; restore it from a backup.")
    try:
        yield _open(str(database), database.stat().st_ino)
    except SQLAlchemyError as error:
        raise RegistryError(
            f"{database}: Flower's database cannot be used: {getattr(error, 'orig', error)}."
        ) from None


@lru_cache(maxsize=4)
def _open(database: str, _inode: int) -> LinkState:
    """Open a database once in a process: Flower checks its whole schema whenever it does."""
    logging.getLogger("flwr").setLevel(logging.ERROR)  # it would say which classes it uses
    return LinkStateFactory(database, NoOpFederationManager(), ObjectStoreFactory(database)).state()


def _flower_key(text: str) -> bytes:
    """A node key as Flower stores it."""
    return read_node_text(text).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
