"""Checkpoints: all of a run's state after a round, in one file that is replaced atomically."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from privacy.errors import LedgerError
from privacy.ledger import Head
from shared_model.errors import CheckpointError

NAME = "checkpoint.safetensors"
_MAGIC = b"fedcart checkpoint 3\n"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after `round` rounds (0: not started), with the last head of each platform's ledger."""

    run_id: str
    round: int
    arrays: Mapping[str, NDArray]
    heads: Mapping[str, Head] = field(default_factory=dict)


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint so that a crash at any moment leaves the old one or the new one, whole."""
    heads = {name: head.to_json() for name, head in checkpoint.heads.items()}
    state = json.dumps({"run_id": checkpoint.run_id, "round": checkpoint.round, "heads": heads})
    contiguous = {name: np.ascontiguousarray(array) for name, array in checkpoint.arrays.items()}
    body = save(contiguous, metadata={"state": state})
    path, temporary = folder / NAME, folder / f"{NAME}.tmp"
    with temporary.open("wb") as file:
        file.write(_MAGIC + sha256(body).digest() + body)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the run's checkpoint, None if it has none; raise CheckpointError if it cannot be trusted."""
    path = folder / NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error}.") from None
    digest, body = data[len(_MAGIC) : len(_MAGIC) + 32], data[len(_MAGIC) + 32 :]
    if not data.startswith(_MAGIC) or sha256(body).digest() != digest:
        raise CheckpointError(
            f"{path}: is not a whole checkpoint of this version (its checksum differs). "
            "Restore it from a backup, or start a new run; the ledgers keep what was spent."
        )
    try:
        tensors = load(body)
        header = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])
        state = json.loads(header["__metadata__"]["state"])
        run_id, number = str(state["run_id"]), int(state["round"])
        heads = {str(name): Head.from_json(head) for name, head in state["heads"].items()}
    except (SafetensorError, LedgerError, AttributeError, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}.") from None
    return Checkpoint(run_id, number, {name: np.array(array) for name, array in tensors.items()}, heads)
