"""`fedcart server run`: prepare a run's folder, submit it, follow it to its end.

runs/<federation>-<time>/
  federation.json   what is asked for; checkpoint.safetensors, events.jsonl, witness.jsonl, model.safetensors
  submitted.json    the run's number with SuperLink
  follow.lock       held by the one command that follows the run
"""

import json
import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from federation.bundle import build_bundle
from federation.files import replace
from federation.lock import held, is_held
from federation.validity import now
from server.app import MODEL
from server.checkpoint import load_checkpoint
from server.control import Control
from server.enrol import card_of
from server.errors import AttemptLostError, FederationError, ServerAwayError
from server.events import EventReader
from server.folder import RunSettings, ServerFolder
from server.lines import describe
from server.members import Members
from server.robust import require_tolerance
from server.settings import FederationSettings
from server.strategies import make_strategy
from shared_model.errors import BadInputError, RunFailedError
from shared_model.instructions import TrainInstructions

START_LIMIT = 180.0
"""Seconds in which the server app must have started."""
AWAY_LIMIT = 300.0
"""Seconds that SuperLink may be away while a run is followed."""
MEMBER_WAIT = 120.0
"""Seconds that a round waits for members who are not online: twice what a killed node needs to come back."""
ATTEMPTS = 3
"""How often a round is tried that gets too few good replies."""
_POLL = 1.0

Say = Callable[[str], None]


def round_limit(run: RunSettings, largest: int, parameters: int) -> float:
    """Seconds that a round's replies may take: 120, and 20 ms for each shopper's gradient on the largest platform,
    and the model there and back at 100 kB/s. Generous on purpose: who is later was trained, and charged, for nothing.

    >>> round_limit(RunSettings(), largest=500, parameters=12_000)
    129.0
    """
    gradients = run.local_steps * run.sample_rate * largest
    return float(round(120 + 0.02 * gradients + 2 * 4 * parameters / 100_000))


def prepare(folder: ServerFolder, run: RunSettings, round_timeout: float | None) -> Path:
    """Make a run's folder for the members in force; raise FederationError or BadInputError if it cannot be run."""
    settings = folder.settings()
    members = Members.open(folder.members_file).admitted()
    if len(members) < run.min_members:
        raise FederationError(
            f"{folder.path}: has {len(members)} members, and a round needs {run.min_members}. Admit more, or lower "
            "--min-members."
        )
    logging.getLogger("flwr").setLevel(logging.ERROR)  # it would say that nothing is evaluated
    require_tolerance(make_strategy(run.strategy, run.strategy_options), run.min_members)
    model = card_of(folder).model
    run_id = f"{settings.name}-{now():%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"
    ask = TrainInstructions.from_mapping(
        {
            "run_id": run_id,
            "round": 1,
            "rounds": run.rounds,
            "local_steps": run.local_steps,
            "epsilon": run.epsilon,
            "delta": run.delta,
            "clip_norm": run.clip_norm,
            "sample_rate": run.sample_rate,
            "learning_rate": run.learning_rate,
            "scalar_learning_rate": run.scalar_learning_rate,
            "negatives": run.negatives,
            "targets": run.targets,
            "encoders": model.encoders,
            "encoder_identities": model.encoder_identities,
            "width": model.width,
            "history_length": model.history_length,
            "seed": secrets.randbelow(2**31),
        }
    )
    limit = round_timeout or round_limit(
        run, max(m.population_size for m in members), ask.spec.exchange.parameters
    )
    prepared = FederationSettings(
        strategy=run.strategy,
        strategy_options=run.strategy_options,
        weights={member.name: float(member.population_size) for member in members},
        min_replies=run.min_members,
        round_timeout=limit,
        attempts=ATTEMPTS,
        member_wait=MEMBER_WAIT,
        members=Path("../..") / folder.members_file.name,
        log="json",
        instructions=ask,
    )
    place = folder.runs.absolute() / run_id
    place.mkdir(parents=True, mode=0o700)
    prepared.save(place)
    return place


def find_run(folder: ServerFolder, run: str) -> Path:
    """Return the folder of a run by its name or path; raise BadInputError if it is none."""
    for place in (folder.runs / run, Path(run)):
        if (place / "federation.json").exists():
            return place.absolute()
    raise BadInputError(f"{run!r} is no run of {folder.path}: its runs are in {folder.runs}.")


