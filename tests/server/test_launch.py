"""A run's exit code is the truth: 0 only if the model was written. SuperLink is played by a fake."""

import json
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

import fedcart
from federation.errors import BusyError
from federation.lock import held
from federation.validity import now
from server import enrol, launch
from server.app import MODEL
from server.checkpoint import Checkpoint, save_checkpoint
from server.control import FlowerRun
from server.errors import FederationError, ServerAwayError
from server.events import EventLog
from server.folder import OperatorSettings, RunSettings
from server.settings import FederationSettings
from server.start import children, require_local
from shared_model.errors import BadInputError, RunFailedError


@pytest.fixture
def folder(tmp_path):
    settings = OperatorSettings(name="g", address="localhost:9443")
    return enrol.init_folder(tmp_path / "fed", settings, now())


@pytest.fixture
def place(kit, folder):
    """Return a prepared run."""
    place = folder.runs / "run-1"
    place.mkdir(parents=True)
    kit.settings().save(place)
    return place


class FakeControl:
    """SuperLink with one run; `script` is what happens at each question, and returns whether the run is over."""

    def __init__(self, script):
        self.script, self.submitted, self.stopped = script, [], []

    def __call__(self, folder):
        return self

    def submit(self, bundle, place):
        self.submitted.append(place)
        return 7

    def find(self, number):
        if number == 0:  # is anybody there?
            return None
        assert number == 7
        return FlowerRun(7, self.script(), "completed")

    def stop(self, number):
        self.stopped.append(number)


@pytest.fixture
def play(monkeypatch, folder, place):
    """Return what executes the run against a script."""

    def call(script):
        control = FakeControl(script)
        monkeypatch.setattr(launch, "Control", control)
        monkeypatch.setattr(launch, "_POLL", 0.0)
        lines = []
        launch.execute(folder, place, lines.append)
        return SimpleNamespace(control=control, lines=lines)

    return call


def write_model(place):
    save_file({"a": np.zeros(1, np.float32)}, place / MODEL)


def test_a_run_that_wrote_its_model_is_done(play, place):
    def script():
        EventLog(place).write("resumed", after_round=1, rounds=2)
        write_model(place)
        EventLog(place).write("finished", rounds=2)
        return True

    done = play(script)
    assert done.control.submitted == [place]
    assert any("resumed after round 1" in line for line in done.lines)
    assert json.loads((place / "submitted.json").read_text()) == {"run": 7}


@pytest.mark.parametrize("code", [1, 4, 6])
def test_a_failure_has_its_own_exit_code(play, place, code):
    def script():
        EventLog(place).write("failed", code="x", exit_code=code, message="It broke.")
        return True

    with pytest.raises(RunFailedError, match=r"It broke\. Go on with --resume run-1") as failure:
        play(script)
    assert failure.value.exit_code == code


def test_flower_s_completed_without_a_model_is_a_failure(play):
    with pytest.raises(RunFailedError, match=r"ended without a model \(completed\)"):
        play(lambda: True)


def test_finished_without_the_model_s_file_is_a_failure(play, place):
    def script():
        EventLog(place).write("finished", rounds=2)
        return True

    with pytest.raises(RunFailedError, match="without a model"):
        play(script)


def test_an_old_event_does_not_end_a_resumed_run(play, place):
    EventLog(place).write("failed", code="x", exit_code=1, message="yesterday")

    def script():
        write_model(place)
        EventLog(place).write("finished", rounds=2)
        return True

    play(script)


def test_a_run_that_is_still_executed_is_followed_and_not_submitted_again(play, place):
    (place / "submitted.json").write_text('{"run": 7}')
    answers = iter([False, False, True])

    def script():
        over = next(answers)
        if over:
            write_model(place)
            EventLog(place).write("finished", rounds=2)
        return over

    assert play(script).control.submitted == []


def test_an_attempt_that_was_lost_is_submitted_again(play, place):
    """The server was killed: SuperLink gives the old attempt up, and the new one ends well."""
    (place / "submitted.json").write_text('{"run": 7}')
    answers = iter([False, True])

    def script():
        if next(answers, None) is None:
            write_model(place)
            EventLog(place).write("finished", rounds=2)
            return True
        return len(list(place.glob("second"))) > 0 or bool(place.joinpath("second").touch())

    told = play(script)
    assert told.control.submitted == [place]
    assert any("the attempt was lost" in line for line in told.lines)


def test_a_superlink_that_is_being_started_is_waited_for(monkeypatch, folder):
    answers = iter([False, False, True])

    class Starting:
        def __init__(self, _):
            pass

        def find(self, _):
            if not next(answers):
                raise ServerAwayError("away")

    monkeypatch.setattr(launch, "Control", Starting)
    monkeypatch.setattr(launch, "_POLL", 0.0)
    lines = []
    with held(folder.lock, "the server"):
        launch.await_superlink(folder, lines.append)
    assert lines == ["  SuperLink is being started; waiting for it"]
    answers = iter([False])
    with pytest.raises(ServerAwayError):
        launch.await_superlink(folder, lines.append)


