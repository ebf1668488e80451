"""The service over real connections: every call, its status codes, swaps, limits."""

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import grpc
import pytest
import sqlalchemy as sa
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clients.errors import SiteError
from clients.feedback import FeedbackStore
from clients.feedback.tables import INTERACTIONS
from clients.serving.current import Current, TenantError
from clients.serving.door import Door, require_safe
from clients.serving.errors import ServingError
from clients.serving.serve import SERVICE
from clients.serving.v1 import serving_pb2 as m
from clients.serving.v1.serving_pb2_grpc import RecommenderStub
from clients.site import ServingSettings
from tests.oversized import half_a_call

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def stub(make, served):
    """Return a stub of a service without a token, the service, and what it serves."""
    made = make()
    service = served(made.snapshot)
    with grpc.insecure_channel(service.address) as channel:
        stub = RecommenderStub(channel)
        stub.channel, stub.service, stub.made = channel, service, made
        yield stub


def code_of(call) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value.code(), raised.value.details()


def test_every_answer_says_request_version_and_arm(stub):
    who = m.Who(shopper_id="u02")
    answers = [
        stub.Recommend(m.RecommendRequest(who=who, request_id="mine")),
        stub.Rank(m.RankRequest(who=who, candidate_ids=["i001", "none"], request_id="mine")),
        stub.SimilarItems(m.SimilarItemsRequest(item_id="i001", request_id="mine")),
        stub.Audience(m.AudienceRequest(item_id="i001", request_id="mine")),
        stub.Profile(m.ProfileRequest(shopper_id="u02", request_id="mine")),
        stub.Explain(m.ExplainRequest(who=who, item_id="i001", request_id="mine")),
    ]
    assert [a.header for a in answers] == [m.Header(request_id="mine", model_version="v1", arm="model")] * 6
    recommended, ranked, similar, audience, profile, explained = answers
    assert len(recommended.items) == 10
    assert ranked.unknown_item_ids == ["none"]
    assert "i001" not in [i.item_id for i in similar.items]
    assert len(audience.shoppers) == 12
    assert profile.categories
    assert explained.score == pytest.approx(sum(c.amount for c in explained.contributions))
    assert stub.Recommend(m.RecommendRequest()).header.request_id


@pytest.mark.parametrize(
    ("call", "code", "says"),
    [
        (lambda s: s.Recommend(m.RecommendRequest(count=501)), "INVALID_ARGUMENT", "ask for 1 to 500"),
        (lambda s: s.Recommend(m.RecommendRequest(diversity=2)), "INVALID_ARGUMENT", "diversity = 2.0"),
        (lambda s: s.Recommend(m.RecommendRequest(boosts=[m.Boost(add=1)])), "INVALID_ARGUMENT", "boosts"),
        (lambda s: s.Recommend(m.RecommendRequest(request_id="x" * 129)), "INVALID_ARGUMENT", "request_id"),
        (
            lambda s: s.Recommend(m.RecommendRequest(filters=m.Filters(seen=7))),
            "INVALID_ARGUMENT",
            "seen = 7",
        ),
        (
            lambda s: s.Rank(m.RankRequest(candidate_ids=["i"] * 2001)),
            "INVALID_ARGUMENT",
            "has 2,001 entries, and at most 2,000",
        ),
        (lambda s: s.SimilarItems(m.SimilarItemsRequest(item_id="no")), "NOT_FOUND", "'no'"),
        (lambda s: s.Audience(m.AudienceRequest(item_id="no")), "NOT_FOUND", "no such item"),
        (lambda s: s.Profile(m.ProfileRequest(shopper_id="nobody")), "NOT_FOUND", "not known"),
        (lambda s: s.Explain(m.ExplainRequest(item_id="no")), "NOT_FOUND", "no such item"),
        (lambda s: s.Recommend(m.RecommendRequest(request_id="x" * 300_000)), "RESOURCE_EXHAUSTED", "larger"),
        (lambda s: list(s.Stream(iter([m.StreamRequest(item_id="i001")]))), "INVALID_ARGUMENT", "open"),
        (
            lambda s: s.RecordFeedback(m.RecordFeedbackRequest(interactions=[m.Interaction(event_id="e")])),
            "INVALID_ARGUMENT",
            "interaction 'e': kind = 0",
        ),
    ],
)
def test_what_cannot_be_answered_has_its_code_and_names_no_other_shopper(stub, call, code, says):
    found, message = code_of(lambda: call(stub))
    assert (found.name, says in message) == (code, True), message
    names = stub.made.snapshot.shoppers.sequences.user_ids
    assert not [name for name in names if name in message]
    assert stub.Recommend(m.RecommendRequest()).items


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=200), method=st.sampled_from(["Recommend", "Rank", "Explain", "RecordFeedback"])
)
def test_no_bytes_bring_it_down(stub, data, method):
    """Malformed messages end with a code, and the next good one is answered."""
    raw = stub.channel.unary_unary(f"/{SERVICE}/{method}")
    call = raw.future(data, timeout=10)
    assert call.code() in {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNAVAILABLE,  # no feedback is stored here
    }
    assert stub.Recommend(m.RecommendRequest(count=1), timeout=10).items


