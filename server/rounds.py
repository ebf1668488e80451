"""The round loop: ask, check, average, checkpoint. Resumes after the last checkpoint, never before it."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from privacy.plain import plain
from server.checkpoint import NAME, Checkpoint, load_checkpoint, save_checkpoint
from server.presence import Observer, Presence, Present
from server.replies import BadReply, GoodReply, Question, sort_replies
from server.robust import aggregate, require_tolerance
from server.run_witness import RunWitness
from server.settings import FederationSettings
from server.strategies import make_strategy, restore_strategy, strategy_state
from shared_model.errors import CheckpointError, RunFailedError
from shared_model.exchange import fingerprint
from shared_model.instructions import TrainInstructions
from shared_model.model import initial_shared


@dataclass(frozen=True)
class Outcome:
    """The shared tensors after the last round."""

    arrays: dict[str, NDArray]
    rounds: int


def run_rounds(grid: Grid, settings: FederationSettings, folder: Path, observe: Observer) -> Outcome:
    """Run or resume the rounds of `settings`, with a checkpoint in `folder` after each.

    A client that fails is reported and left out of its round. A round with fewer than `min_replies` good replies is
    asked again, `attempts` times in all, with the same request: who answered before sends what it stored then, and is
    not charged again. Raises RunFailedError if that does not help: the checkpoint stays at the round before, and the
    run can be resumed.

    Raises BadInputError if a robust strategy would withstand nobody with `min_replies` replies.

    The heads of the platforms' ledgers are on the disk before a round counts, in the registry of members and in the
    run's folder. Raises LedgerError or RegistryError if they cannot be kept.
    """
    ask = settings.instructions
    spec = ask.spec.exchange
    strategy = make_strategy(settings.strategy, settings.strategy_options)
    require_tolerance(strategy, settings.min_replies)
    checkpoint = load_checkpoint(folder)
    if checkpoint is None:
        start = spec.to_numpy(initial_shared(ask.spec), "initial model")
        checkpoint = Checkpoint(ask.run_id, 0, start, {})
        save_checkpoint(folder, checkpoint)
    elif checkpoint.run_id != ask.run_id:
        raise CheckpointError(
            f"{folder}: the checkpoint is of run {checkpoint.run_id!r}, not {ask.run_id!r}."
        )
    else:
        restore_strategy(strategy, checkpoint.strategy)
        observe("resumed", {"after_round": checkpoint.round, "rounds": ask.rounds})
    spec.validate(checkpoint.arrays, f"{folder}, checkpoint")
    witness = RunWitness(folder, settings.members)
    witness.own.require(checkpoint.heads, NAME)
    if witness.own.cut:
        observe("witness-mended", {"bytes": witness.own.cut})
    arrays = dict(checkpoint.arrays)
    presence = Presence(grid, settings.weights, settings.member_wait, observe)
    for number in range(checkpoint.round + 1, ask.rounds + 1):
        now = ask.model_copy(update={"round": number})
        arrays = _round(grid, presence, strategy, settings, now, arrays, witness, observe)
        state = strategy_state(strategy)
        save_checkpoint(folder, Checkpoint(ask.run_id, number, arrays, state, witness.own.latest))
    return Outcome(arrays, ask.rounds)


def _round(
    grid: Grid,
    presence: Presence,
    strategy: FedAvg,
    settings: FederationSettings,
    ask: TrainInstructions,
    arrays: dict[str, NDArray],
    witness: RunWitness,
    observe: Observer,
) -> dict[str, NDArray]:
    """Return the shared tensors after one round."""
    good = _enough_replies(grid, presence, strategy, settings, ask, arrays, witness, observe)
    result = aggregate(strategy, ask.round, [reply.message for reply in good], arrays)
    ask.spec.exchange.validate(result, f"round {ask.round}, after averaging")
    observe(
        "round",
        {
            "round": ask.round,
            "rounds": ask.rounds,
            "platforms": [reply.platform for reply in good],
            "epsilon": {r.platform: r.receipt.committed for r in good if r.receipt},
            "caps": {r.platform: r.receipt.cap for r in good if r.receipt},
            "noise": {r.platform: plain(r.noise, 40) for r in good},
            "receipts": {r.platform: r.receipt.to_mapping() for r in good if r.receipt},
            "update_norm": float(np.sqrt(sum(np.square(result[n] - arrays[n]).sum() for n in result))),
            "model": fingerprint(result),
        },
    )
    return result


def _enough_replies(
    grid: Grid,
    presence: Presence,
    strategy: FedAvg,
    settings: FederationSettings,
    ask: TrainInstructions,
    arrays: dict[str, NDArray],
    witness: RunWitness,
    observe: Observer,
) -> list[GoodReply]:
    """Ask until `min_replies` good replies have come in one attempt; raise RunFailedError after the last one."""
    reasons = "no client answered"
    good: list[GoodReply] = []
    for attempt in range(1, settings.attempts + 1):
        present = presence.gather(ask.round, settings.min_replies)
        if len(present.names) < settings.min_replies:
            good, reasons = [], f"{len(present.names)} members are online"
        else:
            good, bad = _ask(grid, present, strategy, settings, ask, arrays, witness, observe)
            if len(good) >= settings.min_replies:
                return good
            reasons = "; ".join(f"{b.platform}: {b.reason}" for b in bad) or "no client answered"
        if attempt < settings.attempts:
            observe(
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
    grid: Grid,
    present: Present,
    strategy: FedAvg,
    settings: FederationSettings,
    ask: TrainInstructions,
    arrays: dict[str, NDArray],
    witness: RunWitness,
    observe: Observer,
) -> tuple[list[GoodReply], list[BadReply]]:
    """Ask everybody present once; report who failed, and who gave no reply in time."""
    # In the spec's order: FedAvgM pairs old and new tensors by their position.
    record = ArrayRecord({t.name: Array(arrays[t.name]) for t in ask.spec.exchange.tensors})
    config = ConfigRecord(ask.model_dump())
    # Flower's strategies draw nodes from a Grid and wait for ever if there are none: they get those who are there.
    messages = list(strategy.configure_train(ask.round, record, config, cast(Grid, present)))
    for message in messages:
        _keep_to_instructions(message.content.config_records["config"])
        ask = TrainInstructions.from_mapping(dict(message.content.config_records["config"]))
    names = [present.name(message.metadata.dst_node_id) for message in messages]
    size = sum(array.nbytes for array in arrays.values())
    asking = {"platforms": names, "limit_s": settings.round_timeout, "bytes": size * len(messages)}
    observe("asked", {"round": ask.round} | asking)
    witness.ask()
    began = time.monotonic()
    # Flower empties the messages while it sends them, and gives each its id.
    addressed = [(message.metadata, message.metadata.dst_node_id) for message in messages]
    replies = list(grid.send_and_receive(messages, timeout=settings.round_timeout))
    asked = {metadata.message_id: present.name(node) for metadata, node in addressed}
    registered = asked if any(present.names.values()) else {}
    seconds = round(time.monotonic() - began, 3)
    good, bad = sort_replies(replies, Question(ask, arrays), settings, witness, registered)
    refused = {b.platform: b.head for b in bad if b.head}
    witness.own.keep(ask.round, {g.platform: g.head for g in good if g.head}, refused)
    counted = [reply.platform for reply in good]
    observe(
        "answered",
        {"round": ask.round, "platforms": counted, "bytes": size * len(good), "seconds": seconds},
    )
    for failure in bad:
        said = {"platform": failure.platform, "code": failure.code, "reason": failure.reason}
        observe("client-failed", {"round": ask.round} | said)
    answered = {reply.metadata.reply_to_message_id for reply in replies}
    late = sorted(name for message_id, name in asked.items() if message_id not in answered)
    if late:
        observe("no-reply", {"round": ask.round, "platforms": late, "timeout_s": settings.round_timeout})
    return good, bad


def _keep_to_instructions(config: ConfigRecord) -> None:
    """Turn what Flower's strategies add to the request into instructions, which admit no other keys.

    Doing it twice changes nothing: all messages of a round share one record.
    """
    config.pop("server-round", None)
    if "proximal-mu" in config:
        config["proximal"] = float(config.pop("proximal-mu"))  # type: ignore[arg-type]
