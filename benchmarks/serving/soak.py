"""Load with faults: every caller has a code that it must get, and the service's memory must stay flat.

| caller       | what it does                                            | codes that are right                       |
|--------------|---------------------------------------------------------|--------------------------------------------|
| good         | lists with filters, diversity, boosts, typed text       | OK, RESOURCE_EXHAUSTED                     |
| feedback     | clicks; the database is away half the time              | OK, UNAVAILABLE                            |
| slow reader  | a session in one call whose answers are read late       | OK                                         |
| cancelled    | goes away before its answer                             | CANCELLED, OK                              |
| hurried      | has a deadline of a millisecond                         | DEADLINE_EXCEEDED, OK                      |
| oversized    | a message above the limit                               | RESOURCE_EXHAUSTED                         |
| malformed    | bytes that are no message                               | INVALID_ARGUMENT, OK (some bytes are one)  |
| fuzzed       | a message of any method with bytes changed, cut, added  | OK, INVALID_ARGUMENT, NOT_FOUND,           |
|              |                                                         | UNAVAILABLE, RESOURCE_EXHAUSTED            |
| others       | ranks, similar items, explanations, profiles, audiences | OK, RESOURCE_EXHAUSTED                     |
| no token     | a wrong token                                           | UNAUTHENTICATED                            |
| unknown      | an item that is not there                               | NOT_FOUND                                  |
| empty        | asks whether the service is well: work for gRPC alone   | OK                                         |

Meanwhile the service exchanges model and catalogue every second, and its database is away every other second. The title
of an item ends with the edition of its catalogue: an answer of one version with an item of the other's is wrong.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from pathlib import Path
from random import Random
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub

from benchmarks.serving.host import SHOWN, TOKEN
from benchmarks.serving.process import Hosted, hosted
from clients.serving.bounds import MESSAGE_LIMIT
from clients.serving.serve import SERVICE
from clients.serving.v1 import serving_pb2 as messages
from clients.serving.v1.serving_pb2_grpc import RecommenderStub

_RIGHT = {
    "good": {"OK", "RESOURCE_EXHAUSTED"},
    "feedback": {"OK", "UNAVAILABLE"},
    "slow reader": {"OK"},
    "cancelled": {"OK", "CANCELLED"},
    "hurried": {"OK", "DEADLINE_EXCEEDED"},
    "oversized": {"RESOURCE_EXHAUSTED"},
    "malformed": {"OK", "INVALID_ARGUMENT"},
    "fuzzed": {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNAVAILABLE", "RESOURCE_EXHAUSTED"},
    "others": {"OK", "RESOURCE_EXHAUSTED"},
    "no token": {"UNAUTHENTICATED"},
    "unknown": {"NOT_FOUND"},
    "empty": {"OK"},
}
TARGET_MS = 15.0
_MARGIN = 2 / 3
LEAST = 50.0
"""Good requests a second that are tried first."""
FAULTS_PER_SECOND = 1.0
"""How often each of the other callers calls: ten of them, so one call in six is a fault at 50 lists a second."""
EMPTY_PER_SECOND = 10.0
"""Enough to have a 99th percentile: what of the lists' p99 is gRPC's, Python's and the machine's."""
_PULSE = 0.02
"""Seconds between two looks at the callers' own clock: what is late there is not the service's doing."""


@dataclass
class Tally:
    """Codes by caller, wrong answers, the milliseconds of good lists and of empty calls, and by how many this process
    itself was late."""

    codes: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in _RIGHT})
    wrong: list[str] = field(default_factory=list)
    taken: list[float] = field(default_factory=list)
    empty: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)

    async def count(self, caller: str, call: Awaitable[Any]) -> Any:
        """Wait for a call, keep its code, and return its answer, None without one."""
        answer, code = None, "OK"
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            code = error.code().name
        except asyncio.CancelledError:
            code = "CANCELLED"
        self.codes[caller][code] += 1
        if code not in _RIGHT[caller]:
            self.wrong.append(f"{caller}: {code}")
        return answer

    def look(self, caller: str, answer: Any) -> None:
        """Find items that are not of the catalogue of the version that the answer names."""
        if any(item.title.split()[-1] != answer.header.model_version for item in answer.items):
            self.wrong.append(f"{caller}: an item of another catalogue")


def soak(
    minutes: float,
    rate: float,
    seed: int,
    folder: Path,
    *,
    items: int = 20_000,
    width: int = 64,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Run all callers for some minutes and report; `failed` says what was wrong."""
    with hosted(items, 1000, width, seed, folder, faults=True) as service:
        tally, memory = asyncio.run(_run(service, 60 * minutes, rate, seed, items, say))
    # The first tenth warms up: threads, arenas, caches.
    steady = memory[len(memory) // 5 :] or memory
    half = len(steady) // 2
    before, after = (sum(part) / max(len(part), 1) for part in (steady[:half], steady[half:]))
    ordered = sorted(tally.taken)
    return {
        "minutes": minutes,
        "requests_per_second": rate,
        "codes": {name: dict(found) for name, found in tally.codes.items()},
        "p50_ms": ordered[len(ordered) // 2],
        "p99_ms": _p99(tally.taken),
        "empty_call_p99_ms": _p99(tally.empty),
        "caller_late_p99_ms": _p99(tally.late),
        "memory_mb": {"first": memory[0], "steady_first_half": before, "steady_second_half": after},
        "memory_growth": after / before - 1 if half else 0.0,
        "failed": sorted(set(tally.wrong)),
    }


def highest_rate(
    seed: int,
    folder: Path,
    *,
    items: int = 20_000,
    width: int = 64,
    seconds: float = 8.0,
    say: Callable[[str], None] = lambda _: None,
) -> float:
    """Return the most good requests a second, all faults included, whose 99th percentile stays under two thirds of
    `TARGET_MS`: a short trial sees fewer of the rare delays than ten minutes do.

    Doubled from `LEAST` until two rates in a row do not hold (a trial is short, and one slow call in a hundred is
    enough), then halved twice between; 0 where none holds.
    """

    def holds(rate: float) -> bool:
        with hosted(items, 1000, width, seed, folder, faults=True) as service:
            tally, _ = asyncio.run(_run(service, seconds, rate, seed, items, lambda _: None))
        late = _p99(tally.taken[int(rate) :])  # the first second warms up
        say(
            f"{rate:g} a second: p99 {late:.1f} ms (empty calls: {_p99(tally.empty):.1f} ms), "
            f"{len(tally.taken)} of {int(rate * seconds)} begun"
        )
        return late <= _MARGIN * TARGET_MS and len(tally.taken) >= 0.98 * int(rate * seconds)

    best, rate = 0.0, LEAST
    while rate <= min(1600, 4 * best or 2 * LEAST):
        if holds(rate):
            best = rate
        rate *= 2
    rate = 2 * best
    for _ in range(2 if best else 0):
        middle = (best + rate) / 2
        if holds(middle):
            best = middle
        else:
            rate = middle
    return best


def _p99(taken: list[float]) -> float:
    """Return the 99th percentile; inf where nothing was answered, as of a service that is too slow for its callers."""
    return sorted(taken)[int(len(taken) * 0.99)] if taken else math.inf


async def _run(
    service: Hosted, length: float, rate: float, seed: int, items: int, say: Callable[[str], None]
) -> tuple[Tally, list[float]]:
    tally, memory, end = Tally(), [], time.monotonic() + length
    random = Random(seed)  # noqa: S311
    async with grpc.aio.insecure_channel(service.address) as channel:
        stub = RecommenderStub(channel)
        others = [_feedback, _slow, _cancelled, _hurried, _oversized, _malformed, _no_token, _unknown]
        others += [_fuzzed, _others]
        callers = [
            _repeat(partial(other, channel, stub, tally, random), end, _gaps(random)) for other in others
        ]
        good = _repeat(partial(_good, stub, tally, random, items), end, repeat(1 / rate))
        callers.append(
            _repeat(partial(_empty, HealthStub(channel), tally), end, repeat(1 / EMPTY_PER_SECOND))
        )

        async def watch() -> None:
            while time.monotonic() < end:
                memory.append(service.megabytes())
                say(f"{end - time.monotonic():.0f} s left, {memory[-1]:.0f} MB, wrong: {len(tally.wrong)}")
                await asyncio.sleep(min(2.0, length / 10))

        async def pulse() -> None:
            while time.monotonic() < end:
                start = time.perf_counter()
                await asyncio.sleep(_PULSE)
                tally.late.append(1e3 * (time.perf_counter() - start - _PULSE))

        await asyncio.gather(good, watch(), pulse(), *callers)
    return tally, memory


def _gaps(random: Random) -> Iterator[float]:
    """Yield seconds between calls of one caller of faults, who knows nothing of the others: a Poisson process."""
    while True:
        yield random.expovariate(FAULTS_PER_SECOND)


async def _repeat(work: Callable[[], Awaitable[None]], end: float, gaps: Iterator[float]) -> None:
    """Begin `work` after each gap (seconds), whether or not the last one is done; at most 64 at once."""
    running: set[asyncio.Task[None]] = set()
    due = time.monotonic()
    while time.monotonic() < end:
        if len(running) < 64:
            task = asyncio.ensure_future(work())
            running.add(task)
            task.add_done_callback(running.discard)
        due += next(gaps)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    await asyncio.gather(*running)


async def _good(stub: RecommenderStub, tally: Tally, random: Random, items: int) -> None:
    request = messages.RecommendRequest(
        who=messages.Who(
            shopper_id=f"u{random.randrange(1000):07}",
            item_ids=[f"i{random.randrange(items):07}"],
            texts=[f"topic{random.randrange(500)}"] if random.random() < 0.2 else [],
        ),
        diversity=random.choice([0.0, 0.3]),
        boosts=[messages.Boost(category="c1", add=0.5)] if random.random() < 0.2 else [],
        filters=messages.Filters(max_price=50) if random.random() < 0.5 else None,
    )
    start = time.perf_counter()
    answer = await tally.count("good", stub.Recommend(request, metadata=SHOWN, timeout=20))
    tally.taken.append(1e3 * (time.perf_counter() - start))
    if answer is not None:
        tally.look("good", answer)
        if len(answer.items) != 10:
            tally.wrong.append(f"good: {len(answer.items)} items of 10")


async def _empty(health: HealthStub, tally: Tally) -> None:
    start = time.perf_counter()
    await tally.count("empty", health.Check(HealthCheckRequest(), timeout=20))
    tally.empty.append(1e3 * (time.perf_counter() - start))


async def _feedback(_: Any, stub: RecommenderStub, tally: Tally, random: Random) -> None:
    name = f"{random.getrandbits(64):x}"
    click = messages.Interaction(event_id=name, shopper_id="u0000001", kind="CLICK", item_id="i0000001")
    request = messages.RecordFeedbackRequest(interactions=[click])
    await tally.count("feedback", stub.RecordFeedback(request, metadata=SHOWN, timeout=20))


async def _slow(_: Any, stub: RecommenderStub, tally: Tally, random: Random) -> None:
    async def session() -> None:
        call = stub.Stream(metadata=SHOWN, timeout=60)
        await call.write(messages.StreamRequest(open=messages.RecommendRequest(count=500)))
        for _ in range(5):
            await call.write(messages.StreamRequest(item_id=f"i{random.randrange(1000):07}"))
        await call.done_writing()
        await asyncio.sleep(1.0)
        answers = 0
        async for answer in call:
            answers += 1
            tally.look("slow reader", answer.list)
            await asyncio.sleep(0.1)
        if answers != 6:
            tally.wrong.append(f"slow reader: {answers} answers of 6")

    await tally.count("slow reader", session())


async def _cancelled(_: Any, stub: RecommenderStub, tally: Tally, random: Random) -> None:
    call = stub.Recommend(messages.RecommendRequest(count=500), metadata=SHOWN, timeout=20)
    asyncio.get_running_loop().call_later(random.random() * 0.01, call.cancel)
    await tally.count("cancelled", call)


async def _hurried(_: Any, stub: RecommenderStub, tally: Tally, random: Random) -> None:
    request = messages.AudienceRequest(item_id=f"i{random.randrange(1000):07}")
    await tally.count("hurried", stub.Audience(request, metadata=SHOWN, timeout=0.001))


async def _oversized(_: Any, stub: RecommenderStub, tally: Tally, random: Random) -> None:
    request = messages.RecommendRequest(request_id="x" * (MESSAGE_LIMIT + random.randrange(1, 10**6)))
    await tally.count("oversized", stub.Recommend(request, metadata=SHOWN, timeout=20))


async def _malformed(channel: grpc.aio.Channel, _: Any, tally: Tally, random: Random) -> None:
    method = random.choice(["Recommend", "Rank"])
    raw = channel.unary_unary(f"/{SERVICE}/{method}")
    data = random.randbytes(random.randrange(1, 60))
    await tally.count("malformed", raw(data, metadata=SHOWN, timeout=20))


async def _fuzzed(channel: grpc.aio.Channel, _: Any, tally: Tally, random: Random) -> None:
    method, message = random.choice(list(_messages(random).items()))
    data = bytearray(message.SerializeToString())
    for _number in range(random.randrange(1, 3)):
        at = random.randrange(len(data))
        if random.random() < 0.7:
            data[at] ^= 1 << random.randrange(8)
        else:
            data[at : at + random.randrange(2)] = random.randbytes(random.randrange(2))
    raw = channel.unary_unary(f"/{SERVICE}/{method}")
    await tally.count("fuzzed", raw(bytes(data), metadata=SHOWN, timeout=20))


async def _others(_: Any, stub: RecommenderStub, tally: Tally, random: Random) -> None:
    asked = _messages(random)
    method = random.choice(["Rank", "SimilarItems", "Audience", "Profile", "Explain"])
    answer = await tally.count("others", getattr(stub, method)(asked[method], metadata=SHOWN, timeout=20))
    if answer is not None and method in {"Rank", "SimilarItems"}:
        tally.look("others", answer)


def _messages(random: Random) -> dict[str, Any]:
    """Return a good message of every method that takes one."""
    shopper, item = f"u{random.randrange(1000):07}", f"i{random.randrange(1000):07}"
    who = messages.Who(shopper_id=shopper, item_ids=[item])
    filters = messages.Filters(max_price=50, categories=["c1"])
    click = messages.Interaction(
        event_id=f"{random.getrandbits(64):x}", shopper_id=shopper, kind="CLICK", item_id=item
    )
    return {
        "Recommend": messages.RecommendRequest(who=who, count=10, filters=filters, diversity=0.3),
        "Rank": messages.RankRequest(who=who, candidate_ids=[item, "i0000001"]),
        "SimilarItems": messages.SimilarItemsRequest(item_id=item, count=10),
        "Audience": messages.AudienceRequest(item_id=item, count=10),
        "Profile": messages.ProfileRequest(shopper_id=shopper),
        "Explain": messages.ExplainRequest(who=who, item_id=item),
        "RecordFeedback": messages.RecordFeedbackRequest(interactions=[click]),
    }


async def _no_token(_: Any, stub: RecommenderStub, tally: Tally, random: Random) -> None:
    wrong = random.choice(["", "Bearer", "Bearer x", TOKEN, f"Bearer {TOKEN[:-1]}"])
    call = stub.Recommend(messages.RecommendRequest(), metadata=(("authorization", wrong),), timeout=20)
    await tally.count("no token", call)


async def _unknown(_: Any, stub: RecommenderStub, tally: Tally, random: Random) -> None:
    request = messages.SimilarItemsRequest(item_id=f"none{random.random()}")
    await tally.count("unknown", stub.SimilarItems(request, metadata=SHOWN, timeout=20))
