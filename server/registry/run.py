"""What a finished run's folder shows of its model: tensors, members, what was spent, and what speaks against a claim.

Nothing is taken on trust that can be checked here: the model is the checkpoint's, the heads are the witness's, and
the ε of a run is computed from its plan. What is unknown counts against the model, as a taint.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from federation.kit import ModelTerms
from federation.registry.card import MemberFacts, PlatformResult, RunFacts
from privacy.accounting import calibrate_noise, epsilon
from privacy.errors import LedgerError, LedgerTamperedError
from privacy.events import PoissonGaussian
from privacy.ledger import Head, Receipt
from privacy.ledger.witness import NAME as WITNESS
from privacy.ledger.witness import Kept, read_witness_file
from privacy.noise import SecureNoise
from privacy.plain import plain
from server.app import MODEL
from server.checkpoint import NAME as CHECKPOINT
from server.checkpoint import Checkpoint, load_checkpoint
from server.errors import FederationError
from server.events import read_events
from server.members import Members
from server.settings import FederationSettings
from shared_model.errors import CheckpointError
from shared_model.exchange import fingerprint
from shared_model.instructions import TrainInstructions

_SECURE = SecureNoise.name
_METHODS = ("federated_private", "federated")
"""Under which names a simulation's result holds its own model, the one that is meant first."""


@dataclass(frozen=True)
class FinishedRun:
    """A run that made its last round: what its card is written from."""

    arrays: Mapping[str, NDArray]
    terms: ModelTerms
    facts: RunFacts
    members: Sequence[MemberFacts]
    taints: Sequence[str]
    evaluation: Sequence[PlatformResult] | None


def read_run(folder: Path, *, with_evaluation: bool = False) -> FinishedRun:
    """Read the folder of a finished run of `fedcart simulate` or of a federation.

    `with_evaluation` takes over the metrics of a simulation's result, which are measured on true data: a taint.

    | the run                                            | outcome              |
    |----------------------------------------------------|----------------------|
    | no run, not finished, or a simulation without card | FederationError      |
    | model.safetensors is not the checkpoint's          | CheckpointError      |
    | witness changed, or shorter than the checkpoint    | LedgerTamperedError  |
    | no privacy; noise not known to be secure; a round  | a taint              |
    | without record, without a head, or gone back; a    |                      |
    | receipt that says less than the plan costs         |                      |
    | a member that began a new ledger, whenever         | on the card          |
    """
    settings = FederationSettings.load(folder)
    ask = settings.instructions
    checkpoint = _finished(folder, ask)
    kept = _witnessed(folder, checkpoint)
    log = read_events(folder)
    rounds = {e["round"]: e for e in log if e.get("event") == "round" and type(e.get("round")) is int}
    started = [e for e in log if e.get("event") == "started"]
    simulated = (folder / "scenario.json").exists()
    members = _members(ask, settings.weights, kept, rounds)
    if settings.members is not None:
        ledgers = Members.open(folder / settings.members).ledgers()
        begun = {name: list(ledger.begun) for name, ledger in ledgers.items()}
        members = [m.model_copy(update={"new_ledgers": begun.get(m.platform, [])}) for m in members]
    taints = _taints(ask, members, kept, rounds)
    if simulated:
        taints += _of_simulation(folder, checkpoint)
    results = None
    if with_evaluation:
        results = _results(folder)
        taints.append("its card shows results on shoppers that were measured without noise")
    return FinishedRun(
        arrays={t.name: checkpoint.arrays[t.name] for t in ask.spec.exchange.tensors},
        terms=ModelTerms(
            encoders=ask.encoders,
            encoder_identities=ask.encoder_identities,
            width=ask.width,
            history_length=ask.history_length,
        ),
        facts=RunFacts(
            id=ask.run_id,
            origin="simulation" if simulated else "federation",
            strategy=settings.strategy,
            rounds=ask.rounds,
            local_steps=ask.local_steps,
            epsilon=ask.epsilon,
            delta=ask.delta,
            clip_norm=ask.clip_norm,
            sample_rate=ask.sample_rate,
            versions={str(k): str(v) for k, v in started[-1].get("versions", {}).items()} if started else {},
        ),
        members=members,
        taints=list(dict.fromkeys(taints)),
        evaluation=results,
    )