def test_bytes_that_are_no_message_have_their_code(stub):
    one = stub.channel.unary_unary(f"/{SERVICE}/Recommend")
    many = stub.channel.stream_stream(f"/{SERVICE}/Stream")
    for call in (lambda: one(b"\xff"), lambda: list(many(iter([b"\xff"])))):
        code, message = code_of(call)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "no message" in message


def test_a_session_counts_at_once_and_a_stream_answers_each_event(stub):
    def events():
        yield m.StreamRequest(open=m.RecommendRequest(who=m.Who(shopper_id="u02"), count=5))
        yield m.StreamRequest(item_id="i004")
        yield m.StreamRequest(text="wooden train")

    first, second, third = [answer.list for answer in stub.Stream(events())]
    assert len({tuple((i.item_id, i.score) for i in found.items) for found in (first, second, third)}) == 3
    assert "i004" not in [i.item_id for i in second.items]
    assert third.header.model_version == "v1"
    sessions = stub.service.current.sessions
    _until(lambda: len(sessions) == 0)  # it was the call's own, and ends with it
    opened = m.StreamRequest(open=m.RecommendRequest(who=m.Who(session_id="named")))
    assert len(list(stub.Stream(iter([opened, m.StreamRequest(item_id="i004")])))) == 2
    assert sessions.names() == ["named"]


def test_a_token_is_asked_for_by_every_call(make, served, tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    service = served(make().snapshot, ServingSettings(token=file))
    with grpc.insecure_channel(service.address) as channel:
        stub = RecommenderStub(channel)
        calls = [
            lambda md: stub.Recommend(m.RecommendRequest(), metadata=md),
            lambda md: stub.Rank(m.RankRequest(), metadata=md),
            lambda md: stub.SimilarItems(m.SimilarItemsRequest(item_id="i001"), metadata=md),
            lambda md: stub.Audience(m.AudienceRequest(item_id="i001"), metadata=md),
            lambda md: stub.Profile(m.ProfileRequest(shopper_id="u02"), metadata=md),
            lambda md: stub.Explain(m.ExplainRequest(item_id="i001"), metadata=md),
            lambda md: list(stub.Stream(iter([m.StreamRequest(open=m.RecommendRequest())]), metadata=md)),
        ]
        good = ("authorization", f"Bearer {TOKEN}")
        for call in calls:
            for bad in ([], [("authorization", TOKEN)], [("authorization", "Bearer x")], [good, good]):
                assert code_of(lambda call=call, bad=bad: call(bad))[0] is grpc.StatusCode.UNAUTHENTICATED
            assert call([good])
        code, message = code_of(lambda: stub.RecordFeedback(m.RecordFeedbackRequest()))
        assert code is grpc.StatusCode.UNAUTHENTICATED
        assert TOKEN not in message
        status = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=SERVICE))
        assert status.status == health_pb2.HealthCheckResponse.SERVING
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        (listed,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asked)
        assert SERVICE in [s.name for s in listed.list_services_response.service]


