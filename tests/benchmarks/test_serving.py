"""The soak in short: every caller gets a right code, and the exact pass and the index are measured at all."""

from collections import Counter
from contextlib import nullcontext

import pytest

from benchmarks.serving.measure import against_faiss, exact_pass, over_grpc
from benchmarks.serving.rectools import against_rectools
from benchmarks.serving.soak import LEAST, Tally, highest_rate, soak
from benchmarks.serving.start import first_answer, made_folder
from benchmarks.transfer.rectools import rectools_python
from clients.serving.v1 import serving_pb2 as messages


@pytest.mark.slow
def test_a_short_soak_finds_nothing_wrong(tmp_path):
    """Two seconds of load, swaps, faults; the service ends with code 0, or this raises."""
    result = soak(2 / 60, 30, 0, tmp_path, items=2000, width=32)
    assert result["failed"] == []
    assert result["caller_late_p99_ms"] > 0
    codes = Counter({name: sum(found.values()) for name, found in result["codes"].items()})
    assert set(codes) == set(result["codes"])
    assert min(codes.values()) > 0
    assert result["codes"]["no token"] == {"UNAUTHENTICATED": codes["no token"]}


@pytest.mark.slow
def test_the_measurements_run_on_a_tiny_shop(tmp_path):
    assert over_grpc(1000, 50, 16, 0, 50, 1, tmp_path)["requests"] == 50
    assert exact_pass(1000, 16, 0, 2)["one_over_floor"] > 0
    assert set(against_faiss(2000, 50, 16, 0, 2, tmp_path)["throughput_over_faiss_flat"]) == {
        "exact, histories",
        "exact, one event",
        "index, histories",
    }


@pytest.mark.slow
def test_the_highest_rate_is_one_that_was_tried_and_held(tmp_path):
    said = []
    rate = highest_rate(0, tmp_path, items=2000, width=32, seconds=1.5, say=said.append)
    tried = [float(line.split()[0]) for line in said]
    assert tried[0] == LEAST
    assert rate in {0.0, *tried}


@pytest.mark.slow
def test_a_service_of_a_real_folder_is_started_and_asked(tmp_path):
    platform = made_folder(600, 30, 0, tmp_path)
    assert first_answer(platform) > 0
    assert (platform.path / "serving").is_dir()


def test_a_service_that_answered_nobody_in_time_does_not_hold_the_rate(tmp_path, monkeypatch):
    """Less than a second's worth of answers in the whole trial: there is nothing to take a percentile of."""

    async def slow(*_: object) -> tuple[Tally, list[float]]:
        return Tally(taken=[900.0], empty=[1.0]), []

    monkeypatch.setattr("benchmarks.serving.soak._run", slow)
    monkeypatch.setattr("benchmarks.serving.soak.hosted", lambda *_, **__: nullcontext())
    assert highest_rate(0, tmp_path) == 0.0


def test_the_soak_finds_an_item_of_another_catalogue():
    tally, header = Tally(), messages.Header(model_version="v2")
    for title in ("lamp v2", "lamp v1"):
        item = messages.ScoredItem(item_id="i1", title=title)
        tally.look("good", messages.RecommendResponse(header=header, items=[item]))
    assert tally.wrong == ["good: an item of another catalogue"]


def test_without_its_environment_rectools_is_skipped_with_the_way_to_make_it(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDCART_RECTOOLS_PYTHON", str(tmp_path / "python"))
    assert "make bench-env" in against_rectools(1000, 20, 16, 0, 1, 1, tmp_path)["skipped"]


@pytest.mark.slow
@pytest.mark.skipif(not rectools_python().exists(), reason="needs RecTools: make bench-env")
def test_rectools_is_asked_for_the_same_lists(tmp_path):
    result = against_rectools(1000, 40, 16, 0, 1, 1, tmp_path)
    assert set(result["lists_per_second"]) == {"fedcart", "RecTools"}
    assert all(value > 0 for side in result["lists_per_second"].values() for value in side.values())
    assert "exact, together / ALS, together" in result["fedcart_over_rectools"]