def _finished(folder: Path, ask: TrainInstructions) -> Checkpoint:
    checkpoint = load_checkpoint(folder)
    if checkpoint is None or checkpoint.round < ask.rounds or not (folder / MODEL).exists():
        made = 0 if checkpoint is None else checkpoint.round
        raise FederationError(
            f"{folder}: the run made {made} of {ask.rounds} rounds and has no final model to publish. Resume it first."
        )
    if checkpoint.run_id != ask.run_id:
        raise CheckpointError(
            f"{folder}: the checkpoint is of run {checkpoint.run_id!r}, not {ask.run_id!r}."
        )
    ask.spec.exchange.validate(checkpoint.arrays, f"{folder}, {CHECKPOINT}")
    try:
        model = load_file(folder / MODEL)
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{folder / MODEL}: cannot be read: {error}.") from None
    if fingerprint(model) != fingerprint(checkpoint.arrays):
        raise CheckpointError(
            f"{folder / MODEL}: is not the model of the run's last checkpoint. Restore it from a backup."
        )
    return checkpoint


def _witnessed(folder: Path, checkpoint: Checkpoint) -> Sequence[Kept]:
    found = read_witness_file(folder / WITNESS)
    if found.faults:
        raise LedgerTamperedError(found.faults[0])
    held = {(kept.platform, kept.head) for kept in found.kept}
    for name, head in checkpoint.heads.items():
        if (name, head) not in held:
            raise LedgerTamperedError(
                f"witness {folder / WITNESS} lacks entry {head.seq} of {name!r}, which {CHECKPOINT} holds: it was cut "
                "or replaced; restore it from backup"
            )
    return found.kept


def _members(
    ask: TrainInstructions,
    weights: Mapping[str, float],
    kept: Sequence[Kept],
    rounds: Mapping[int, Mapping[str, Any]],
) -> list[MemberFacts]:
    """Return the platforms that sent an update, by name."""
    private = ask.epsilon > 0
    heads: dict[str, dict[int, Head]] = {}
    for line in kept:
        if not line.refused and line.platform in weights:
            heads.setdefault(line.platform, {})[line.round] = line.head
    last: dict[str, Receipt | None] = {}
    noise: dict[str, str] = {}
    present: dict[str, set[int]] = {name: set(held) for name, held in heads.items()}
    for number, event in sorted(rounds.items()):
        for name in event["platforms"]:
            present.setdefault(name, set()).add(number)
            last[name] = receipt = _receipt(ask, name, number, event, heads.get(name, {}).get(number))
            source = str(event.get("noise", {}).get(name, ""))
            if private:
                source = "" if receipt is None else receipt.statement.noise
            source = plain(source, 40)  # anything but the name of our generator speaks against a claim
            # One round whose noise is not known to be secure decides for all of them.
            if noise.get(name, _SECURE) == _SECURE:
                noise[name] = source
    sigma = (
        calibrate_noise(ask.epsilon, ask.delta, ask.sample_rate, ask.local_steps * ask.rounds)
        if private
        else 0.0
    )
    return [
        MemberFacts(
            platform=name,
            rounds=len(numbers),
            epsilon_run=_cost(ask, sigma, len(numbers)) if private else None,
            epsilon_ledger=receipt.committed if receipt else None,
            noise=noise.get(name, ""),
            head=_last(heads.get(name, {})),
            receipt=receipt.to_mapping() if receipt else None,
        )
        for name, numbers in sorted(present.items())
        for receipt in [last.get(name)]
    ]


def _receipt(
    ask: TrainInstructions, name: str, number: int, event: Mapping[str, Any], head: Head | None
) -> Receipt | None:
    """Return the member's receipt of a round; None unless it is signed, for this very round, and fits the witness."""
    try:
        receipt = Receipt.from_mapping(event["receipts"][name])
        receipt.check()
    except (LedgerError, KeyError, TypeError):
        return None
    said = receipt.statement
    found = (said.platform, said.run, said.round, receipt.delta)
    fits = found == (name, ask.run_id, number, ask.delta)
    return receipt if fits and head in {None, receipt.head} else None


