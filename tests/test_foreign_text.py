"""Hostile text in every field that another party fills, through the commands and the logs that show it."""

import io
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog
from flwr.app import ConfigRecord, Error, Message
from rich.console import Console

import fedcart
from clients.worker import configure_log as configure_worker_log
from federation.plain_log import plain_values
from federation.supervise import Child, _copy_lines, configure_log
from federation.validity import now
from privacy.cli.output import say, warn, write_lines, write_table
from privacy.ledger import Witness
from server import enrol
from server.events import EventLog
from server.folder import OperatorSettings
from server.lines import say_lines
from server.metrics import ServerCollector
from server.replies import Question, sort_replies
from server.rounds import run_rounds
from shared_model.errors import BadInputError
from simulations.report import result_view
from tests.server.conftest import Kit

HOSTILE = (
    "\x1b[2J\x1b]8;;http://evil\x1b\\here\x1b]8;;\x1b\\\x9b31m\u202e\u200f\u200b\u2028\r\n[red]x[/y]:cat:"
)
MARKUP = "[red]x[/y]:cat:"


@pytest.fixture
def kit(flower):
    """Return the builders of what a server sees."""
    return Kit


@pytest.fixture
def shown(capfd):
    """Return what was printed; it steers no terminal, and markup is text."""

    def read():
        captured = capfd.readouterr()
        text = captured.out + captured.err
        assert all(c.isprintable() or c == "\n" for c in text), repr(text)
        return text

    return read


@pytest.fixture
def place(kit, tmp_path):
    """Return a federation's folder with one run."""
    folder = enrol.init_folder(tmp_path / "fed", OperatorSettings(name="g", address="localhost:9443"), now())
    run = folder.runs / "run-1"
    run.mkdir(parents=True)
    kit.settings().save(run)
    return folder


ROOT = Path(__file__).parents[1]
WRITES = {
    "fedcart.py": "plain, or the version",
    "privacy/cli/output.py": "where text is made plain",
    "privacy/cli/app.py": "a page that is plain, from numbers",
    "federation/supervise.py": "JSON in ASCII",
    "clients/worker.py": "the log",
    "clients/data_cli.py": "a bar with names that were checked",
    "server/vocabulary/cli.py": "a count",
    "simulations/cli.py": "JSON in ASCII, a path, the tables below",
    "simulations/report.py": "tables of plain text",
}


def test_nothing_is_printed_past_what_makes_it_plain():
    """Whoever prints in another place says here why it may; `print` itself is refused by ruff."""
    found = {
        str(file.relative_to(ROOT))
        for package in ("privacy", "federation", "clients", "server", "simulations", "shared_model")
        for file in (ROOT / package).rglob("*.py")
        if re.search(
            r"sys\.std(out|err)\.write|\(sys\.stderr\)|typer\.echo|Console\(|console\.print", file.read_text()
        )
    }
    assert found | {"fedcart.py"} == set(WRITES)


@pytest.mark.parametrize("write", [say, warn, lambda text: write_lines([text])])
def test_what_prints_a_line(write, shown):
    write(HOSTILE)
    assert MARKUP in shown()


def test_what_prints_a_table(shown):
    write_table(HOSTILE, (HOSTILE, "b"), [(HOSTILE, HOSTILE)])
    text = shown()
    assert text.count("[red]") >= 3


def test_the_front_door_s_errors(shown, monkeypatch):
    monkeypatch.setattr(fedcart, "app", lambda **_: (_ for _ in ()).throw(BadInputError(HOSTILE * 9000)))
    assert fedcart.run([]) == 2
    text = shown()
    assert MARKUP in text
    assert len(text) < 5000


def test_the_front_door_s_tracebacks(shown, monkeypatch):
    monkeypatch.setattr(fedcart, "app", lambda **_: (_ for _ in ()).throw(RuntimeError(HOSTILE)))
    assert fedcart.run([]) == 70
    text = shown()
    assert "Traceback" in text
    assert "  File " in text
    assert MARKUP in text


# What a member says


def replies(kit, message):
    """Replies in which a platform's name, code, reason, run, plan, noise and records are hostile."""
    honest = kit.honest(message(1), 1).content.array_records["arrays"]
    arrays = {name: array.numpy() for name, array in honest.items()}
    odd = ({"platform": HOSTILE}, {"platform": "x" * 100_000}, {"run": HOSTILE}, {"plan": HOSTILE})
    yield from (kit.reply(message(1), "toys", arrays, receipt=said) for said in odd)
    for code in (2, 100):
        for reason in (HOSTILE, f"toys:{HOSTILE}", f"{HOSTILE}:data", "toys:" + "a" * 100_000):
            yield Message(Error(code, reason), reply_to=message(1))
    more = kit.reply(message(1), "toys", arrays)
    more.content[HOSTILE] = ConfigRecord({})
    yield more
    wrong = kit.reply(message(1), "toys", arrays)
    wrong.content["arrays"][HOSTILE] = wrong.content["arrays"][next(iter(arrays))]
    yield wrong


