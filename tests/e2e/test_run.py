"""With real processes, by the commands alone: a node is killed between two rounds, and the run ends as if not."""

import json
import os
import signal
import sys

import pytest

from clients.adopt import Adopter
from clients.models import load_adopted
from clients.participate import open_ledger
from clients.policy import approve
from federation.bundle import CLIENT_PACKAGES, build_bundle, installed_code
from federation.supervise import read_record
from federation.validity import now
from server.app import MODEL
from server.events import read_events
from server.registry.run import read_run
from server.registry.store import ModelStore

pytestmark = pytest.mark.slow

RUN = {"rounds": 2, "epsilon": 4.0, "local_steps": 2, "sample_rate": 0.5, "negatives": 4, "targets": 3}


def fedcart(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "fedcart", *map(str, arguments)]


def test_a_killed_node_comes_back_and_each_round_is_charged_once(make_federation, processes):
    federation = make_federation(run=RUN)
    names = ("books", "toys")
    platforms = {name: federation.platform(name) for name in names}
    for folder in platforms.values():
        approve(folder.approvals, build_bundle()[1], installed_code(CLIENT_PACKAGES), now())
    processes.start("server", fedcart("server", "start", "--folder", federation.folder.path))
    for name, folder in platforms.items():
        processes.start(name, fedcart("client", "start", "--folder", folder.path))
    federation.wait_for(lambda: federation.online() == set(names), "both nodes online")

    run = processes.start("run", fedcart("server", "run", "--folder", federation.folder.path))

    def rounds() -> list[dict]:
        folders = list(federation.folder.runs.glob("*"))
        return [e for e in read_events(folders[0]) if e["event"] == "round"] if folders else []

    federation.wait_for(lambda: rounds() or run.poll() is not None, "the first round")
    node = read_record(platforms["toys"].node_record)["supernode"]
    os.kill(node["pid"], signal.SIGKILL)

    second = processes.start("second", fedcart("client", "start", "--folder", platforms["toys"].path))
    assert second.wait(60) == 4
    assert str(platforms["toys"].membership().keys.lock) in processes.log("second")

    federation.wait_for(lambda: run.poll() is not None, "the end of the run", 300)
    assert run.returncode == 0, processes.log("run") + processes.log("server")
    (folder,) = federation.folder.runs.glob("*")
    assert (folder / MODEL).exists()
    assert [(r["round"], r["platforms"]) for r in rounds()] == [(1, list(names)), (2, list(names))]
    assert read_record(platforms["toys"].node_record)["supernode"]["starts"] > node["starts"]
    for platform in platforms.values():
        (spend,) = open_ledger(platform.site()).runs()
        assert (spend.run, spend.reservations, spend.open, spend.steps) == (folder.name, 2, 0, 4)

    published = ModelStore.open(federation.folder).publish(read_run(folder), now())
    assert (published.card.private, published.card.taints, published.card.run.origin) == (
        True,
        [],
        "federation",
    )
    assert [(m.platform, m.rounds) for m in published.card.members] == [("books", 2), ("toys", 2)]
    for platform in platforms.values():
        Adopter(platform).from_file(federation.folder.models / published.version)
        assert load_adopted(platform.path).version == published.version

    for name in (*names, "server"):
        running = processes.running[name]
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
        lines = [line for line in processes.log(name).splitlines() if line]
        assert all(isinstance(json.loads(line), dict) for line in lines)
        assert federation.shopper not in processes.log(name)
