"""The server's metrics follow from its folder, over HTTP, and hold neither ε nor anything planted."""

import json
import socket
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from federation.metrics import serving
from server.events import EventLog
from server.folder import ServerFolder
from server.metrics import ServerCollector
from server.rounds import run_rounds
from shared_model.errors import BadInputError


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def scrape(address):
    with urlopen(f"http://{address}/metrics") as page:
        return page.read().decode()


def values(text):
    return {
        (s.name, *(v for _, v in sorted(s.labels.items()))): s.value
        for f in text_string_to_metric_families(text)
        for s in f.samples
    }


@pytest.fixture
def place(tmp_path):
    """Return a folder with the record of two processes; metrics need no settings."""
    states = {
        "superlink": {"state": "running", "starts": 3},
        "superexec": {"state": "waiting", "starts": 1},
    }
    (tmp_path / "server.json").write_text(json.dumps({"pid": 1, "processes": states}))
    return ServerFolder(tmp_path)


def test_a_run_shows_in_the_metrics(kit, place):
    def answer(message, node):
        number = message.content.config_records["config"]["round"]
        if node == 2 and number > 1:
            return kit.failing(message, "food:budget.refused")
        if node == 3 and number == 2:
            return None
        return kit.honest(message, node)

    run = place.runs / "run-1"
    run.mkdir(parents=True)
    settings = kit.settings()
    settings.save(run)
    log = EventLog(run)
    grid = kit.grid(4, answer, registered=lambda _: dict(enumerate(kit.names, 1)))
    run_rounds(grid, settings, run, lambda event, values: log.write(event, **values))
    log.write("finished", rounds=2)
    address = f"127.0.0.1:{free_port()}"
    with serving(address, ServerCollector(place)):
        text = scrape(address)
        found = values(text)
        ask = settings.instructions
        assert found["fedcart_rounds_total",] == 2
        assert found["fedcart_runs_finished_total",] == 1
        assert found["fedcart_sent_bytes_total",] == 4 * 4 * ask.products, "the temper, to four"
        assert found["fedcart_received_bytes_total",] == 4 * (4 * ask.products + 2 * ask.edges)
        assert found["fedcart_member_asked_total", "food"] == 2
        assert found["fedcart_member_answered_total", "food"] == 1
        assert found["fedcart_member_refused_total", "budget.refused", "food"] == 1
        assert found["fedcart_member_refused_total", "no-reply", "games"] == 1
        assert found["fedcart_process_restarts_total", "superlink"] == 2
        assert found["fedcart_process_up", "superexec"] == 0
        assert "epsilon" not in text, "what a member has spent is its privacy officer's business"
        log.write("failed", code="x", message="Kundin Özgür", exit_code=1)
        again = scrape(address)
        assert values(again)["fedcart_runs_failed_total",] == 1
        assert "Kundin" not in again
    with pytest.raises(OSError, match="refused"):
        scrape(address)


def test_a_stranger_s_codes_do_not_fill_the_memory(kit, place):
    run = place.runs / "run-1"
    run.mkdir(parents=True)
    kit.settings().save(run)
    log = EventLog(run)
    for n in range(200):
        log.write("client-failed", round=1, platform="toys", code=f"a{n}", reason="?")
    text = "\n".join(
        f"{s.labels}" for f in ServerCollector(place).collect() for s in f.samples if "code" in s.labels
    )
    assert len(text.splitlines()) == 51
    assert "'other'" in text


def test_no_address_is_no_server_and_a_taken_one_is_bad_input(place):
    with serving(None, ServerCollector(place)):
        pass
    address = f"127.0.0.1:{free_port()}"
    with (
        serving(address, ServerCollector(place)),
        pytest.raises(BadInputError, match="cannot be bound"),
        serving(address, ServerCollector(place)),
    ):
        pass
