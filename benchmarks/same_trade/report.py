"""From cells to a table: what each way to serve reaches, and its gain over being alone."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.same_trade.trade import Range
from benchmarks.transfer.statistics import compare

CellKey = tuple[str, Range, int]
SIGNIFICANT = 0.05


def summary(cells: Mapping[CellKey, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per trade, range and way: means over the draws, and gains over "alone" shopper by shopper."""
    rows = []
    for trade, sold in dict.fromkeys((trade, sold) for trade, sold, _ in cells):
        draws = [cell for (name, kind, _), cell in cells.items() if (name, kind) == (trade, sold)]
        for way in draws[0]["ways"]:
            judged = [draw["ways"][way] for draw in draws]
            pairs = [
                compare(*(np.asarray(draw["ways"][name]["per_shopper"]) for name in (way, "alone")))
                for draw in draws
            ]
            rows.append(
                {
                    "trade": trade,
                    "sold": str(sold),
                    "way": way,
                    "shoppers": [len(one["per_shopper"]) for one in judged],
                    "recall@10": float(np.mean([one["recall@10"] for one in judged])),
                    "ndcg@10": float(np.mean([one["ndcg@10"] for one in judged])),
                    "gains": [pair.relative for pair in pairs],
                    "significant": sum(pair.p < SIGNIFICANT and pair.gain.mean > 0 for pair in pairs),
                    "harmful": sum(pair.p < SIGNIFICANT and pair.gain.mean < 0 for pair in pairs),
                }
            )
    return rows


def markdown(found: Mapping[str, Any]) -> str:
    """Return the report as markdown."""
    size, origin = found["size"], found["provenance"]
    lines = [
        "| trade | items | way | NDCG@10 | Recall@10 | gain over alone, per draw | significant |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["cells"]:
        gains = "" if row["way"] == "alone" else ", ".join(f"{gain:+.1%}" for gain in row["gains"])
        better = "" if row["way"] == "alone" else f"{row['significant']} of {len(row['gains'])}"
        lines.append(
            f"| {row['trade']} | {row['sold']} | {row['way']} | {row['ndcg@10']:.4f} | {row['recall@10']:.4f} "
            f"| {gains} | {better} |"
        )
    versions = ", ".join(f"{name} {number}" for name, number in origin["versions"].items())
    return "\n".join(
        [
            *lines,
            "",
            f"Small platform: {size['shots']} shoppers to learn from, {size['judged']} in all; K = {size['codes']}. "
            f"Commit {origin['commit']}; {versions}.",
        ]
    )
