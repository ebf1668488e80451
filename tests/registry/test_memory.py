"""The registry in a process of its own: every method that reflection shows, oversized, in parallel, and its memory."""

import contextlib
import socket
import ssl
import subprocess
import sys
from random import Random

import grpc
import pytest

from federation.registry.token import KEY
from server.registry.bounds import LIMITS, REQUEST_LIMIT, SERVICE
from tests.oversized import Caller, Memory, attacks, half_a_call, methods, together
from tests.registry.asking import token_of

pytestmark = pytest.mark.slow
SMALL = 48.0
"""Megabytes by which the process may grow."""
OURS = f"/{SERVICE.full_name}/"


@pytest.fixture
def process(fed, publish):
    """Its address and process id; it ends with code 0."""
    publish(1)
    command = [
        sys.executable,
        "-m",
        "fedcart",
        "server",
        "registry",
        "--port",
        "0",
        "--folder",
        str(fed.path),
    ]
    with (fed.path / "registry.log").open("wb") as log:
        running = subprocess.Popen(command, stderr=log)
    try:
        line = ""
        while not line.endswith("\n"):
            assert running.poll() is None
            line = (fed.path / "registry.log").read_text()
        yield line.split()[-1].replace("127.0.0.1", "localhost"), running.pid
        running.terminate()
        assert running.wait(60) == 0
    finally:
        running.kill()
        running.wait()


def test_what_a_caller_sends_is_bounded(fed, books, process):
    address, pid = process
    memory, credentials = Memory(pid), grpc.ssl_channel_credentials(fed.trusted())
    shown = ((KEY, token_of(books)),)
    alone = [("grpc.use_local_subchannel_pool", 1)]
    with contextlib.ExitStack() as open_:
        channels = [open_.enter_context(grpc.secure_channel(address, credentials, alone)) for _ in range(16)]
        member, stranger = Caller(channels[0], shown), Caller(channels[0], ())
        asked = methods(channels[0])
        assert {name for name in asked if name.startswith(OURS)} == {OURS + m.name for m in SERVICE.methods}
        plan = [a for name, r in asked.items() for a in attacks(name, r, REQUEST_LIMIT, Random(0))]
        assert member.said(f"{OURS}List", [b""])[0] == "OK"
        before = memory.mark()
        assert [wrong for attack in plan if (wrong := member.tried(attack))] == []
        codes = {stranger.said(a.method, [a.data])[0] for a in plan if a.method.startswith(OURS)}
        assert codes == {"UNAUTHENTICATED"}, "whatever was sent"
        together([Caller(channel, shown) for channel in channels], plan)
        _half(open_, address, fed, shown)
        assert member.said(f"{OURS}List", [b""])[0] == "OK"
        assert memory.peak() - before < SMALL


def _half(open_: contextlib.ExitStack, address: str, fed, shown: tuple) -> None:
    """Begin calls of members and strangers over TLS, of which no message comes."""
    context = ssl.create_default_context(cadata=fed.trusted().decode())
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    for number in range(100):
        raw = open_.enter_context(socket.create_connection((host, int(port))))
        wire = open_.enter_context(context.wrap_socket(raw, server_hostname=host))
        half_a_call(wire, f"{OURS}Get", (), b"x" * 1_000 * (number % 3), REQUEST_LIMIT)


def test_a_platform_has_so_many_calls_and_takes_none_of_another_s(fed, books, served, publish):
    publish(1)
    credentials = grpc.ssl_channel_credentials(fed.trusted())
    with grpc.secure_channel(served.address, credentials) as channel:
        watch = channel.unary_stream(f"{OURS}Watch")
        shown = ((KEY, token_of(books)),)
        held = [watch(b"", metadata=shown, timeout=60) for _ in range(LIMITS.calls)]
        for call in held:
            next(call)
        code, why = Caller(channel, shown).said(f"{OURS}Watch", [b""])
        assert (code, f"{LIMITS.calls} calls of {OURS}Watch are open" in why) == ("RESOURCE_EXHAUSTED", True)
        assert Caller(channel, shown).said(f"{OURS}List", [b""])[0] == "OK"
        for call in held:
            call.cancel()