def test_models_are_swapped_under_load_without_a_failed_or_mixed_answer(make, served):
    """Each answer is wholly one version's: its version says which scores it must have."""
    made = {f"v{n}": make(seed=n, version=f"v{n}").snapshot for n in (1, 2)}
    service = served(made["v1"])
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            for snapshot in made.values():
                service.current.swap(snapshot)
                time.sleep(0.002)

    with grpc.insecure_channel(service.address) as channel:
        stub = RecommenderStub(channel)

        def ask(n: int):
            return n, stub.Recommend(m.RecommendRequest(who=m.Who(shopper_id=f"u{n % 12:02}")), timeout=20)

        swapper = threading.Thread(target=swap)
        swapper.start()
        try:
            with ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(ask, range(300)))
        finally:
            stop.set()
            swapper.join()
        expected = {}
        for version, snapshot in made.items():
            service.current.swap(snapshot)
            for n in range(12):
                expected[version, n] = [i.item_id for i in ask(n)[1].items]
    seen = set()
    for n, answer in answers:
        version = answer.header.model_version
        seen.add(version)
        assert [i.item_id for i in answer.items] == expected[version, n % 12]
    assert seen == set(made)


def test_feedback_is_stored_once_and_a_database_that_goes_away_is_said(make, served, tmp_path):
    """What was acknowledged is in the database; what was not is in no part of it; the service goes on."""
    store = FeedbackStore(tmp_path / "feedback.sqlite")
    service = served(make().snapshot, feedback=store)

    def events(name: str) -> m.RecordFeedbackRequest:
        shown = m.Impression(
            event_id=f"{name}-a", shopper_id="u02", request_id="r", item_ids=["i001", "i002"]
        )
        click = m.Interaction(event_id=f"{name}-b", shopper_id="u02", kind="CLICK", item_id="i004", value=2.5)
        return m.RecordFeedbackRequest(impressions=[shown], interactions=[click])

    with grpc.insecure_channel(service.address) as channel:
        stub = RecommenderStub(channel)
        before = stub.Recommend(m.RecommendRequest(who=m.Who(shopper_id="u02")))
        answers = [stub.RecordFeedback(events("first")) for _ in range(2)]
        assert [(a.recorded, a.repeated_before) for a in answers] == [(2, 0), (0, 2)]
        after = stub.Recommend(m.RecommendRequest(who=m.Who(shopper_id="u02")))
        assert [i.score for i in before.items] != [i.score for i in after.items]
        with store.engine.begin() as connection:
            rows = connection.execute(sa.select(INTERACTIONS)).mappings().all()
            connection.execute(sa.text(f"ALTER TABLE {INTERACTIONS.name} RENAME TO elsewhere"))
        assert [(row["item"], row["value"]) for row in rows] == [("i004", 2.5)]
        code, message = code_of(lambda: stub.RecordFeedback(events("second")))
        assert (code, "nothing of it was taken" in message) == (grpc.StatusCode.UNAVAILABLE, True)
        assert str(tmp_path) not in message
        assert stub.Recommend(m.RecommendRequest()).items
        with store.engine.begin() as connection:
            connection.execute(sa.text(f"ALTER TABLE elsewhere RENAME TO {INTERACTIONS.name}"))
        assert stub.RecordFeedback(events("second")).recorded == 2


def test_a_watcher_who_does_not_read_does_not_hold_up_the_end(make, served):
    """It has no room for an answer, and the health service waits for it; the end of the test waits for the service."""
    address, port = served(make().snapshot).address.split(":")
    with socket.create_connection((address, int(port))) as wire:
        half_a_call(wire, "/grpc.health.v1.Health/Watch", (), b"", 0, window=0)
        time.sleep(0.3)
        served.stop()


def test_one_process_serves_one_platform(make):
    ours, theirs = make().snapshot, replace(make(seed=3).snapshot, platform="toys")
    current = Current(ours)
    with pytest.raises(TenantError, match=r"serves 'books', not 'toys'"):
        current.swap(theirs)
    assert current.snapshot is ours


def test_an_erased_shopper_is_gone_at_once_and_stays_gone(stub):
    stub.service.current.sessions.add("u02", "s", "i004")
    stub.service.current.erase(frozenset({"u02"}))
    asked = m.RecommendRequest(who=m.Who(shopper_id="u02", session_id="s"))
    assert stub.Recommend(asked).cold
    assert code_of(lambda: stub.Profile(m.ProfileRequest(shopper_id="u02")))[0] is grpc.StatusCode.NOT_FOUND
    stub.service.current.swap(stub.made.snapshot)
    assert stub.Recommend(asked).cold


