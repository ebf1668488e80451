"""A feedback database that goes away while it is used, hangs, and comes back: what is said, and what is stored."""

import contextlib
import socket
import threading

import grpc
import pytest
import sqlalchemy as sa

from clients.feedback import FeedbackStore
from clients.feedback.tables import INTERACTIONS
from clients.serving.v1 import serving_pb2 as m
from clients.serving.v1.serving_pb2_grpc import RecommenderStub
from clients.site import ServingSettings


class Wire:
    """A wire to a database that can be cut: connections through it end, and new ones are refused, or never answered."""

    def __init__(self, url: str) -> None:
        self._there = sa.make_url(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self.hangs = False
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    @property
    def url(self) -> str:
        here = self._there.set(host="127.0.0.1", port=self._port)
        return here.render_as_string(hide_password=False)

    def cut(self) -> None:
        """End all that goes through, and refuse what comes."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()

    def drop(self) -> None:
        """End all that goes through."""
        for one in self._open:
            with contextlib.suppress(OSError):  # the other end was first
                one.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def mend(self) -> None:
        """Let through again."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            self._open.append(near)
            if not self.hangs:
                far = socket.create_connection((self._there.host, self._there.port), 10)
                self._open.append(far)
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=_copy, args=(one, other), daemon=True).start()


def _copy(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65_536):
            other.sendall(data)
        other.shutdown(socket.SHUT_RDWR)


def click(name: str) -> m.RecordFeedbackRequest:
    done = m.Interaction(event_id=name, shopper_id="u02", kind="CLICK", item_id="i004")
    return m.RecordFeedbackRequest(interactions=[done])


@pytest.fixture(params=["postgresql", "mariadb"])
def wire(request):
    """A wire to a real server, and the events that are in its database."""
    url = request.getfixturevalue(request.param)
    direct = sa.create_engine(url, poolclass=sa.NullPool)
    INTERACTIONS.drop(direct, checkfirst=True)
    made = Wire(url)

    def stored() -> list[str]:
        with direct.connect() as connection:
            return sorted(connection.execute(sa.select(INTERACTIONS.c.event_id)).scalars())

    made.stored = stored
    yield made
    made.drop()
    INTERACTIONS.drop(direct, checkfirst=True)


def code_of(call) -> str:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value.code().name


def test_a_server_that_goes_away_and_comes_back(make, served, wire):
    """What was acknowledged is there, what was refused is not, lists go on, and nobody has to restart the service."""
    store = FeedbackStore(wire.url)
    service = served(make().snapshot, feedback=store)
    with grpc.insecure_channel(service.address) as channel:
        stub = RecommenderStub(channel)
        assert stub.RecordFeedback(click("one")).recorded == 1
        wire.cut()
        for _ in range(2):
            assert code_of(lambda: stub.RecordFeedback(click("two"))) == "UNAVAILABLE"
            assert stub.Recommend(m.RecommendRequest(who=m.Who(shopper_id="u02"))).items
        assert wire.stored() == ["one"]
        wire.mend()
        assert stub.RecordFeedback(click("two")).recorded == 1
        assert stub.RecordFeedback(click("one")).repeated_before == 1
        assert wire.stored() == ["one", "two"]
    store.close()


def test_a_server_that_does_not_answer_ends_at_the_time_limit(make, served, wire):
    store = FeedbackStore(wire.url)
    service = served(make().snapshot, ServingSettings(seconds=1.0), feedback=store)
    with grpc.insecure_channel(service.address) as channel:
        stub = RecommenderStub(channel)
        assert stub.RecordFeedback(click("one")).recorded == 1
        wire.drop()
        wire.hangs = True
        assert code_of(lambda: stub.RecordFeedback(click("two"), timeout=30)) == "DEADLINE_EXCEEDED"
        assert stub.Recommend(m.RecommendRequest(who=m.Who(shopper_id="u02"))).items
        wire.hangs = False
        wire.drop()
        codes = [stub.RecordFeedback.future(click("two"), timeout=30).code().name]
        while codes[-1] != "OK":  # the pool has to find out which of its connections are dead
            codes.append(stub.RecordFeedback.future(click("two"), timeout=30).code().name)
            assert len(codes) < 60
        assert set(codes) <= {"OK", "DEADLINE_EXCEEDED", "UNAVAILABLE"}
        assert wire.stored() == ["one", "two"]
    store.close()
