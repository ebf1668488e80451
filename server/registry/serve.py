"""Runs the registry: TLS with the certificate in force, health, reflection, limits, an orderly end."""

import asyncio
import contextlib
import signal
from collections.abc import Callable
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from federation.address import join_address
from federation.errors import FolderError
from federation.files import read_private
from federation.registry.v1.registry_pb2_grpc import add_ModelRegistryServicer_to_server
from federation.rpc.guard import Guard
from federation.supervise import configure_log
from server.errors import FederationError
from server.folder import RegistrySettings, ServerFolder
from server.members import Members
from server.registry.bounds import BOUNDS, CALLS, LIMITS, REQUEST_LIMIT
from server.registry.bounds import SERVICE as REGISTRY
from server.registry.service import POLL_SECONDS, Doorkeeper, RegistryService
from server.registry.store import ModelStore

SERVICE = REGISTRY.full_name
_GRACE_SECONDS = 5.0
_OPTIONS = (
    ("grpc.max_receive_message_length", REQUEST_LIMIT),
    ("grpc.max_metadata_size", 16_384),
    ("grpc.so_reuseport", 0),  # a second registry on the port is an error, not a rival
    ("grpc.keepalive_time_ms", 60_000),  # so that watchers whose machine is gone do not stay
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),
)
_STATUS = health_pb2.HealthCheckResponse


def run_registry(folder: ServerFolder, settings: RegistrySettings, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is told the address once calls are taken."""
    configure_log()
    asyncio.run(_until_stopped(folder, settings, ready))


async def _until_stopped(
    folder: ServerFolder, settings: RegistrySettings, ready: Callable[[str], None]
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(folder, settings, ready, stop)


async def serve(
    folder: ServerFolder, settings: RegistrySettings, ready: Callable[[str], None], stop: asyncio.Event
) -> None:
    """Serve until `stop` is set; raise FederationError if the port cannot be had, FolderError for damaged files."""
    store = ModelStore.open(folder)
    store.all()
    door = Doorkeeper(folder.settings().name, Members.open(folder.members_file))
    guard = Guard(BOUNDS, LIMITS, door.admit)
    server = grpc.aio.server(interceptors=(guard,), options=_OPTIONS, maximum_concurrent_rpcs=CALLS)
    add_ModelRegistryServicer_to_server(RegistryService(store, door), server)
    doctor = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(doctor, server)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    address = join_address(settings.host, settings.port)
    try:
        port = server.add_secure_port(address, _credentials(folder))
    except RuntimeError:
        raise FederationError(
            f"{address}: cannot be listened on; is another registry running, or is [registry] host not this machine's?"
        ) from None
    await server.start()
    ready(join_address(settings.host, port))
    checks = asyncio.create_task(_keep_checking(store, doctor))
    try:
        await stop.wait()
    finally:
        checks.cancel()
        with contextlib.suppress(TimeoutError):  # a watcher that does not read holds it up
            await asyncio.wait_for(doctor.enter_graceful_shutdown(), _GRACE_SECONDS)
        await server.stop(_GRACE_SECONDS)


def _credentials(folder: ServerFolder) -> grpc.ServerCredentials:
    certificate: Path = folder.server_certificate(folder.certificates().server)
    try:
        chain = (certificate / "server.crt").read_bytes()
    except OSError as error:
        raise FolderError(f"{error.filename}: cannot be read ({error.strerror}).") from None
    return grpc.ssl_server_credentials([(read_private(certificate / "server.key"), chain)])


async def _keep_checking(store: ModelStore, doctor: health.aio.HealthServicer) -> None:
    """Say NOT_SERVING as long as the list cannot be read."""
    while True:
        try:
            await asyncio.to_thread(store.listing)
            status = _STATUS.SERVING
        except FolderError:
            status = _STATUS.NOT_SERVING
        for name in ("", SERVICE):
            await doctor.set(name, status)
        await asyncio.sleep(POLL_SECONDS)
