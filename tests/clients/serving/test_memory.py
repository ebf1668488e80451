"""What callers send is bounded before anything of it is kept: the memory of a real process is watched."""

import grpc
import pytest

from benchmarks.serving.host import TOKEN
from benchmarks.serving.process import hosted
from clients.serving.v1 import serving_pb2 as m
from clients.serving.v1.serving_pb2_grpc import RecommenderStub
from tests.showing import Showing

SMALL_MB = 48


@pytest.fixture(scope="module")
def hosting(tmp_path_factory):
    """A service in a process of its own."""
    with hosted(500, 50, 16, 0, tmp_path_factory.mktemp("host")) as service:
        yield service


@pytest.mark.slow
def test_sessions_of_long_ids_are_refused_and_not_kept(hosting):
    """Forty sessions of fifty ids of 200 kB each were 450 MB."""
    with grpc.insecure_channel(hosting.address) as channel:
        stub = RecommenderStub(grpc.intercept_channel(channel, Showing(TOKEN)))
        stub.Recommend(m.RecommendRequest())
        before = hosting.megabytes()
        for session in range(40):
            opened = m.StreamRequest(open=m.RecommendRequest(who=m.Who(session_id=f"s{session}"), count=1))
            events = [m.StreamRequest(item_id=f"{session}-{n}-".ljust(200_000, "x")) for n in range(50)]
            with pytest.raises(grpc.RpcError) as refused:
                list(stub.Stream(iter([opened, *events])))
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "item_id: has 200,000 bytes, and at most 512 are taken" in refused.value.details()
        assert hosting.megabytes() - before < SMALL_MB