def _cost(ask: TrainInstructions, sigma: float, rounds: int) -> float:
    """ε of `rounds` rounds under the plan that every member calibrates from the same public numbers."""
    return epsilon([PoissonGaussian(ask.sample_rate, sigma, ask.local_steps * rounds)], ask.delta)


def _last(heads: Mapping[int, Head]) -> dict[str, Any] | None:
    return heads[max(heads)].to_json() if heads else None


def _taints(
    ask: TrainInstructions,
    members: Sequence[MemberFacts],
    kept: Sequence[Kept],
    rounds: Mapping[int, Mapping[str, Any]],
) -> list[str]:
    """Return every reason that the run's own records give."""
    if ask.epsilon == 0:
        return ["it was trained without differential privacy"]
    found = []
    lost = [str(n) for n in range(1, ask.rounds + 1) if n not in rounds]
    if lost:
        found.append(f"the record of round {_some(lost)} is missing, so its receipts are unknown")
    seen = {(line.platform, line.round) for line in kept if not line.refused}
    back = sorted({line.platform for line in kept if line.refused})
    if back:
        found.append(
            f"the ledger of {_some(back)} went back during the run, so no ε of it can be vouched for"
        )
    bare = sorted({n for number, e in rounds.items() for n in e["platforms"] if (n, number) not in seen})
    if bare:
        found.append(f"the witness holds no signed head of {_some(bare)} for some of its rounds")
    insecure = [m.platform for m in members if m.noise != _SECURE]
    if insecure:
        sources = _some(sorted({m.noise or "unknown" for m in members if m.noise != _SECURE}))
        found.append(
            f"the noise of {_some(insecure)} did not come from a secure generator, but is: {sources}"
        )
    unsigned = [m.platform for m in members if m.receipt is None]
    if unsigned:
        found.append(f"the last round of {_some(unsigned)} has no receipt that is signed and of that round")
    short = [m.platform for m in members if m.receipt is not None and not _covers(m)]
    if short:
        found.append(f"the last receipt of {_some(short)} says less ε than its rounds cost by the plan")
    return found


def _covers(member: MemberFacts) -> bool:
    """Whether a member says that its ledger holds at least what the run cost, but for round-off."""
    said, cost = member.epsilon_ledger, member.epsilon_run
    return said is not None and cost is not None and said >= cost * (1 - 1e-6)


def _some(names: Sequence[str]) -> str:
    """Names for a sentence, of a stranger's making where it is about receipts.

    >>> _some(["a", "b"]), _some(list("abcdefgh"))
    ('a, b', 'a, b, c, d, e and 3 more')
    """
    shown = [plain(name, 64) for name in names[:5]]
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _of_simulation(folder: Path, checkpoint: Checkpoint) -> list[str]:
    """Return the taints that the simulation itself found; raise FederationError if it did not end."""
    file = folder / "model_card.json"
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
        taints, model = card["taints"], card["model_fingerprint"]
        whole = isinstance(taints, list) and all(isinstance(t, str) for t in taints)
    except (OSError, ValueError, KeyError, TypeError):
        whole, taints, model = False, [], ""
    if not whole or model != fingerprint(checkpoint.arrays):
        raise FederationError(
            f"{file}: is missing, or not of this model, so what taints the simulation is unknown. Finish it: fedcart "
            f"simulate --resume {folder}."
        )
    return taints


def _results(folder: Path) -> list[PlatformResult]:
    """Return the metrics of the run's model on each platform, without any count of shoppers."""
    file = folder / "result.json"
    try:
        platforms = json.loads(file.read_text(encoding="utf-8"))["platforms"]
        found = []
        for name, platform in platforms.items():
            values = next(platform["methods"][m] for m in _METHODS if m in platform["methods"])
            metrics = {k: float(v) for k, v in values.items() if isinstance(v, float)}
            found.append(PlatformResult(platform=name, role=platform["role"], metrics=metrics))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise FederationError(
            f"{file}: holds no evaluation that can be published ({type(error).__name__}); only simulations have one. "
            "Leave --with-evaluation out."
        ) from None
    return found
