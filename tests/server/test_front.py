"""The front and the control door, in process: what passes, byte for byte, and what does not."""

import asyncio

import httpx
import pytest
from flwr.superlink.routers.fleet.router import router
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server import front
from server.control_key import HEADER, ControlDoor
from server.front import FLEET, make_front

KEY = "a key"


def ask(app, method, path, **options):
    async def asked():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://front") as client:
            return await client.request(method, path, **options)

    return asyncio.run(asked())


def raw_status(app, method, path):
    """Ask for a path as it stands: a client would tidy it up."""
    path, _, query = path.partition("?")
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "headers": [], "client": ("192.0.2.1", 1), "server": ("front", 443), "scheme": "https", "root_path": "",
    }  # fmt: skip
    said = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        said.append(message)

    asyncio.run(app(scope, receive, send))
    return said[0]["status"]


class SuperLink:
    """Stands for SuperLink: keeps what it is sent, answers in its own way."""

    def __init__(self):
        self.seen = []

    def client(self):
        async def handle(request: httpx.Request) -> httpx.Response:
            self.seen.append((request.url.raw_path.decode(), dict(request.headers), await request.aread()))
            return httpx.Response(
                401, headers={"x-flower": "said"}, stream=httpx.ByteStream(b"\x00\xff not you")
            )

        return httpx.AsyncClient(transport=httpx.MockTransport(handle), base_url="https://link")


def test_the_calls_that_pass_are_flower_s_fleet_calls():
    assert {route.path for route in router.routes} == FLEET


@pytest.mark.parametrize("path", sorted(FLEET))
def test_a_fleet_call_passes_both_ways_byte_for_byte(path):
    link = SuperLink()
    body = bytes(range(256))
    answer = ask(make_front(link.client()), "POST", path, content=body, headers={"flwr-signature": "s"})
    assert (answer.status_code, answer.content, answer.headers["x-flower"]) == (
        401,
        b"\x00\xff not you",
        "said",
    )
    ((seen, headers, sent),) = link.seen
    assert (seen, sent, headers["flwr-signature"], headers["host"]) == (path, body, "s", "link")


@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH"]),
    path=st.one_of(
        st.sampled_from(
            [
                "/v1/control/start-run",
                "/v1/runtime/pull-task",
                "/v1/fleet/",
                "/v1/fleet/../control/list-runs",
                "/v1/fleet/pull-messages/../../control/list-runs",
                "/v1/fleet/pull-messages?x=1",
                "/v1/fleet/%2e%2e/control/list-runs",
                "//v1/fleet/pull-messages",
                "/V1/fleet/pull-messages",
                "/docs",
                "/openapi.json",
                "/",
            ]
        ),
        st.text("abc/.%-", min_size=1, max_size=30).map(lambda text: "/" + text),
    ),
)
def test_nothing_else_reaches_superlink(method, path):
    link = SuperLink()
    assert raw_status(make_front(link.client()), method, path) in (403, 404)
    assert link.seen == []


def test_a_get_of_a_fleet_call_is_refused():
    link = SuperLink()
    assert ask(make_front(link.client()), "GET", "/v1/fleet/pull-messages").status_code == 403
    assert link.seen == []


def test_a_body_over_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr(front, "BODY_LIMIT", 1000)
    link = SuperLink()
    path = "/v1/fleet/push-object"
    assert ask(make_front(link.client()), "POST", path, content=b"x" * 1000).status_code == 401
    assert ask(make_front(link.client()), "POST", path, content=b"x" * 1001).status_code == 413
    assert len(link.seen) == 1


def test_a_superlink_that_is_away_is_an_answer_upon_which_nodes_try_again():
    from flwr.supercore.retry import http_retry

    def refuse(request):
        raise httpx.ConnectError("no")

    client = httpx.AsyncClient(transport=httpx.MockTransport(refuse), base_url="https://link")
    status = ask(make_front(client), "POST", "/v1/fleet/pull-messages").status_code
    assert status == 503
    assert status in http_retry._RETRYABLE_STATUS_CODES


async def _welcome(request: Request) -> Response:
    return Response("in")


BEHIND = Starlette(routes=[Route("/{path:path}", _welcome, methods=["GET", "POST"])])


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/control/start-run", {}, 403),
        ("/v1/control/start-run", {HEADER: "another"}, 403),
        ("/v1/control/start-run", {HEADER: ""}, 403),
        ("/v1/control/start-run", {HEADER: KEY}, 200),
        ("/v1/controlled", {}, 403),
        ("/docs", {}, 403),
        ("/openapi.json", {}, 403),
        ("/v1/fleet/pull-messages", {}, 200),
        ("/v1/runtime/pull-task", {}, 200),
        ("/health", {}, 200),
        ("/healthy", {}, 403),
    ],
)
def test_the_control_interface_wants_its_key(path, headers, status):
    assert ask(ControlDoor(BEHIND, KEY), "POST", path, headers=headers).status_code == status


def test_two_keys_are_none():
    headers = [(HEADER, KEY), (HEADER, KEY)]
    assert ask(ControlDoor(BEHIND, KEY), "POST", "/v1/control/list-runs", headers=headers).status_code == 403
