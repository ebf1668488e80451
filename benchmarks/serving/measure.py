"""Times of lists over gRPC, and of scoring alone, against floors measured in the same run."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import torch
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub

from benchmarks.serving.host import SHOWN
from benchmarks.serving.process import hosted
from benchmarks.serving.shop import TOPICS, made_features, made_snapshot
from clients.memory import Memory
from clients.recommender import LocalLayer, Memories
from clients.serving.asks import RecommendAsk, Who
from clients.serving.candidates import Question, best_items
from clients.serving.engine import look_up, recommend
from clients.serving.history import History
from clients.serving.recall import index_recall
from clients.serving.scoring import Scoring
from clients.serving.sweep import half_copy
from clients.serving.v1 import serving_pb2 as messages
from clients.serving.v1.serving_pb2_grpc import RecommenderStub
from shared_model.model import ModelSpec, block_norms

_WARM = 50


def seconds(work: Callable[[], object], repeats: int) -> list[float]:
    """Return the sorted seconds of each repeat, after one that does not count."""
    work()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return sorted(taken)


def milliseconds(taken: list[float]) -> dict[str, float]:
    """Return least, median and 99th percentile."""
    values = np.array(taken) * 1e3
    return {
        "least": float(values.min()),
        "median": float(np.median(values)),
        "p99": float(np.quantile(values, 0.99)),
    }


def over_grpc(
    items: int, shoppers: int, width: int, seed: int, rate: float, length: float, folder: Path
) -> dict[str, Any]:
    """Ask at a fixed rate, whether or not answers are late, and compare with the engine alone in this process."""
    snapshot = made_snapshot(items, shoppers, width, seed, folder)
    names = snapshot.shoppers.sequences.user_ids
    rng = np.random.default_rng(seed)
    recall = index_recall(snapshot, "model", 100)
    asks = iter(rng.integers(len(names), size=10_000).tolist())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the service sets them for lists from an index
    alone = seconds(lambda: recommend(snapshot, [RecommendAsk(Who(names[next(asks)]))]), 200)
    torch.set_num_threads(threads)
    with hosted(items, shoppers, width, seed, folder) as service:
        nothing = asyncio.run(_empty(service.address, rate, int(rate * length)))
        taken = asyncio.run(_asked(service.address, names, rate, int(rate * length), seed))
        memory = service.megabytes()
    wire, engine, empty = milliseconds(taken), milliseconds(alone), milliseconds(nothing)
    return {
        "items": items,
        "width": width,
        "requests_per_second": rate,
        "requests": len(taken),
        "grpc_ms": wire,
        "empty_call_ms": empty,
        "engine_alone_ms": engine,
        "p99_over_empty_call_p99": wire["p99"] / empty["p99"],
        "p99_over_engine_median": wire["p99"] / engine["median"],
        "index": recall is not None,
        "index_recall_at_10": None if recall is None else recall.share,
        "service_mb": memory,
        "target": {"grpc_ms.p99": 15},
    }


async def _empty(address: str, rate: float, count: int) -> list[float]:
    """Ask the same process, at the same rate, for nothing: what gRPC and this machine cost without any list."""
    async with grpc.aio.insecure_channel(address) as channel:
        check = HealthStub(channel).Check
        return await _at_rate(
            lambda _: check(HealthCheckRequest(), timeout=30), rate, list(range(count + _WARM))
        )


async def _asked(address: str, names: tuple[str, ...], rate: float, count: int, seed: int) -> list[float]:
    chosen = np.random.default_rng(seed + 1).integers(len(names), size=count + _WARM).tolist()
    async with grpc.aio.insecure_channel(address) as channel:
        stub = RecommenderStub(channel)

        def ask(at: int) -> Awaitable[object]:
            return stub.Recommend(
                messages.RecommendRequest(who=messages.Who(shopper_id=names[at])), metadata=SHOWN, timeout=30
            )

        return await _at_rate(ask, rate, chosen)


async def _at_rate(call: Callable[[int], Awaitable[object]], rate: float, chosen: list[int]) -> list[float]:
    """Call with each number, at a fixed rate; return the seconds of each but the first `_WARM`, one after another."""

    async def one(at: int) -> float:
        start = time.perf_counter()
        await call(at)
        return time.perf_counter() - start

    for at in chosen[:_WARM]:
        await one(at)
    begun, tasks = time.perf_counter(), []
    for number, at in enumerate(chosen[_WARM:]):
        await asyncio.sleep(max(0.0, begun + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(one(at)))
    return list(await asyncio.gather(*tasks))


def exact_pass(items: int, width: int, seed: int, repeats: int) -> dict[str, Any]:
    """Score every item for one, and for 16 sessions of one event, against one sum over the same matrix."""
    features = made_features(items, width, seed)
    spec = ModelSpec((width,))
    memories = Memories(Memory.empty(items), None)
    norms, half = block_norms(spec, features), half_copy(features)
    scoring = Scoring.of(spec, features, norms, torch.zeros(items), LocalLayer(0.1), memories, half)
    questions = [Question(_session(features, row), 10) for row in range(16)]
    floor = milliseconds(seconds(features.sum, repeats))
    one = milliseconds(seconds(lambda: best_items(scoring, questions[:1]), repeats))
    many = milliseconds(seconds(lambda: best_items(scoring, questions), repeats))
    return {
        "items": items,
        "width": width,
        "megabytes": features.nbytes / 2**20,
        "floor_sum_ms": floor,
        "one_list_ms": one,
        "sixteen_lists_ms": many,
        "one_over_floor": one["least"] / floor["least"],
        "sixteen_over_one": many["least"] / one["least"],
        "target": {"one_over_floor": 1.5},
    }


def _session(features: torch.Tensor, row: int) -> History:
    rows = np.array([row], dtype=np.int64)
    return History(rows, ("",), features[rows], np.ones(1, dtype=np.float32), frozenset([row]))


def against_faiss(
    items: int, shoppers: int, width: int, seed: int, repeats: int, folder: Path
) -> dict[str, Any]:
    """Make 16 lists exactly: our scoring of whole histories, and a faiss flat index given finished query vectors."""
    import faiss

    exact = made_snapshot(items, shoppers, width, seed, folder, "exact")
    scoring = exact.arms["model"].scoring
    names = exact.shoppers.sequences.user_ids[:16]
    questions = [Question(look_up(exact, Who(name)).history, 10) for name in names]
    flat = faiss.IndexFlatIP(width)
    flat.add(scoring.features.numpy())
    queries = np.stack([scoring.direction(scoring.asked(q.history)).numpy() for q in questions])
    near = made_snapshot(items, shoppers, width, seed, folder, "approximate").arms["model"]
    sessions = [Question(_session(scoring.features, row), 10) for row in range(16)]
    theirs = milliseconds(seconds(lambda: flat.search(queries, 10), repeats))
    rows = {
        "exact, histories": milliseconds(seconds(lambda: best_items(scoring, questions), repeats)),
        "exact, one event": milliseconds(seconds(lambda: best_items(scoring, sessions), repeats)),
        "index, histories": milliseconds(
            seconds(lambda: best_items(near.scoring, questions, near.index), repeats)
        ),
    }
    return {
        "items": items,
        "lists": 16,
        "topics": TOPICS,
        "faiss_flat_ms": theirs,
        "ours_ms": rows,
        "throughput_over_faiss_flat": {
            name: theirs["median"] / taken["median"] for name, taken in rows.items()
        },
    }
