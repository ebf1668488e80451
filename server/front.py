"""The front: the one port of SuperLink's that platforms reach. TLS, Flower's twelve fleet calls, and nothing else.

    python -m server.front FOLDER

SuperLink has one port for nodes, control and executors, and stays on this machine. What comes here is passed on if it
is a POST to one of `FLEET`, byte for byte in both directions; a node's signature stands in the request's headers, so it
is SuperLink that checks it. All else is answered with 403 and logged.

| what                          | limit            | answer |
|-------------------------------|------------------|--------|
| a request's body              | `BODY_LIMIT`     | 413    |
| a request, with its answer    | `SECONDS`        | 504    |
| connections at once           | `CONNECTIONS`    | 503    |
| SuperLink does not answer     |                  | 503, upon which a node tries again |
"""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from federation.address import join_address
from federation.supervise import configure_log
from server.folder import ServerFolder

FLEET = frozenset(
    f"/v1/fleet/{call}"
    for call in (
        "register-node",
        "activate-node",
        "deactivate-node",
        "unregister-node",
        "send-node-heartbeat",
        "pull-messages",
        "push-messages",
        "get-run",
        "get-fab",
        "push-object",
        "pull-object",
        "confirm-message-received",
    )
)
BODY_LIMIT = 64 * 2**20
"""Bytes; Flower sends arrays in pieces of 5 MiB, and nothing else of a node's is large."""
SECONDS = 300.0
CONNECTIONS = 500
_HOP = frozenset({b"connection", b"keep-alive", b"host", b"te", b"trailer", b"transfer-encoding", b"upgrade"})
"""Headers that are about one connection, not about the request."""
_log = structlog.get_logger("fedcart.front")


class TooLargeError(Exception):
    """A body passes the limit."""


def make_front(upstream: httpx.AsyncClient) -> Starlette:
    """Return the ASGI app that passes fleet calls to `upstream`."""

    async def answer(request: Request) -> Response:
        path = request.scope["path"]
        if request.method == "GET" and path == "/health":  # for doctors: it tells the time in its headers
            return PlainTextResponse("the front of a fedcart federation")
        if request.method != "POST" or path not in FLEET or request.url.query:
            return _refuse(request, 403, "only the calls of a fleet's nodes are answered here")
        try:
            async with asyncio.timeout(SECONDS):
                return await _pass_on(request, upstream)
        except TooLargeError:
            return _refuse(request, 413, f"a request has {BODY_LIMIT} bytes at most")
        except (TimeoutError, httpx.TimeoutException):
            return PlainTextResponse("SuperLink took too long", 504)
        except httpx.TransportError:
            return PlainTextResponse("SuperLink does not answer", 503)

    return Starlette(
        routes=[Route("/{path:path}", answer, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])]
    )


def _refuse(request: Request, status: int, why: str) -> Response:
    peer = request.client.host if request.client else "unknown"
    _log.warning(
        "front-refused", method=request.method, path=request.scope["path"][:100], peer=peer, status=status
    )
    return PlainTextResponse(why, status)


async def _pass_on(request: Request, upstream: httpx.AsyncClient) -> Response:
    headers = [(name, value) for name, value in request.headers.raw if name not in _HOP]
    asked = upstream.build_request(
        "POST", request.scope["path"], headers=headers, content=_limited(request.stream())
    )
    given = await upstream.send(asked, stream=True)
    answer = StreamingResponse(given.aiter_raw(), given.status_code, background=BackgroundTask(given.aclose))
    answer.raw_headers = [(n.lower(), v) for n, v in given.headers.raw if n.lower() not in _HOP]
    return answer


async def _limited(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in body:
        size += len(chunk)
        if size > BODY_LIMIT:
            raise TooLargeError
        yield chunk


def main() -> None:
    """Serve until SIGTERM or SIGINT; exit code 1 if the port cannot be had."""
    configure_log()
    folder = ServerFolder(Path(sys.argv[1]))
    settings = folder.settings()
    certificate = folder.server_certificate(folder.certificates().server)
    upstream = httpx.AsyncClient(
        base_url=f"https://{join_address(settings.superlink.host, settings.superlink.port)}",
        verify=ssl.create_default_context(cafile=str(certificate / "ca.crt")),
        timeout=httpx.Timeout(SECONDS, connect=5.0),
        limits=httpx.Limits(max_connections=CONNECTIONS),
        trust_env=False,
    )
    host, port = settings.front_listens
    _log.info("listening", host=host, port=port)
    uvicorn.run(
        make_front(upstream),
        host=host,
        port=port,
        ssl_certfile=str(certificate / "server.crt"),
        ssl_keyfile=str(certificate / "server.key"),
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