def test_a_finished_run_is_not_run_again(kit, play, place):
    save_checkpoint(place, Checkpoint("run-1", 2, {}, {}))
    write_model(place)
    done = play(lambda: pytest.fail("nobody is asked"))
    assert done.lines == ["run run-1 is complete already"]


def test_a_run_that_nobody_starts_is_stopped_after_a_limit(monkeypatch, folder, place):
    monkeypatch.setattr(launch, "START_LIMIT", 0.05)
    monkeypatch.setattr(launch, "_POLL", 0.01)
    control = FakeControl(lambda: False)
    monkeypatch.setattr(launch, "Control", control)
    with pytest.raises(RunFailedError, match=r"said nothing for 0\.05 s and was stopped"):
        launch.execute(folder, place, lambda _: None)
    assert control.stopped == [7]


def test_a_server_that_is_away_is_waited_for_only_so_long(monkeypatch, play):
    monkeypatch.setattr(launch, "AWAY_LIMIT", 0.05)

    def away():
        raise ServerAwayError("SuperLink does not answer.")

    with pytest.raises(ServerAwayError, match="--resume run-1") as failure:
        play(away)
    assert failure.value.exit_code == 1


def test_a_server_that_comes_back_is_followed_on(play, place):
    times = iter(range(100))

    def script():
        if next(times) < 3:
            raise ServerAwayError("away")
        write_model(place)
        EventLog(place).write("finished", rounds=2)
        return True

    lines = play(script).lines
    assert sum("does not answer" in line for line in lines) == 1


def test_two_commands_do_not_follow_one_run(play, place):
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with held(place / "follow.lock", "it"):
            entered.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    try:
        with pytest.raises(BusyError, match=r"follow\.lock"):
            play(lambda: True)
    finally:
        leave.set()
        thread.join()


def test_a_run_without_enough_members_is_refused_before_anything_is_made(folder):
    with pytest.raises(FederationError, match="has 0 members, and a round needs 2"):
        launch.prepare(folder, RunSettings(), None)
    assert not folder.runs.exists()


def test_limits_grow_with_what_there_is_to_do():
    limits = [launch.round_limit(n, p) for n, p in ((500, 12_000), (50_000, 12_000), (500, 10**7))]
    assert limits == sorted(limits)
    assert len(set(limits)) == 3


def test_a_superlink_that_others_can_reach_is_not_started(tmp_path):
    settings = {"name": "g", "address": "localhost:9443", "superlink": {"host": "0.0.0.0"}}
    open_folder = enrol.init_folder(tmp_path / "open", OperatorSettings.model_validate(settings), now())
    with pytest.raises(FederationError, match=r"listens on this machine only"):
        require_local(open_folder)


def test_through_the_front_door(folder, place, capfd):
    assert fedcart.run(["server", "run", "--folder", str(folder.path), "--resume", "none"]) == 2
    assert "is no run of" in capfd.readouterr().err
    assert (
        fedcart.run(["server", "run", "--folder", str(folder.path), "--resume", "run-1", "--epsilon", "3"])
        == 2
    )
    assert fedcart.run(["server", "run", "--folder", str(folder.path)]) == 2
    assert fedcart.run(["server", "run", "--folder", str(folder.path), "--epsilon", "nan"]) == 2
    assert "epsilon" in capfd.readouterr().err
    assert fedcart.run(["server", "run", "--folder", str(folder.path), "--resume", "run-1"]) == 1
    assert "fedcart server start" in capfd.readouterr().err
    with held(folder.lock, "it"):
        assert fedcart.run(["server", "start", "--folder", str(folder.path)]) == 4
    assert str(folder.lock) in capfd.readouterr().err
    (place / "federation.json").write_text("{")
    assert fedcart.run(["server", "run", "--folder", str(folder.path), "--resume", "run-1"]) == 2


def test_a_run_is_found_by_name_and_by_folder(folder, place):
    assert launch.find_run(folder, "run-1") == place == launch.find_run(folder, str(place))
    assert FederationSettings.load(place).silence_limit > FederationSettings.load(place).round_timeout
    with pytest.raises(BadInputError):
        launch.find_run(folder, "run-2")


def test_superlink_s_requests_stay_out_of_the_log_and_its_troubles_do_not(folder):
    superlink = children(folder)[0]
    assert not superlink.passes(
        'INFO [uvicorn.access] 127.0.0.1 - "POST /v1/fleet/pull-messages HTTP/1.1" 200'
    )
    assert superlink.passes("ERROR :     [/v1/fleet/activate-node][ApiError:2004] Attempted to register")