def execute(folder: ServerFolder, place: Path, say: Say) -> None:
    """Run, or go on with, what was prepared in `place`, until its model is written.

    A run that SuperLink still executes is followed, not submitted again. Raises RunFailedError, with the exit code of
    what went wrong, if it ends without a model; ServerAwayError; BusyError if it is followed by another command.
    """
    settings = FederationSettings.load(place)
    with held(place / "follow.lock", f"Following run {place.name}"):
        checkpoint = load_checkpoint(place)
        if checkpoint and checkpoint.round >= settings.instructions.rounds and (place / MODEL).exists():
            say(f"run {place.name} is complete already")
            return
        reader = EventReader(place, from_end=True)
        control = Control(folder)
        await_superlink(folder, say)
        if not _followed(control, reader, settings, say):
            number = control.submit(build_bundle()[1], place)
            replace(place / "submitted.json", json.dumps({"run": number}).encode() + b"\n")
            say(f"  submitted; it must start within {START_LIMIT:g} s")
            _follow(control, number, reader, settings, START_LIMIT, say)
    if not (place / MODEL).exists():
        raise RunFailedError(f"{place}: the run ended without a model.")


def _followed(control: Control, reader: EventReader, settings: FederationSettings, say: Say) -> bool:
    """Whether an attempt that SuperLink still executed was followed to its end; not if there is none, or it was lost."""
    number = _submitted(reader.folder)
    known = None if number is None else control.find(number)
    if number is None or known is None or known.finished:
        return False
    say("  is still executed by the server; following it")
    try:
        _follow(control, number, reader, settings, settings.silence_limit, say)
    except AttemptLostError as lost:
        say(f"  the attempt was lost: {lost.details}")
        return False
    return True


def await_superlink(folder: ServerFolder, say: Say) -> None:
    """Wait for a SuperLink that is being started; raise ServerAwayError if nobody starts it, or it takes too long."""
    control, end, said = Control(folder), time.monotonic() + START_LIMIT, False
    while True:
        try:
            control.find(0)
            return
        except ServerAwayError:
            if not is_held(folder.lock) or time.monotonic() > end:
                raise
        if not said:
            say("  SuperLink is being started; waiting for it")
            said = True
        time.sleep(_POLL)


def _submitted(place: Path) -> int | None:
    try:
        return int(json.loads((place / "submitted.json").read_text(encoding="utf-8"))["run"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInputError(
            f"{place / 'submitted.json'}: cannot be read. If no such run is executed any more, remove it and resume."
        ) from None


def _follow(
    control: Control, number: int, reader: EventReader, settings: FederationSettings, silence: float, say: Say
) -> None:
    """Show events until the run is over; return only if the server app says that it finished."""
    heard, away_since, again = time.monotonic(), None, f"Go on with --resume {reader.folder.name}."
    while True:
        over = False
        try:
            found = control.find(number)
            over, away_since = found is None or found.finished, None
        except ServerAwayError as error:
            if away_since is None:
                away_since = time.monotonic()
                say(f"  SuperLink does not answer; waiting up to {AWAY_LIMIT:g} s for it")
            elif time.monotonic() - away_since > AWAY_LIMIT:
                raise ServerAwayError(f"{error} {again}") from None
        events = reader.new()  # after the question, so that nothing is missed if it is over
        for event in events:
            heard, silence = time.monotonic(), settings.silence_limit
            line = describe(event["event"], event)
            if line:
                say(line)
            if event["event"] == "failed":
                failure = RunFailedError(f"{event['message']} {again}")
                failure.exit_code = int(event.get("exit_code", RunFailedError.exit_code))
                raise failure
            if event["event"] == "finished":
                return
        if over:
            details = "it is unknown to SuperLink" if found is None else found.details
            raise AttemptLostError(reader.folder.name, details, again)
        if away_since is None and time.monotonic() - heard > silence:
            control.stop(number)
            raise RunFailedError(
                f"Run {reader.folder.name} said nothing for {silence:g} s and was stopped. Look at the log of fedcart "
                f"server start. {again}"
            )
        time.sleep(_POLL)
