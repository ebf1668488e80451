"""The round loop: ask, check, add up, checkpoint. Resumes after the last checkpoint, never before it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from privacy.plain import plain
from privacy.release import ReleasePlan
from server.checkpoint import NAME, Checkpoint, load_checkpoint, save_checkpoint
from server.presence import Observer, Presence, Present
from server.replies import BadReply, GoodReply, Question, sort_replies
from server.run_witness import RunWitness
from server.settings import FederationSettings
from shared_model.errors import CheckpointError, RunFailedError
from shared_model.exchange import fingerprint
from shared_model.instructions import TrainInstructions
from shared_model.stages import Stage, part_of, published, read_published
from shared_model.table import ProductTable

START = "start.safetensors"
"""In a run's folder: the published table that the run adds to, where there is one."""


@dataclass(frozen=True)
class Outcome:
    """The table after the last round, as it is published."""

    arrays: dict[str, NDArray]
    rounds: int


@dataclass(frozen=True)
class Run:
    """What stays the same through a run's rounds."""

    grid: Grid
    presence: Presence
    settings: FederationSettings
    witness: RunWitness
    observe: Observer


def run_rounds(grid: Grid, settings: FederationSettings, folder: Path, observe: Observer) -> Outcome:
    """Run or resume the rounds of `settings`, with a checkpoint in `folder` after each.

    What the members send is added to the table of `start_table`. A client that fails is reported and left out of its
    round. A round with fewer than `min_replies` good replies is asked again, `attempts` times in all, with the same
    request: who answered before sends what it stored then, and is not charged again. Raises RunFailedError if that does
    not help: the checkpoint stays at the round before, and the run can be resumed.

    The heads of the platforms' ledgers are on the disk before a round counts, in the registry of members and in the
    run's folder. Raises LedgerError or RegistryError if they cannot be kept.
    """
    ask = settings.instructions
    checkpoint = load_checkpoint(folder)
    if checkpoint is None:
        checkpoint = Checkpoint(ask.run_id, 0, published(start_table(folder, ask)))
        save_checkpoint(folder, checkpoint)
    elif checkpoint.run_id != ask.run_id:
        raise CheckpointError(
            f"{folder}: the checkpoint is of run {checkpoint.run_id!r}, not {ask.run_id!r}."
        )
    else:
        observe("resumed", {"after_round": checkpoint.round, "rounds": ask.rounds})
    ask.shape.exchange.validate(checkpoint.arrays, f"{folder}, checkpoint")
    witness = RunWitness(folder, settings.members)
    witness.own.require(checkpoint.heads, NAME)
    if witness.own.cut:
        observe("witness-mended", {"bytes": witness.own.cut})
    table = read_published(checkpoint.arrays, f"{folder}, checkpoint")
    presence = Presence(grid, settings.sizes, settings.member_wait, observe)
    run = Run(grid, presence, settings, witness, observe)
    for number in range(checkpoint.round + 1, ask.rounds + 1):
        arrays = published(_round(run, ask.model_copy(update={"round": number}), table))
        save_checkpoint(folder, Checkpoint(ask.run_id, number, arrays, witness.own.latest))
        table = read_published(arrays, f"{folder}, round {number}")  # as a run that is resumed has it
    return Outcome(published(table), ask.rounds)


def start_table(folder: Path, ask: TrainInstructions) -> ProductTable:
    """Return the table that a run adds to: the one in its folder (`START`), or an empty one, which is the prior."""
    file = folder / START
    if not file.exists():
        return ProductTable.empty(ask.products, ask.edges)
    try:
        arrays = load_file(file)
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{file}: the table to add to cannot be read: {error}.") from None
    ask.shape.exchange.validate(arrays, str(file))
    return read_published(arrays, str(file))


def _round(run: Run, ask: TrainInstructions, table: ProductTable) -> ProductTable:
    """Return the table with one round's sums added."""
    stage = ask.stage
    if stage is Stage.EDGES:
        table = table.fixed_temper()
    given = {"temper": np.asarray(table.temper, dtype=np.float32)} if stage is Stage.EDGES else {}
    good = _enough_replies(run, ask, given)
    before, variance = table, noise_variance(ask)
    for reply in good:
        table = table.plus(part_of(ask.shape, stage, reply.arrays, variance, given.get("temper")))
    if stage is Stage.POPULARITY:
        table = replace(table, runs=table.runs + 1)
    moved = getattr(table, stage.value) - getattr(before, stage.value)
    run.observe(
        "round",
        {
            "round": ask.round,
            "rounds": ask.rounds,
            "platforms": [reply.platform for reply in good],
            "epsilon": {r.platform: r.receipt.committed for r in good if r.receipt},
            "caps": {r.platform: r.receipt.cap for r in good if r.receipt},
            "noise": {r.platform: plain(r.noise, 40) for r in good},
            "receipts": {r.platform: r.receipt.to_mapping() for r in good if r.receipt},
            "update_norm": float(np.sqrt(np.square(moved).sum())),
            "model": fingerprint(published(table)),
        },
    )
    return table


