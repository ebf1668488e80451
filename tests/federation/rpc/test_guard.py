"""What stands in front of every method: who calls, how many calls are open, how long each waits, what goes wrong."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2 as m
from structlog.testing import capture_logs

from federation.rpc.bounds import Bound, Bounds
from federation.rpc.guard import CallLimits, Guard
from tests.in_thread import InThread
from tests.oversized import half_a_call

BOUNDS = Bounds(m.DESCRIPTOR.services_by_name["Health"], Bound(size=8), {})
SECRET = "u03-has-i004"


async def admit(method: str, context) -> str:
    who = dict(context.invocation_metadata()).get("who", "")
    if who == "stranger":
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
    return who


async def one(request, context):
    if request.service == "bug":
        raise ValueError(SECRET)
    if request.service == "late":
        raise TimeoutError(SECRET)
    if request.service == "worse":
        try:
            await context.abort(grpc.StatusCode.NOT_FOUND, "meant")
        finally:
            raise ValueError(SECRET)
    if request.service == "waits":
        await asyncio.sleep(60)
    return m.HealthCheckResponse(status=1)


async def many(requests, context):
    async for _ in requests:
        yield m.HealthCheckResponse(status=1)


async def wide(request, context):
    for _ in range(10_000):
        await context.write(m.HealthCheckResponse(status=1))


@contextmanager
def serving(**limits: float) -> Iterator[grpc.Channel]:
    """A server of three methods behind a guard."""
    read, write = m.HealthCheckRequest.FromString, m.HealthCheckResponse.SerializeToString
    methods = {
        "One": grpc.unary_unary_rpc_method_handler(one, read, write),
        "Many": grpc.stream_stream_rpc_method_handler(many, read, write),
        "Wide": grpc.unary_stream_rpc_method_handler(wide, read, write),
    }

    async def run(ready, stop):
        server = grpc.aio.server(interceptors=(Guard(BOUNDS, CallLimits(**limits), admit),))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", methods),))
        ready(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
        await stop.wait()
        await server.stop(None)

    running = InThread(run)
    with grpc.insecure_channel(running.address) as channel:
        channel.address = running.address
        yield channel
    running.stop()


def asked(channel: grpc.Channel, name: str, requests, who: str = "us") -> grpc.Call:
    return channel.stream_stream(f"/t.T/{name}")(iter(requests), metadata=(("who", who),), timeout=30)


def said(call: grpc.Call) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as ended:
        list(call)
    return ended.value.code().name, ended.value.details()


def first_other(call) -> str:
    """Call until there is a place; return the code."""
    while True:
        try:
            list(call())
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                return error.code().name
        else:
            return "OK"


def ask(service: str = "") -> bytes:
    return m.HealthCheckRequest(service=service).SerializeToString()


class Silent:
    """Messages, and then none, without an end."""

    def __init__(self, *messages: bytes) -> None:
        self._messages, self._never = list(messages), threading.Event()

    def __iter__(self):
        yield from self._messages
        self._never.wait(30)


def test_good_calls_are_answered():
    with serving(calls=1) as channel:
        assert len(list(asked(channel, "One", [ask()]))) == 1
        assert len(list(asked(channel, "Many", [ask(), ask()]))) == 2
        assert len(list(asked(channel, "Wide", [ask()]))) == 10_000
        assert said(asked(channel, "None", [ask()]))[0] == "UNIMPLEMENTED"


def test_who_may_not_call_is_told_before_anything_is_read():
    with serving(calls=1) as channel:
        for method in ("One", "Many", "Wide"):
            assert said(asked(channel, method, Silent(), "stranger")) == ("UNAUTHENTICATED", "who are you?")


def test_each_caller_has_so_many_calls_of_a_method_and_gets_them_back():
    with serving(calls=2) as channel:
        held = [asked(channel, "Many", Silent(ask())) for _ in range(2)]
        for call in held:
            next(call)
        code, why = said(asked(channel, "Many", Silent()))
        assert (code, "2 calls of /t.T/Many are open already" in why) == ("RESOURCE_EXHAUSTED", True)
        assert len(list(asked(channel, "Many", [ask()], who="others"))) == 1
        assert len(list(asked(channel, "One", [ask()]))) == 1, "another method"
        held.pop().cancel()
        assert first_other(lambda: asked(channel, "Many", [ask()])) == "OK"


@pytest.mark.parametrize(
    ("method", "messages", "why"),
    [
        ("One", Silent(), "no message came within 0.2 s"),
        ("Wide", Silent(), "no message came within 0.2 s"),
        ("Many", Silent(), "no message came within 0.4 s"),
        ("Many", Silent(ask()), "no message came within 0.4 s"),
    ],
)
def test_a_caller_who_sends_nothing_is_not_waited_for(method, messages, why):
    with serving(calls=1, message=0.2, idle=0.4) as channel:
        code, told = said(asked(channel, method, messages))
        assert (code, why in told) == ("DEADLINE_EXCEEDED", True)


def test_a_call_has_an_end():
    with serving(calls=1, whole=0.3) as channel:
        code, why = said(asked(channel, "One", [ask("waits")]))
        assert (code, "did not end within 0.3 s" in why) == ("DEADLINE_EXCEEDED", True)


@pytest.mark.parametrize("method", ["One", "Wide"])
def test_an_answer_that_is_not_taken_is_not_kept(method):
    """The only place is held by a caller who does not read; it is free again without him."""
    with serving(calls=1, message=0.3) as channel:
        host, port = channel.address.split(":")
        with socket.create_connection((host, int(port))) as wire:
            half_a_call(wire, f"/t.T/{method}", (("who", "us"),), ask(), len(ask()), window=0)
            assert first_other(lambda: asked(channel, method, [ask()])) == "OK"


def test_a_message_that_is_not_taken_says_why():
    with serving(calls=1) as channel:
        for method in ("One", "Many", "Wide"):
            assert said(asked(channel, method, [b"\xff"]))[0] == "INVALID_ARGUMENT"
            code, why = said(asked(channel, method, [ask("x" * 9)]))
            assert (code, "service: has 9 bytes, and at most 8" in why) == ("INVALID_ARGUMENT", True)
        assert said(asked(channel, "One", [])) == ("INVALID_ARGUMENT", "the call has no message")


@pytest.mark.parametrize(
    ("service", "code"), [("bug", "INTERNAL"), ("late", "INTERNAL"), ("worse", "NOT_FOUND")]
)
def test_a_bug_says_nothing_of_the_data(service, code):
    with capture_logs() as log, serving(calls=1) as channel:
        found, why = said(asked(channel, "One", [ask(service)]))
        assert found == code
        assert SECRET not in why
        assert len(list(asked(channel, "One", [ask()]))) == 1, "its place is free"
    assert SECRET not in str(log)
    assert [entry["event"] for entry in log] == ([] if service == "worse" else ["internal"])
    assert all(entry["at"].startswith("test_guard.py:") for entry in log)
