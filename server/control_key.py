"""The key of SuperLink's control interface: who reaches the port may start runs only with the operator's file.

Flower authenticates nobody there. `ControlDoor` stands in SuperLink's own process, before Flower sees a request;
`ControlKey` puts the key into the requests of `server.control`.

| path                 | who may                                                              |
|----------------------|----------------------------------------------------------------------|
| `/v1/fleet/…`        | anybody: Flower demands a member's node key for each request         |
| `/v1/runtime/…`      | anybody: Flower demands the executor's secret, or a task's token     |
| `/health`            | anybody                                                              |
| everything else      | who has `keys/control.secret`                                        |
"""

import hmac
import secrets

import structlog
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from httpx import Response
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from federation.files import PRIVATE, create, read_private
from server.folder import ServerFolder

HEADER = "fedcart-control-key"
_OPEN = ("/v1/fleet/", "/v1/runtime/")
_log = structlog.get_logger("fedcart.control")


def make_control_key(folder: ServerFolder) -> None:
    """Make the key where there is none: federations of earlier versions have none."""
    if not folder.control_secret.exists():
        create(folder.control_secret, secrets.token_hex(32).encode(), PRIVATE)


def read_control_key(folder: ServerFolder) -> str:
    """Return the key; raise KeyFileError if it is missing or others can read it."""
    return read_private(folder.control_secret).decode("ascii", "replace").strip()


class ControlDoor:
    """ASGI middleware that answers 403 to whoever wants more than the open paths and does not have the key."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app, self._key = app, key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or refuse."""
        if scope["type"] == "lifespan" or self._may(scope):
            await self._app(scope, receive, send)
            return
        peer = (scope.get("client") or ("unknown",))[0]
        _log.warning("control-refused", path=scope["path"][:100], peer=peer)
        if scope["type"] == "http":
            await PlainTextResponse("the control key is missing or wrong", 403)(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _may(self, scope: Scope) -> bool:
        if scope["type"] == "http" and (scope["path"] == "/health" or scope["path"].startswith(_OPEN)):
            return True
        given = [value for name, value in scope["headers"] if name == HEADER.encode()]
        return len(given) == 1 and hmac.compare_digest(given[0], self._key)


class ControlKey:
    """Puts the key into each request of a client of Flower's."""

    def __init__(self, key: str) -> None:
        self._key = key

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> Response:
        """Add the header and go on."""
        context.request.headers[HEADER] = self._key
        return call_next(context)
