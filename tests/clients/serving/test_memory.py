"""What callers send is bounded before anything of it is kept: the memory of a real process is watched.

The methods are those that the service's reflection shows, so a new one is tried without being named here.
"""

import contextlib
import socket
import time
from random import Random

import grpc
import pytest

from benchmarks.serving.host import SHOWN, TOKEN
from benchmarks.serving.process import hosted
from clients.serving.bounds import MESSAGE_LIMIT, SERVICE
from clients.serving.v1 import serving_pb2 as m
from clients.serving.v1.serving_pb2_grpc import RecommenderStub
from tests.oversized import Caller, Memory, attacks, half_a_call, methods, together
from tests.showing import Showing

pytestmark = pytest.mark.slow
SMALL, SESSIONS = 48.0, 64.0
"""Megabytes: by how much a process may grow, beside what sessions may take."""
OURS = f"/{SERVICE.full_name}/"


@pytest.fixture(scope="module")
def hosting(tmp_path_factory):
    """A service in a process of its own, which ends with code 0 after all that is done to it."""
    with hosted(500, 50, 16, 0, tmp_path_factory.mktemp("host")) as service:
        yield service


@pytest.fixture
def service(hosting):
    """Its address, a caller, and what it may hold: it answers before and after a test, and has not grown."""
    with grpc.insecure_channel(hosting.address) as channel:
        caller, memory = Caller(channel, SHOWN), Memory(hosting.pid)
        assert caller.said(f"{OURS}Recommend", [b""])[0] == "OK"
        before = memory.mark()
        yield hosting.address, caller
        assert caller.said(f"{OURS}Recommend", [b""])[0] == "OK"
        assert memory.peak() - before < SMALL


def plan(caller: Caller) -> list:
    shown = methods(caller.channel)
    assert {name for name in shown if name.startswith(OURS)} == {OURS + m.name for m in SERVICE.methods}
    return [a for name, asked in shown.items() for a in attacks(name, asked, MESSAGE_LIMIT, Random(0))]


def test_sessions_of_long_ids_are_refused_and_not_kept(service):
    """Forty sessions of fifty ids of 200 kB each were 446 MB."""
    _, caller = service
    stub = RecommenderStub(grpc.intercept_channel(caller.channel, Showing(TOKEN)))
    for session in range(40):
        opened = m.StreamRequest(open=m.RecommendRequest(who=m.Who(session_id=f"s{session}"), count=1))
        events = [m.StreamRequest(item_id=f"{session}-{n}-".ljust(200_000, "x")) for n in range(50)]
        with pytest.raises(grpc.RpcError) as refused:
            list(stub.Stream(iter([opened, *events])))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "item_id: has 200,000 bytes, and at most 512 are taken" in refused.value.details()


def test_every_field_of_every_method_has_a_bound(service):
    """A megabyte in each string, a hundred thousand entries in each list, what no `.proto` knows, noise."""
    _, caller = service
    planned, stranger = plan(caller), Caller(caller.channel, ())
    assert [wrong for attack in planned if (wrong := caller.tried(attack))] == []
    codes = {stranger.said(a.method, [a.data])[0] for a in planned if a.method.startswith(OURS)}
    assert codes == {"UNAUTHENTICATED"}, "whatever was sent"


def test_what_is_small_on_the_wire_and_large_unpacked_is_refused(service):
    _, caller = service
    large = m.RecommendRequest(request_id="x" * 50_000_000).SerializeToString()
    code, _ = caller.said(f"{OURS}Recommend", [large], compression=grpc.Compression.Gzip)
    assert code == "RESOURCE_EXHAUSTED"


def test_many_callers_at_once_who_go_away(service):
    address, caller = service
    alone = [("grpc.use_local_subchannel_pool", 1)]
    with contextlib.ExitStack() as open_:
        channels = [open_.enter_context(grpc.insecure_channel(address, alone)) for _ in range(16)]
        together([Caller(channel, SHOWN) for channel in channels], plan(caller))


def test_callers_who_send_half_a_message_and_who_do_not_read(service):
    """They hold their own place, and not the service."""
    address, caller = service
    host, _, port = address.rpartition(":")
    wide = m.AudienceRequest(item_id="i0000001", count=10_000).SerializeToString()
    with contextlib.ExitStack() as open_:
        for _ in range(100):
            for method, data, promised, window in (
                ("Rank", b"x" * 60_000, 250_000, 65_535),
                ("Stream", b"x" * 60_000, 250_000, 65_535),
                ("Audience", wide, len(wide), 0),
            ):
                wire = open_.enter_context(socket.create_connection((host, int(port))))
                half_a_call(wire, OURS + method, SHOWN, data, promised, window)
        assert caller.said(f"{OURS}Recommend", [b""])[0] == "OK"


def test_one_session_of_endless_events_and_texts(service):
    """A text that was typed stayed in the call's first message for as long as the call."""
    _, caller = service
    opened = m.StreamRequest(open=m.RecommendRequest(count=1))
    typed = (
        m.StreamRequest(text=f"{n}".ljust(4_000, "x"), item_id=f"{n}".rjust(512, "x")) for n in range(2_000)
    )
    stub = RecommenderStub(grpc.intercept_channel(caller.channel, Showing(TOKEN)))
    assert sum(1 for _ in stub.Stream(message for part in ([opened], typed) for message in part)) == 2_001


def test_many_sessions_of_the_longest_ids(hosting):
    """Sixty thousand sessions, each with the longest ids that feedback takes."""
    long, now = "\N{MATHEMATICAL SCRIPT CAPITAL X}" * 120, int(time.time() * 1000)
    with grpc.insecure_channel(hosting.address) as channel:
        stub = RecommenderStub(grpc.intercept_channel(channel, Showing(TOKEN)))
        memory = Memory(hosting.pid)
        before = memory.mark()
        for batch in range(200):
            events = [
                m.Interaction(
                    event_id=f"{batch}-{n}",
                    session_id=f"{batch}-{n}".ljust(120, "s"),
                    item_id=f"{long}{n}",
                    kind="CLICK",
                    time_ms=now,
                )
                for n in range(300)
            ]
            assert stub.RecordFeedback(m.RecordFeedbackRequest(interactions=events)).recorded == 300
        assert memory.peak() - before < SESSIONS + SMALL
