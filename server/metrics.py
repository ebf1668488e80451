"""The server's metrics: processes, rounds, members and bytes, from its record and the runs' events. No ε, no data."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from federation.metrics import process_families
from federation.supervise import read_record
from server.events import read_events
from server.folder import ServerFolder

_MOST_CODES = 50
"""Codes come from members, too: more kinds than these are counted as "other"."""


class ServerCollector(Collector):
    """Reads a federation's folder at every scrape."""

    def __init__(self, folder: ServerFolder) -> None:
        self._folder = folder

    def describe(self) -> list[Metric]:
        """Return nothing: what there is follows from the folder."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        yield from process_families(read_record(self._folder.server_record))
        totals, members, refused = Counter[str](), Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        last = 0.0
        for place in sorted(self._folder.runs.glob("*/federation.json")):
            totals["runs"] += 1
            for event in read_events(place.parent):
                if isinstance(event, dict):
                    last = _count(event, totals, members, refused) or last
        for name, text in _TOTALS.items():
            yield CounterMetricFamily(f"fedcart_{name}", text, value=totals[name])
        yield GaugeMetricFamily(
            "fedcart_last_round_seconds", "Seconds until the last asked members had answered.", value=last
        )
        for what, text in _MEMBERS.items():
            family = CounterMetricFamily(f"fedcart_member_{what}", text, labels=["platform"])
            for (platform, kind), number in sorted(members.items()):
                if kind == what:
                    family.add_metric([platform], number)
            yield family
        family = CounterMetricFamily(
            "fedcart_member_refused",
            "Replies that did not count, by public code.",
            labels=["platform", "code"],
        )
        known = {code for code, _ in Counter(code for _, code in refused).most_common(_MOST_CODES)}
        by_code = Counter[tuple[str, str]]()
        for (platform, code), number in refused.items():
            by_code[platform, code if code in known else "other"] += number
        for (platform, code), number in sorted(by_code.items()):
            family.add_metric([platform, code], number)
        yield family


_TOTALS = {
    "runs": "Runs that were prepared.",
    "runs_finished": "Runs that ended with a model.",
    "runs_failed": "Ends of runs without a model; a resumed run may have several.",
    "rounds": "Rounds that were averaged.",
    "rounds_repeated": "Rounds that were asked again for want of good replies.",
    "round_seconds": "Seconds until replies were there, over all rounds.",
    "sent_bytes": "Bytes of tensors sent to members.",
    "received_bytes": "Bytes of tensors in replies that counted.",
}
_MEMBERS = {"asked": "Rounds for which a member was asked.", "answered": "Replies that counted."}


def _count(
    event: Mapping[str, Any],
    totals: Counter[str],
    members: Counter[tuple[str, str]],
    refused: Counter[tuple[str, str]],
) -> float | None:
    """Add one event; return the seconds of a round if it says them."""
    match event.get("event"):
        case "round":
            totals["rounds"] += 1
        case "finished":
            totals["runs_finished"] += 1
        case "failed":
            totals["runs_failed"] += 1
        case "repeated":
            totals["rounds_repeated"] += 1
        case "asked":
            totals["sent_bytes"] += event.get("bytes", 0)
            members.update((name, "asked") for name in event["platforms"])
        case "answered":
            totals["received_bytes"] += event["bytes"]
            totals["round_seconds"] += event["seconds"]
            members.update((name, "answered") for name in event["platforms"])
            return float(event["seconds"])
        case "client-failed":
            refused[event["platform"], event.get("code", "node")] += 1
        case "no-reply" | "absent" as kind:
            refused.update((name, kind) for name in event["platforms"])
    return None
