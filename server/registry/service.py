"""The gRPC service of `federation/registry/v1/registry.proto`: serves the store as it is on the disk, to members only.

Who calls, and how much a message may hold, is looked at before (`federation.rpc.guard`).
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import structlog
from grpc.aio import ServicerContext
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from federation.errors import EnrolmentError, FolderError
from federation.registry.token import KEY, read_token
from federation.registry.v1 import registry_pb2 as messages
from federation.registry.v1.registry_pb2_grpc import ModelRegistryServicer
from federation.rpc.guard import Call
from federation.validity import now
from server.errors import FederationError, RegistryError
from server.members import ADMITTED, Members
from server.registry.store import ModelStore

CHUNK = 262_144
LIST_SECONDS, GET_SECONDS, WATCH_SECONDS = 30.0, 600.0, 3600.0
"""How long a call may take; callers' own deadlines are often shorter."""
POLL_SECONDS = 1.0
"""How soon a watcher hears of a new list, or of being revoked."""
_HEX = frozenset("0123456789abcdef")
_OPEN = tuple(f"/{name}/" for name in (health.SERVICE_NAME, reflection.SERVICE_NAME))
_log = structlog.get_logger("fedcart.registry")


@asynccontextmanager
async def _at_most(seconds: float, context: Call) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"took longer than {seconds:g} s")


class Doorkeeper:
    """Says who calls, from the token and the registry of members as it is now."""

    def __init__(self, federation: str, members: Members) -> None:
        self._federation, self._members = federation, members

    async def admit(self, method: str, context: ServicerContext) -> str:
        """Return the platform that calls, "" where anybody may; end the call of who may not."""
        if method.startswith(_OPEN):
            return ""
        tokens = [value for key, value in context.invocation_metadata() or () if key == KEY]
        if len(tokens) != 1 or not isinstance(tokens[0], bytes):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, f"one token is needed, as {KEY}")
        try:
            token = read_token(tokens[0], self._federation, now())
        except EnrolmentError as error:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        await self.require(context, token.platform, token.identity_key)
        return token.platform

    async def require(self, context: ServicerContext | Call, platform: str, key: str | None = None) -> None:
        """End the call unless the platform is a member, with this key if one is given."""
        reason = await asyncio.to_thread(self._refusal, platform, key)
        if reason is not None:
            _log.warning("refused", platform=platform, reason=reason)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, reason)

    def _refusal(self, platform: str, key: str | None) -> str | None:
        try:
            member = self._members.get(platform)
        except FederationError:
            return f"{platform!r} is no member of {self._federation!r}"
        except RegistryError:
            return "the registry of members cannot be read: tell the operator"  # fails closed
        if member.state != ADMITTED:
            return f"{platform!r} was revoked on {member.since}"
        if key is not None and member.identity_key != key:
            return f"{platform!r} has another identity key since {member.since}: install its newest kit"
        return None


class RegistryService(ModelRegistryServicer):
    """One instance serves all calls, in one event loop."""

    def __init__(self, store: ModelStore, door: Doorkeeper) -> None:
        self._store, self._door = store, door

    async def List(self, request: messages.ListRequest, context: Call) -> messages.ListResponse:
        """Return the signed list."""
        async with _at_most(LIST_SECONDS, context):
            data, serial = await self._list(context)
            _log.info("list", platform=context.caller, serial=serial)
            return messages.ListResponse(list=data)

    async def Get(self, request: messages.GetRequest, context: Call) -> None:
        """Send a version's card, then its model file."""
        async with _at_most(GET_SECONDS, context):
            version = request.version
            if len(version) != 64 or not _HEX.issuperset(version):
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a version is 64 hex digits")
            listing = await self._read(context, self._store.listing)
            if listing is None or version not in listing.versions:
                await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no version {version}")
            card = await self._read(context, lambda: self._store.card_bytes(version))
            await context.write(messages.GetResponse(card=card))
            with await self._read(context, lambda: self._store.open_model(version)) as file:
                while chunk := await self._read(context, lambda: file.read(CHUNK)):
                    await context.write(messages.GetResponse(chunk=chunk))
                _log.info("get", platform=context.caller, version=version, bytes=file.tell())

    async def Watch(self, request: messages.WatchRequest, context: Call) -> None:
        """Send the list whenever it is another one than the caller has seen."""
        seen = request.seen_serial
        _log.info("watch", platform=context.caller, serial=seen)
        loop = asyncio.get_running_loop()
        end = loop.time() + WATCH_SECONDS
        while loop.time() < end:
            data, serial = await self._list(context)
            if serial != seen:
                await context.write(messages.WatchResponse(list=data))
                seen = serial
            await asyncio.sleep(POLL_SECONDS)
            await self._door.require(context, context.caller)

    async def _list(self, context: Call) -> tuple[bytes, int]:
        """Return the list and its serial number, 0 if there is none yet."""

        def read() -> tuple[bytes, int]:
            data = self._store.list_bytes()
            listing = self._store.parse(data)
            return data, listing.serial if listing else 0

        return await self._read(context, read)

    async def _read(self, context: Call, read: Callable[[], Any]) -> Any:
        try:
            return await asyncio.to_thread(read)
        except (FolderError, OSError) as error:
            _log.error("damaged", message=str(error))
            await context.abort(
                grpc.StatusCode.DATA_LOSS, "the registry cannot read its files: tell the operator"
            )