def noise_variance(ask: TrainInstructions) -> float:
    """Return the variance of the noise in each number that one member sends in this round; 0 without privacy."""
    if not ask.epsilon:
        return 0.0
    plan = ReleasePlan.calibrated(epsilon=ask.epsilon, delta=ask.delta, shares=ask.shares)
    return plan.noise_of(ask.stage.number) ** 2


def _enough_replies(run: Run, ask: TrainInstructions, given: dict[str, NDArray]) -> Sequence[GoodReply]:
    """Ask until `min_replies` good replies have come in one attempt; raise RunFailedError after the last one."""
    reasons, settings = "no client answered", run.settings
    good: Sequence[GoodReply] = []
    for attempt in range(1, settings.attempts + 1):
        present = run.presence.gather(ask.round, settings.min_replies)
        if len(present.names) < settings.min_replies:
            good, reasons = [], f"{len(present.names)} members are online"
        else:
            good, bad = _ask(run, present, ask, given)
            if len(good) >= settings.min_replies:
                return good
            reasons = "; ".join(f"{b.platform}: {b.reason}" for b in bad) or "no client answered"
        if attempt < settings.attempts:
            run.observe(
                "repeated",
                {
                    "round": ask.round,
                    "good": len(good),
                    "needed": settings.min_replies,
                    "attempt": attempt + 1,
                    "attempts": settings.attempts,
                },
            )
    raise RunFailedError(
        f"Round {ask.round} of run {ask.run_id} has {len(good)} good replies, {settings.min_replies} are needed. "
        f"{reasons}. The model of round {ask.round - 1} is kept; resume when the cause is mended."
    )


def _ask(
    run: Run, present: Present, ask: TrainInstructions, given: dict[str, NDArray]
) -> tuple[Sequence[GoodReply], Sequence[BadReply]]:
    """Ask everybody present once; report who failed, and who gave no reply in time."""
    settings, observe = run.settings, run.observe
    nodes = sorted(present.names)
    content = RecordDict(
        {
            "arrays": ArrayRecord({name: Array(array) for name, array in given.items()}),
            "config": ConfigRecord(ask.model_dump()),
        }
    )
    messages = [Message(content, dst_node_id=node, message_type=MessageType.TRAIN) for node in nodes]
    names = [present.name(node) for node in nodes]
    size = sum(array.nbytes for array in given.values())
    run.witness.ask()
    asking = {"platforms": names, "limit_s": settings.round_timeout, "bytes": size * len(messages)}
    observe("asked", {"round": ask.round} | asking)
    began = time.monotonic()
    # Flower empties the messages while it sends them, and gives each its id.
    addressed = [(message.metadata, message.metadata.dst_node_id) for message in messages]
    replies = list(run.grid.send_and_receive(messages, timeout=settings.round_timeout))
    asked = {metadata.message_id: present.name(node) for metadata, node in addressed}
    registered = asked if any(present.names.values()) else {}
    seconds = round(time.monotonic() - began, 3)
    good, bad = sort_replies(
        replies, Question(ask, given, noise_variance(ask) ** 0.5), settings, run.witness, registered
    )
    refused = {b.platform: b.head for b in bad if b.head}
    run.witness.own.keep(ask.round, {g.platform: g.head for g in good if g.head}, refused)
    counted = [reply.platform for reply in good]
    received = sum(array.nbytes for reply in good for array in reply.arrays.values())
    observe(
        "answered",
        {"round": ask.round, "platforms": counted, "bytes": received, "seconds": seconds},
    )
    for failure in bad:
        said = {"platform": failure.platform, "code": failure.code, "reason": failure.reason}
        observe("client-failed", {"round": ask.round} | said)
    answered = {reply.metadata.reply_to_message_id for reply in replies}
    late = sorted(name for message_id, name in asked.items() if message_id not in answered)
    if late:
        observe("no-reply", {"round": ask.round, "platforms": late, "timeout_s": settings.round_timeout})
    return good, bad
