"""Runs the service: address, TLS, health, reflection, limits, an orderly end."""

import asyncio
import contextlib
import signal
from collections.abc import Callable
from dataclasses import dataclass

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from clients.feedback import FeedbackStore
from clients.folder import ClientFolder
from clients.serving.bounds import BOUNDS, MESSAGE_LIMIT
from clients.serving.bounds import SERVICE as RECOMMENDER
from clients.serving.current import Current
from clients.serving.desk import Desk
from clients.serving.door import Door
from clients.serving.erased import Tombstones, WithoutErased
from clients.serving.errors import ServingError
from clients.serving.feedback import FeedbackSink
from clients.serving.load import load_snapshot
from clients.serving.recall import index_recall
from clients.serving.service import RecommenderService
from clients.serving.snapshot import Snapshot
from clients.serving.steady import steady, warm
from clients.serving.tls import server_credentials
from clients.serving.v1.serving_pb2_grpc import add_RecommenderServicer_to_server
from clients.serving.watch import keep_current, state_of
from clients.site import ServingSettings
from federation.address import join_address
from federation.rpc.guard import CallLimits, Guard
from federation.supervise import configure_log
from federation.validity import now
from shared_model.collector import collector_off

SERVICE = RECOMMENDER.full_name
_METHODS = 2 * len(RECOMMENDER.methods)
"""Those of the service, and more than health and reflection have: each has `waiting` places of its own."""
_GRACE_SECONDS = 5.0
_FIRST_CALLS_SECONDS = 1.0
"""Callers who wait for the service are answered before it makes what can wait."""
_log = structlog.get_logger("fedcart.serving")
_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_metadata_size", 16_384),
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),
)


@dataclass(frozen=True, eq=False)
class Serving:
    """What a service is made of."""

    current: Current
    settings: ServingSettings
    door: Door
    feedback: FeedbackSink


def run_serving(folder: ClientFolder, settings: ServingSettings, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is told what is served, and where, once calls are taken."""
    door = Door.of(settings)
    configure_log()
    if settings.without_token and settings.client_ca is None:
        _log.warning("without-token", see="fedcart client doctor")
    with collector_off():
        seen = state_of(folder)
        site = folder.site()
        erased = Tombstones(site)
        current = Current(load_snapshot(folder), erased=erased)
        steady(current.snapshot)
    feedback = WithoutErased(FeedbackStore(site.feedback), erased)
    asyncio.run(_until_stopped(folder, Serving(current, settings, door, feedback), seen, ready))


def say_served(snapshot: Snapshot) -> None:
    """Make what the first answer does not wait for, then log which model is served, and what its index finds."""
    warm(snapshot)
    for name in snapshot.arms:
        recall = index_recall(snapshot, name)
        _log.info(
            "scoring",
            arm=name,
            version=snapshot.version,
            exact=recall is None,
            recall_at_10=None if recall is None else round(recall.share, 4),
        )


async def _until_stopped(
    folder: ClientFolder, serving: Serving, seen: tuple, ready: Callable[[str], None]
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    watcher = asyncio.create_task(keep_current(folder, serving.current, seen))
    said: list[asyncio.Task[None]] = []

    async def say() -> None:
        await asyncio.sleep(_FIRST_CALLS_SECONDS)
        await asyncio.to_thread(say_served, serving.current.snapshot)

    def begun(address: str) -> None:
        ready(address)
        said.append(asyncio.create_task(say()))

    try:
        await serve(serving, begun, stop)
    finally:
        for task in (watcher, *said):
            task.cancel()


async def serve(serving: Serving, ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Serve until `stop` is set; raise ServingError if the port cannot be had, and as `server_credentials` does."""
    settings = serving.settings
    guard = Guard(BOUNDS, CallLimits(settings.waiting), serving.door.admit)
    server = grpc.aio.server(
        interceptors=(guard,), options=_OPTIONS, maximum_concurrent_rpcs=_METHODS * settings.waiting
    )
    doctor = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(doctor, server)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    async with Desk(serving.current, serving.feedback, settings.waiting).working() as desk:
        add_RecommenderServicer_to_server(RecommenderService(serving.current, desk, settings.seconds), server)
        port = _listen(server, settings)
        await server.start()
        for name in ("", SERVICE):
            await doctor.set(name, health_pb2.HealthCheckResponse.SERVING)
        ready(join_address(settings.host, port))
        try:
            await stop.wait()
        finally:
            with contextlib.suppress(TimeoutError):  # a watcher that does not read holds it up
                await asyncio.wait_for(doctor.enter_graceful_shutdown(), _GRACE_SECONDS)
            await server.stop(_GRACE_SECONDS)


def _listen(server: grpc.aio.Server, settings: ServingSettings) -> int:
    address = join_address(settings.host, settings.port)
    credentials = None if settings.certificate is None else server_credentials(settings, now())
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError:
        raise ServingError(
            f"{address}: cannot be listened on; is another service running, or is [serving] host not this machine's?"
        ) from None
