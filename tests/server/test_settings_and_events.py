"""The run's settings file, its event log, and the app around the rounds."""

import json

import pytest
from flwr.app import Context, RecordDict
from safetensors.numpy import load_file

from privacy.errors import LedgerTamperedError
from server.app import MODEL, main
from server.events import EventLog, read_events
from server.lines import describe
from server.settings import FederationSettings
from shared_model.errors import BadInputError, RunFailedError


def test_settings_make_the_round_trip(kit, tmp_path):
    settings = kit.settings(earlier=("run-0",), min_replies=2)
    settings.save(tmp_path)
    assert FederationSettings.load(tmp_path) == settings


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sizes": {"toys": 0}}, "sizes.toys"),
        ({"sizes": {"toys": -1}}, "sizes.toys"),
        ({"sizes": {"toys": 1.5}}, "sizes.toys"),
        ({"round_timeout": 0}, "round_timeout"),
        ({"min_replies": 0}, "min_replies"),
        ({"strategy": "FedAvg"}, "strategy"),
        ({"instructions": {}}, "instructions.run_id"),
    ],
)
def test_settings_that_cannot_be_used_name_the_file_and_the_key(kit, tmp_path, change, said):
    kit.settings().save(tmp_path)
    path = tmp_path / "federation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BadInputError, match=r"federation\.json") as refusal:
        FederationSettings.load(tmp_path)
    assert said in str(refusal.value)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", '"NaN"', '"inf"'])
def test_a_size_or_timeout_that_is_no_number_is_refused(kit, tmp_path, value):
    kit.settings().save(tmp_path)
    path = tmp_path / "federation.json"
    whole = path.read_text()
    for key, before in (("toys", '"toys": 40'), ("round_timeout", '"round_timeout": 600.0')):
        assert before in whole
        if key == "round_timeout" and "nf" in value and "-" not in value:
            continue  # to wait for ever is allowed
        path.write_text(whole.replace(before, f'"{key}": {value}'))
        with pytest.raises(BadInputError, match=key):
            FederationSettings.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b"[]", b"null"])
def test_a_settings_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "federation.json").write_bytes(content)
    with pytest.raises(BadInputError, match=r"federation\.json: is not a run's settings"):
        FederationSettings.load(tmp_path)


def test_without_a_settings_file_the_fix_is_named(tmp_path):
    with pytest.raises(BadInputError, match="Prepare a run first"):
        FederationSettings.load(tmp_path)


def test_events_are_read_as_written(tmp_path):
    assert read_events(tmp_path) == []
    log = EventLog(tmp_path)
    log.write("started", run="r")
    EventLog(tmp_path).write("round", round=1, epsilon={"toys": 1.5})
    first, second = read_events(tmp_path)
    assert (first["event"], first["run"]) == ("started", "r")
    assert (second["event"], second["round"], second["epsilon"]) == ("round", 1, {"toys": 1.5})
    assert first["time"] <= second["time"]
    assert (tmp_path / "events.jsonl").read_bytes().count(b"\n") == 2


def test_a_line_that_was_cut_off_costs_itself_only(tmp_path):
    for cut in range(1, 40, 3):
        folder = tmp_path / str(cut)
        folder.mkdir()
        log = EventLog(folder)
        log.write("one", name="Ω é")
        log.write("two")
        path = folder / "events.jsonl"
        path.write_bytes(path.read_bytes()[:-cut])
        kept = [e["event"] for e in read_events(folder)]
        assert kept == (["one", "two"] if cut == 1 else ["one"])
        EventLog(folder).write("three")  # after the restart
        assert [e["event"] for e in read_events(folder)] == [*kept, "three"]


def run_app(kit, folder, answer):
    context = Context(
        run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config={"run-dir": str(folder)}
    )
    main(kit.grid(4, answer), context)


def test_the_app_writes_the_model_and_how_it_came_about(kit, tmp_path, capsys):
    kit.settings().save(tmp_path)
    run_app(kit, tmp_path, kit.honest)
    events = read_events(tmp_path)
    assert [e["event"] for e in events] == ["started", *["asked", "answered", "round"] * 2, "finished"]
    arrays = load_file(tmp_path / MODEL)
    kit.settings().instructions.shape.exchange.validate(arrays, "model")
    assert "round   2/2  4 replies" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.tmp"))


def test_the_app_ends_a_failed_run_with_its_reason(kit, tmp_path):
    kit.settings().save(tmp_path)
    with pytest.raises(RunFailedError):
        run_app(kit, tmp_path, lambda message, node: kit.failing(message, f"{kit.names[node - 1]}:data"))
    last = read_events(tmp_path)[-1]
    assert (last["event"], last["code"]) == ("failed", "run-failed")
    assert not (tmp_path / MODEL).exists()


def test_the_app_turns_a_bug_into_a_failed_run(kit, tmp_path):
    kit.settings().save(tmp_path)

    def bug(*_):
        raise ZeroDivisionError("boom")

    with pytest.raises(RunFailedError, match="ZeroDivisionError: boom"):
        run_app(kit, tmp_path, bug)
    assert read_events(tmp_path)[-1]["code"] == "internal"


def test_the_app_says_that_its_witness_was_changed(kit, tmp_path):
    kit.settings().save(tmp_path)
    (tmp_path / "witness.jsonl").write_text("garbage\n")
    with pytest.raises(LedgerTamperedError):
        run_app(kit, tmp_path, kit.honest)
    last = read_events(tmp_path)[-1]
    assert (last["event"], last["code"]) == ("failed", "ledger.tampered")


@pytest.mark.parametrize("location", ["", None, 5])
def test_the_app_asks_for_its_folder(kit, location):
    config = {} if location is None else {"run-dir": location}
    context = Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config=config)
    with pytest.raises(BadInputError, match="run-dir"):
        main(kit.grid(4, kit.honest), context)


def test_what_nobody_needs_to_see_has_no_line():
    assert describe("evaluated", {}) is None
    assert "toys left out: data" in describe(
        "client-failed", {"round": 2, "platform": "toys", "reason": "data"}
    )
    assert "toys gave no reply in 600 s" in describe(
        "no-reply", {"round": 2, "platforms": ["toys"], "timeout_s": 600.0}
    )
    assert "40 bytes of a witness line" in describe("witness-mended", {"bytes": 40})
    assert "resumed after round 1 of 3" in describe("resumed", {"after_round": 1, "rounds": 3})