def test_what_is_too_much_is_shed_and_what_nobody_waits_for_is_stopped(make, served, monkeypatch):
    """A slow engine with room for two: the third caller is told at once; a cancelled question is never begun."""
    begun, release = [], threading.Event()

    def slow(snapshot, asks):
        begun.extend(ask.count for ask in asks)
        release.wait(20)
        return real(snapshot, asks)

    from clients.serving import desk

    real = desk.recommend
    monkeypatch.setattr(desk, "recommend", slow)
    service = served(make().snapshot, ServingSettings(waiting=2, seconds=30))
    with grpc.insecure_channel(service.address) as channel:
        stub = RecommenderStub(channel)
        first = stub.Recommend.future(m.RecommendRequest(count=1))
        _until(lambda: begun == [1])
        second = stub.Recommend.future(m.RecommendRequest(count=2))
        code = None
        while code is not grpc.StatusCode.RESOURCE_EXHAUSTED:  # the second may be on its way still
            code, message = code_of(lambda: stub.Recommend(m.RecommendRequest(count=3), timeout=0.5))
        assert "try again" in message
        second.cancel()
        third = None
        while third is None:  # its place is free once the service hears of it
            waiting = stub.Recommend.future(m.RecommendRequest(count=4))
            time.sleep(0.05)
            third = waiting if not waiting.done() else None
        release.set()
        assert len(first.result(20).items) == 1
        assert len(third.result(20).items) == 4
    assert 2 not in begun


def _until(true, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_question_that_takes_too_long_ends_with_its_code(make, served, monkeypatch):
    from clients.serving import service as module

    stopped_seen = threading.Event()

    def endless(snapshot, item, count, *, leave_out_owners, stopped):
        while not stopped():
            time.sleep(0.01)
        stopped_seen.set()

    monkeypatch.setattr(module, "audience", endless)
    running = served(make().snapshot, ServingSettings(seconds=0.2))
    with grpc.insecure_channel(running.address) as channel:
        stub = RecommenderStub(channel)
        code, message = code_of(lambda: stub.Audience(m.AudienceRequest(item_id="i001")))
        assert (code, "0.2 s" in message) == (grpc.StatusCode.DEADLINE_EXCEEDED, True)
        assert stopped_seen.wait(20)
        stopped_seen.clear()
        code, _ = code_of(lambda: stub.Audience(m.AudienceRequest(item_id="i001"), timeout=0.05))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert stopped_seen.wait(20)
        assert stub.Recommend(m.RecommendRequest()).items


def test_a_bug_is_internal_and_says_nothing_of_the_data(stub, monkeypatch):
    from clients.serving import service as module

    def broken(*_):
        raise ValueError("u03 has i004")

    monkeypatch.setattr(module, "profile", broken)
    code, message = code_of(lambda: stub.Profile(m.ProfileRequest(shopper_id="u02")))
    assert code is grpc.StatusCode.INTERNAL
    assert "u03" not in message
    assert "i004" not in message


def test_other_machines_need_tls_and_a_token_or_certificate(tmp_path):
    with pytest.raises(SiteError, match="certificate and key must be set"):
        require_safe(ServingSettings(host="0.0.0.0"))
    pair = {"certificate": tmp_path / "c", "key": tmp_path / "k"}
    require_safe(ServingSettings(host="10.0.0.1", **pair))
    with pytest.raises(SiteError, match="without_token only beside client_ca"):
        require_safe(ServingSettings(host="10.0.0.1", **pair, without_token=True))
    require_safe(ServingSettings(host="10.0.0.1", **pair, without_token=True, client_ca=tmp_path / "ca"))


def test_a_port_that_is_taken_is_said(make, served):
    service = served(make().snapshot)
    port = int(service.address.rpartition(":")[2])

    async def again():
        from clients.serving.feedback import NoFeedback
        from clients.serving.serve import Serving, serve

        serving = Serving(service.current, ServingSettings(port=port), Door(None), NoFeedback())
        await serve(serving, lambda _: None, asyncio.Event())

    with pytest.raises(ServingError, match="cannot be listened on"):
        asyncio.run(again())
