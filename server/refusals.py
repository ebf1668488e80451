"""What a run's events say about members whose replies did not count, in one line for each and why."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def refusals(events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return who was left out, why, how often, and in which rounds: by platform and code, in their order.

    A reply that did not come in time counts as `no-reply`, a member who was not there as `absent`. An attempt that was
    asked again counts again.
    """
    found: dict[tuple[str, str], list[int]] = {}
    for event in events:
        kind = event.get("event")
        if kind == "client-failed":
            found.setdefault((event["platform"], event.get("code", "node")), []).append(event["round"])
        elif kind in ("no-reply", "absent"):
            for platform in event["platforms"]:
                found.setdefault((platform, kind), []).append(event["round"])
    return [
        {"platform": platform, "code": code, "times": len(rounds), "rounds": sorted(set(rounds))}
        for (platform, code), rounds in sorted(found.items())
    ]


def refusal_lines(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The same for people.

    >>> refusal_lines([{"platform": "toys", "code": "exchange.reach", "times": 3, "rounds": [1, 2, 5]}])
    ['  toys was left out 3 times (exchange.reach), in rounds 1, 2, 5']
    """
    lines = []
    for one in found:
        times = "once" if one["times"] == 1 else f"{one['times']} times"
        rounds = ", ".join(map(str, one["rounds"][:8])) + (" …" if len(one["rounds"]) > 8 else "")
        word = "round" if len(one["rounds"]) == 1 else "rounds"
        lines.append(f"  {one['platform']} was left out {times} ({one['code']}), in {word} {rounds}")
    return lines
