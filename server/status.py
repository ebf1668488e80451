"""`fedcart server status`: what runs, who is there, how far the runs are, what the members' receipts say was spent."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from federation.lock import is_held
from federation.supervise import process_lines, read_processes
from server.app import LOCK, MODEL
from server.events import read_events
from server.folder import ServerFolder
from server.members import Members
from server.nodes import list_nodes
from server.refusals import refusal_lines, refusals
from server.settings import FederationSettings
from shared_model.errors import BadInputError


def server_status(folder: ServerFolder) -> dict[str, Any]:
    """Return the federation's state; raise FederationError or RegistryError if it cannot be read.

    What a member has spent is what its last receipt said, in whatever run; its ledger is the word of record.
    """
    settings, running = folder.settings(), is_held(folder.lock)
    nodes = {node.name: node.status for node in list_nodes(folder.database)}
    places = sorted(folder.runs.glob("*/federation.json"), key=lambda file: file.stat().st_mtime)
    runs = [_run(file.parent) for file in places]
    rounds = sorted((r for run in runs for r in run.rounds), key=lambda r: str(r["time"]))
    members, registry = [], Members.open(folder.members_file)
    ledgers = registry.ledgers()
    for member in registry.admitted():
        took_part = [r for r in rounds if member.name in r["platforms"]]
        last = took_part[-1] if took_part else {}
        spent, cap = last.get("epsilon", {}).get(member.name), last.get("caps", {}).get(member.name)
        members.append(
            {
                "name": member.name,
                "node": nodes.get(member.name, "unknown"),
                "last_success": last.get("time"),
                "epsilon": spent,
                "cap": cap,
                "left": None if spent is None or cap is None else max(0.0, cap - spent),
                "new_ledgers": list(ledgers[member.name].begun),
                "ledger_went_back": ledgers[member.name].went_back,
            }
        )
    return {
        "federation": settings.name,
        "address": settings.address,
        "running": running,
        "processes": read_processes(folder.server_record, running),
        "members": members,
        "runs": [run.document for run in runs],
    }


@dataclass(frozen=True)
class _Run:
    """One run: what is shown of it, and its rounds' events."""

    document: dict[str, Any]
    rounds: Sequence[dict[str, Any]]


def _run(place: Path) -> _Run:
    """A run's state: running, finished, failed, interrupted, or unreadable."""
    try:
        total = FederationSettings.load(place).instructions.rounds
    except BadInputError as error:
        return _Run({"run": place.name, "state": "unreadable", "reason": str(error)}, [])
    events = [e for e in read_events(place) if isinstance(e, dict) and "event" in e and "time" in e]
    rounds = [e for e in events if e["event"] == "round"]
    last = events[-1]["event"] if events else None
    state = "interrupted"
    if is_held(place / LOCK):
        state = "running"
    elif (place / MODEL).exists():
        state = "finished"
    elif last == "failed":
        state = "failed"
    document = {
        "run": place.name,
        "state": state,
        "round": rounds[-1]["round"] if rounds else 0,
        "rounds": total,
        "last_success": rounds[-1]["time"] if rounds else None,
        "reason": events[-1]["message"] if state == "failed" else None,
        "refused": refusals(events),
    }
    return _Run(document, rounds)


def server_status_lines(status: dict[str, Any]) -> Sequence[str]:
    """The same for people."""
    lines = [
        f"{status['federation']}, at {status['address']}",
        *process_lines(status, "fedcart server start"),
    ]
    for member in status["members"]:
        spent = "nothing spent yet"
        if member["epsilon"] is not None:
            spent = f"ε {member['epsilon']:.3f}"
            if member["cap"] is not None:
                spent += f" of {member['cap']:g}, {member['left']:.3f} left"
        lines.append(
            f"  member {member['name']}: {member['node']}; {spent}; last {member['last_success'] or 'never'}"
        )
        lines += [
            f"    began a new ledger on {moment}: earlier spending is not in its ε"
            for moment in member["new_ledgers"]
        ]
        if member["ledger_went_back"]:
            lines.append(
                f"    its ledger went back on {member['ledger_went_back']}: it is left out until a new one is admitted "
                "(fedcart server admit REQUEST --new-ledger REASON)"
            )
    for run in status["runs"]:
        if run["state"] == "unreadable":
            lines.append(f"  run {run['run']}: unreadable: {run['reason']}")
            continue
        lines.append(
            f"  run {run['run']}: {run['state']}, round {run['round']} of {run['rounds']}; last "
            f"{run['last_success'] or 'never'}"
        )
        lines.extend(f"  {line}" for line in refusal_lines(run["refused"]))
        if run["reason"]:
            lines.append(f"    {run['reason']}")
        if run["state"] in ("failed", "interrupted"):
            lines.append(f"    fedcart server run --resume {run['run']}")
    return lines
