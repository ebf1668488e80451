"""The transcript of docs/serving.md: every method is called, by reflection alone, and the page shows them all."""

import re
from pathlib import Path

import grpc
import pytest

from benchmarks.serving.transcript import Grpcurl, transcript
from clients.feedback import FeedbackStore
from clients.serving.v1 import serving_pb2
from clients.site import ServingSettings
from tests.e2e import transcript as whole

PAGE = Path(__file__).parents[3] / "docs" / "serving.md"
METHODS = {method.name for method in serving_pb2.DESCRIPTOR.services_by_name["Recommender"].methods}


@pytest.fixture
def told(make, served, tmp_path) -> list[str]:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    token.chmod(0o600)
    store = FeedbackStore(tmp_path / "feedback.sqlite")
    service = served(make().snapshot, ServingSettings(token=token), feedback=store)
    with grpc.insecure_channel(service.address) as channel:
        tool = Grpcurl(channel, service.address, "0123456789abcdef")
        assert tool.methods() == METHODS
        return list(transcript(tool, "books", service.address, "u02", "i010", "i001"))


def test_every_method_answers_and_errors_are_where_they_belong(told):
    called = {name for call in told for name in re.findall(r"\$R/(\w+)\n", call)}
    assert called == METHODS
    wrong = [call for call in told if "ERROR" in call]
    assert [re.search(r"Code: (\w+)", call).group(1) for call in wrong] == ["INVALID_ARGUMENT", "NOT_FOUND"]
    assert wrong == told[-2:]
    assert not [call for call in told if "0123456789abcdef" in call]
    (stream,) = [call for call in told if "$R/Stream\n" in call]
    assert stream.count('{"list"') == 3
    twice = [call for call in told if "RecordFeedback\n" in call]
    assert ['"recorded": 2' in call for call in twice] == [True, False]


def test_the_page_shows_every_method():
    shown = set(re.findall(r"\$R/(\w+)\n", PAGE.read_text(encoding="utf-8")))
    assert shown == METHODS


def test_the_transcript_from_init_on_asks_by_the_same_tool():
    """It is run by hand (`make transcript`), so that its imports hold is looked at here."""
    assert whole.Grpcurl is Grpcurl