def play(kit, place):
    """Play a round for each of `replies`, which one of four members gives; return how many there are."""
    log, number = EventLog(place.runs / "run-1"), 0

    def observe(event, values):
        log.write(event, **values)
        say_lines(event, values)

    while True:

        def answer(message, node, number=number):
            if node > 1:
                return kit.honest(message, node)
            return dict(enumerate(replies(kit, lambda _: message))).get(number, kit.honest(message, node))

        folder = place.runs / f"n{number}"
        folder.mkdir()
        seen = []
        run_rounds(
            kit.grid(4, answer),
            kit.settings(instructions={"rounds": 1, "share": 1.0}),
            folder,
            lambda event, values, seen=seen: (seen.append(event), observe(event, values)),
        )
        if "client-failed" not in seen:
            return number
        number += 1


def test_what_a_member_replies(kit, place, shown):
    assert play(kit, place) == 14
    printed = shown()
    assert "[red]" in printed
    assert max(map(len, printed.splitlines())) < 1000
    for command in ("status", "members", "log"):
        fedcart.run(["server", command, "--folder", str(place.path)])
        assert max(map(len, shown().splitlines())) < 1000
    assert (place.runs / "run-1" / "events.jsonl").stat().st_size < 60_000
    for family in ServerCollector(place).collect():
        for sample in family.samples:
            for value in sample.labels.values():
                assert value.isprintable()
                assert len(value) <= 64


def test_a_reply_s_words_are_plain_before_anybody_has_them(kit, tmp_path):
    settings, kept = kit.settings(instructions={"rounds": 1, "share": 1.0}), []

    def keep(message, node):
        kept.append(message)
        return kit.honest(message, node)

    run_rounds(kit.grid(1, keep), settings, tmp_path, lambda *_: None)
    arrays = {n: a.numpy() for n, a in kept[0].content.array_records["arrays"].items()}
    question = Question(settings.instructions, arrays, 1.0)
    witness = Witness(tmp_path)
    for reply in replies(kit, lambda _: kept[0]):
        good, (bad,) = sort_replies([reply], question, settings, witness, {})
        assert good == []
        for text, limit in ((bad.platform, 64), (bad.code, 64), (bad.reason, 600)):
            assert text.isprintable()
            assert len(text) <= limit


def test_the_tables_of_a_simulation(shown):
    methods = {"prior": {"ndcg@10": 0.1, "recall@10": 0.1, "intervals": {"ndcg@10": (0.0, 1.0)}}}
    platform = {"role": "member", "methods": methods, "privacy": None}
    refused = [{"platform": HOSTILE, "code": HOSTILE, "times": 1, "rounds": [1]}]
    document = {
        "name": HOSTILE,
        "seed": 1,
        "platforms": {HOSTILE: platform},
        "taints": [],
        "refused": refused,
    }
    Console(width=300, file=sys.stdout, color_system=None).print(result_view(document))
    text = shown()
    assert text.count(MARKUP) == 4


# Logs


@pytest.fixture
def log():
    """Return a log as every process of fedcart writes it, and what it wrote."""
    written = io.StringIO()
    processors = [plain_values, structlog.processors.JSONRenderer()]
    return structlog.wrap_logger(structlog.WriteLogger(written), processors=processors), written


def test_log_lines(log):
    logger, written = log
    logger.warning("refused", platform=HOSTILE, reason="x" * 100_000, exception="one\ntwo")
    line = written.getvalue()
    assert len(line) < 5000
    assert line.isascii()
    assert json.loads(line)["exception"] == "one\ntwo"
    assert json.loads(line)["platform"].isprintable()


@pytest.mark.parametrize("messages", ["codes", "messages"])
def test_every_log_is_configured_so(monkeypatch, messages):
    configured = []
    monkeypatch.setattr(structlog, "configure", lambda **values: configured.append(values["processors"]))
    configure_log()
    configure_worker_log(SimpleNamespace(policy=SimpleNamespace(log=messages)))
    assert [plain_values in processors for processors in configured] == [True, True]


def test_lines_of_a_child(log, capfd):
    logger, written = log
    raw = json.dumps({"event": "x\u202e\x9b31m"}, ensure_ascii=False)
    _copy_lines(io.StringIO(f"{raw}\n{HOSTILE}\n{{not json \x9b\n"), Child("c", list), logger)
    captured = capfd.readouterr().err
    assert captured.isascii()
    assert json.loads(captured) == {"event": "x\u202e\x9b31m"}
    assert written.getvalue().isascii()
