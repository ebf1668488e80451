"""From cells to a report: what each audience has with each way, its gain shopper by shopper, and the targets."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.trade.shops import Sold
from benchmarks.trade.study import FIRST_DAY, MEMBER, CellKey
from benchmarks.transfer.statistics import compare
from benchmarks.transfer.tables import table

NOT_PRIVATE, ONE, OWN = "not private", "ε = 8, one noise", "ε = 8, own noises"
TUNED_ON = ("toys", "beauty")
Rows = list[dict[str, Any]]
_HOW = (
    "Each trade is cut by its shoppers into five shops: four members, and a newcomer whose test shoppers are ranked "
    "the whole catalogue, leave-one-out, seen items filtered. Gains are of NDCG@10 over the first line, with 95 % "
    "bootstrap intervals over the same shoppers. ×10: a tenth of the noise, which ten times as many shoppers of the "
    "same habits would have. δ = 1e-6. Constants were chosen on validation shoppers of toys and beauty; noise is "
    "reproducible, so the accounting is exact and the tables are not private."
)


def rows(cells: Mapping[CellKey, Mapping[str, Any]]) -> Rows:
    """Return a row per trade, range, audience and way: means over draws, and the gain over the audience's first way.

    Draws have other shoppers each, so their paired differences are put side by side.
    """
    found: Rows = []
    for what in dict.fromkeys(key._replace(seed=0) for key in cells):
        draws = [cell["ways"] for key, cell in cells.items() if key._replace(seed=0) == what]
        floor = _together(draws, next(iter(draws[0])))
        for way in draws[0]:
            values = _together(draws, way)
            pair = compare(values, floor)
            found.append(
                {
                    "trade": what.trade,
                    "sold": str(what.sold),
                    "audience": what.audience,
                    "way": way,
                    "draws": len(draws),
                    "shoppers": len(values),
                    "ndcg@10": float(values.mean()),
                    "recall@10": mean(draw[way]["recall@10"] for draw in draws),
                    "gain": pair.relative,
                    "low": pair.gain.low / floor.mean() if floor.any() else 0.0,
                    "high": pair.gain.high / floor.mean() if floor.any() else 0.0,
                    "p": pair.p,
                }
            )
    return found


def _together(draws: Sequence[Mapping[str, Any]], way: str) -> NDArray[np.float64]:
    return np.concatenate([np.asarray(draw[way]["per_shopper"]) for draw in draws])


def targets(found: Rows) -> list[dict[str, Any]]:
    """Return each target of the project with what was reached; `met` is None where its cells are missing."""
    everything, most = str(Sold.everything), str(Sold.most)
    day = [
        ("newcomer's first day, ε = 8, one noise", ONE, 0.30, 0.12),
        ("the same, own noises", OWN, 0.25, 0.07),
        ("the same, ε = 1, own noises, ×10", "ε = 1, own noises, ×10", 0.30, None),
    ]
    result = [_target(what, _gains(found, everything, FIRST_DAY, way), *needed) for what, way, *needed in day]
    kept = {
        t: (1 + g) / (1 + _gains(found, everything, FIRST_DAY, NOT_PRIVATE)[t]) - 1
        for t, g in _gains(found, everything, FIRST_DAY, f"{OWN}, ×10").items()
    }
    result.append(_target("first day, ε = 8, own noises, ×10, of the non-private", kept, -0.05, None))
    result.append(
        _target(
            "500-shot, ε = 8, one noise, over alone", _gains(found, everything, "500-shot", ONE), 0.10, -0.01
        )
    )
    members = _gains(found, everything, MEMBER, f"{OWN}, ×10")
    tuned = {trade: gain for trade, gain in members.items() if trade in TUNED_ON}
    result.append(_target("members, toys and beauty, ε = 8, own noises, ×10, over alone", tuned, 0.04, -0.01))
    result.append(_target("members, every trade, the same", members, None, -0.01))
    result.append(
        _target(
            "members, ε = 8, own noises, lose nothing", _gains(found, everything, MEMBER, OWN), None, -0.005
        )
    )
    result.append(
        _target(
            "first day, each sells 70 %, ε = 8, one noise", _gains(found, most, FIRST_DAY, ONE), 0.08, None
        )
    )
    return result


def _gains(found: Rows, sold: str, audience: str, way: str) -> dict[str, float]:
    return {
        row["trade"]: row["gain"]
        for row in found
        if (row["sold"], row["audience"], row["way"]) == (sold, audience, way)
    }


def _target(
    what: str, gains: Mapping[str, float], average: float | None, each: float | None
) -> dict[str, Any]:
    """Return a target: the mean gain over trades, and the least of any."""
    reached = mean(gains.values()) if gains else None
    least = min(gains.values(), default=None)
    met = None
    if gains:
        met = (average is None or mean(gains.values()) >= average) and (
            each is None or min(gains.values()) >= each
        )
    return {
        "what": what,
        "trades": len(gains),
        "mean": reached,
        "mean_needed": average,
        "least": least,
        "least_needed": each,
        "met": met,
    }


def markdown(found: Mapping[str, Any]) -> str:
    """Return the report as markdown."""
    origin = found["provenance"]
    versions = ", ".join(f"{name} {number}" for name, number in origin["versions"].items())
    lines = ["# Joining within a trade", "", _HOW, "", *_data(found), *_targets(found["targets"])]
    if found["curve"]:
        lines += [f"![Gain over the prior by shoppers and ε]({found['curve']})", ""]
    for sold, audience in dict.fromkeys((row["sold"], row["audience"]) for row in found["rows"]):
        lines += _audience([r for r in found["rows"] if (r["sold"], r["audience"]) == (sold, audience)])
    lines += [
        f"Cells of commit {', '.join(origin['cell_commits'])}; report of commit {origin['commit']}, {origin['written']}; "
        f"{versions}. Draws are numbered from seed 0.",
        "",
    ]
    return "\n".join(lines)


def _data(found: Mapping[str, Any]) -> list[str]:
    head = ["trade", "shoppers", "products", "edges", "fingerprint of events:catalogue"]
    lines = [
        [
            t["trade"],
            *(f"{t[k]:,}" for k in ("shoppers", "products", "edges")),
            f"`{t['fingerprint']}`",
        ]
        for t in found["trades"]
    ]
    return [*table(head, lines), ""]


def _targets(found: list[dict[str, Any]]) -> list[str]:
    words = {True: "met", False: "**missed**", None: "open"}
    lines = [
        [
            t["what"],
            str(t["trades"]),
            _percent(t["mean"]),
            _percent(t["mean_needed"]),
            _percent(t["least"]),
            _percent(t["least_needed"]),
            words[t["met"]],
        ]
        for t in found
    ]
    head = ["NDCG@10 of joining against not", "trades", "mean", "needed", "least", "needed", ""]
    return ["## Targets", "", *table(head, lines), ""]


def _audience(found: Rows) -> list[str]:
    """Return a table: a line a way, a column a trade."""
    trades = list(dict.fromkeys(row["trade"] for row in found))
    cells = {(row["way"], row["trade"]): row for row in found}
    first, *others = dict.fromkeys(row["way"] for row in found)
    lines = [[first, *(f"{cells[first, trade]['ndcg@10']:.4f}" for trade in trades)]]
    for way in others:
        lines.append([way, *(_shown(cells[way, trade]) for trade in trades)])
    head = [f"{trade} ({cells[first, trade]['shoppers']:,} ranked)" for trade in trades]
    title = f"## {found[0]['audience']}, each shop sells {found[0]['sold']}"
    return [title, "", *table(["NDCG@10", *head], lines), ""]


def _shown(row: Mapping[str, Any]) -> str:
    return f"{row['ndcg@10']:.4f}, {row['gain']:+.1%} ({row['low']:+.1%} to {row['high']:+.1%})"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:+.1%}"
