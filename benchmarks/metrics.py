"""Ranking a large catalogue and measuring the lists: time and peak memory beside a plain implementation.

    python -m benchmarks.metrics [--items I] [--shoppers B] [--baseline-shoppers N] [--format table|json]

`ours` is `clients.evaluation.evaluate` with the prior's scores and then `simulations.quality.quality`: every metric of
a simulation, with intervals. `naive` scores all its shoppers in one matrix, sorts whole rows, finds targets in the order
and computes the same ranks and lists. It needs memory in proportion to B·I, so it runs for N shoppers, and `ours` runs
for the same N beside it; then `ours` runs for all B. Each runs in a process of its own, whose peak resident memory is
what the operating system says. Ratios are ours/naive for N shoppers: below 1 is better than naive. Times are seconds of
the processor, which a busy machine does not stretch, and of the clock.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.provenance import provenance
from clients.data.catalogue import Catalogue
from clients.data.sequences import Sequences
from clients.data.split import leave_one_out
from clients.evaluation import Ranking, evaluate
from clients.platform import Platform
from clients.recommender import LocalLayer, Recommender
from shared_model.model import ModelSpec, block_norms
from simulations.quality import quality

_EVENTS = 12


def make_platform(items: int, shoppers: int, width: int) -> Platform:
    """Return a platform with random unit features and histories in which low rows are popular."""
    rng = np.random.default_rng(0)
    features = torch.randn(items, width, generator=torch.Generator().manual_seed(0))
    features /= features.norm(dim=1, keepdim=True)
    bought = (items * rng.random((shoppers, _EVENTS)) ** 3).astype(np.int64).ravel()
    sequences = Sequences(
        tuple(f"u{n}" for n in range(shoppers)),
        bought,
        np.tile(np.arange(_EVENTS, dtype=np.int64), shoppers),
        np.arange(shoppers + 1, dtype=np.int64) * _EVENTS,
    )
    spec = ModelSpec((width,))
    return Platform(
        name="benchmark",
        catalogue=Catalogue(tuple(f"i{n}" for n in range(items)), pd.DataFrame(index=range(items))),
        split=leave_one_out(sequences, first_time_only=True, seed=0),
        spec=spec,
        features=features,
        norms=block_norms(spec, features),
        isolation=torch.zeros(len(features)),
        filter_seen=True,
        reports=(),  # type: ignore[arg-type]
        fingerprint="",
        scoring=torch.float32,
    )


def naive(platform: Platform, scorer: Recommender, k: int) -> Ranking:
    """Rank as one would write it down: one matrix of scores, filtered shopper by shopper, and a full sort."""
    users = platform.test_users
    scores = scorer.scores("test", users).numpy()
    targets = platform.split.test_target[users]
    for row, user in enumerate(users):
        seen = np.setdiff1d(platform.split.history("test", user)[0], targets[row])
        scores[row, seen] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")
    ranks = np.argmax(order == targets[:, None], axis=1) + 1.0
    return Ranking(ranks, order[:, :k])


def run(method: str, items: int, shoppers: int, width: int, k: int) -> dict[str, Any]:
    """Measure one method in this process."""
    platform = make_platform(items, shoppers, width)
    scorer = Recommender(platform, LocalLayer(popularity=0.1))
    start, clock = time.process_time(), time.perf_counter()
    if method == "ours":
        ranking = evaluate(platform, scorer, "test", platform.test_users, k)
    else:
        ranking = naive(platform, scorer, k)
    ranked, ranked_clock = time.process_time(), time.perf_counter()
    found = quality(platform, ranking, np.random.default_rng(0))
    measured = time.process_time()
    return {
        "shoppers": len(platform.test_users),
        "ranking_cpu_seconds": round(ranked - start, 3),
        "ranking_clock_seconds": round(ranked_clock - clock, 3),
        "metrics_cpu_seconds": round(measured - ranked, 3),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "values": {name: e.mean for name, e in found.means.items()} | found.totals,
    }


def apart(method: str, args: argparse.Namespace, shoppers: int) -> dict[str, Any]:
    """Run one method in a process of its own."""
    print(f"{method}: {shoppers:,} shoppers × {args.items:,} items", file=sys.stderr)  # noqa: T201
    command = [sys.executable, "-m", "benchmarks.metrics", "--only", method, "--shoppers", str(shoppers)]
    for name in ("items", "width", "k", "threads"):
        command += [f"--{name}", str(getattr(args, name))]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Run all and return the result."""
    plain = apart("naive", args, args.baseline_shoppers)
    beside = apart("ours", args, args.baseline_shoppers)
    whole = apart("ours", args, args.shoppers)
    same = all(
        abs(beside["values"][name] - value) <= 1e-9 * max(1.0, abs(value))
        for name, value in plain["values"].items()
    )
    for method in (plain, beside, whole):
        del method["values"]
    return {
        "benchmark": "metrics",
        "setting": {name: getattr(args, name) for name in ("items", "width", "k", "threads")},
        "naive": plain,
        "ours": beside,
        "ours_whole": whole,
        "same_values": same,
        "ratios": {
            "ranking_time": round(beside["ranking_cpu_seconds"] / plain["ranking_cpu_seconds"], 4),
            "peak_rss": round(beside["peak_rss_mb"] / plain["peak_rss_mb"], 4),
        },
        "provenance": provenance(),
    }


def table(result: dict[str, Any]) -> str:
    """Return the result as a markdown table."""
    lines = ["| | shoppers | ranking | per shopper | metrics | peak memory |", "|---|---|---|---|---|---|"]
    for name in ("naive", "ours", "ours_whole"):
        r = result[name]
        each = 1000 * r["ranking_cpu_seconds"] / r["shoppers"]
        lines.append(
            f"| {name.replace('_', ', ')} | {r['shoppers']:,} | {r['ranking_cpu_seconds']:.1f} s | {each:.1f} ms "
            f"| {r['metrics_cpu_seconds']:.2f} s | {r['peak_rss_mb'] / 1024:.2f} GB |"
        )
    ratios = result["ratios"]
    return "\n".join(
        [*lines, "", f"ours/naive: time {ratios['ranking_time']:.3f}, peak memory {ratios['peak_rss']:.3f}"]
    )


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics", description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--shoppers", type=int, default=10_000)
    parser.add_argument("--baseline-shoppers", type=int, default=100)
    parser.add_argument("--width", type=int, default=64, help="F, the width of an item's features")
    parser.add_argument("--k", type=int, default=10, help="length of the lists")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.add_argument("--only", choices=("ours", "naive"), help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    if args.only:
        print(json.dumps(run(args.only, args.items, args.shoppers, args.width, args.k)))  # noqa: T201
        return
    result = compare(args)
    print(json.dumps(result, indent=2) if args.format == "json" else table(result))  # noqa: T201


if __name__ == "__main__":
    main()
