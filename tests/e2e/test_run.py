"""With real processes, by the commands alone: start, train, publish, adopt over the network, stop.

The failures are in `test_matrix.py` and `test_refused.py` (`make e2e`).
"""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

import fedcart
from clients.metrics import ClientCollector
from clients.models import load_adopted
from clients.own_ledger import open_ledger
from clients.policy import approve
from federation.auditlog import NAME as AUDIT
from federation.bundle import CLIENT_PACKAGES, build_bundle, installed_code
from federation.validity import now
from server.app import MODEL
from server.events import read_events
from server.metrics import ServerCollector
from tests.collector import collecting
from tests.e2e.conftest import SHOPPER, write_shop

pytestmark = pytest.mark.slow

RUN = {"epsilon": 4.0, "min_members": 3}
NAMES = ("books", "garden", "toys")
LOVED, THEN = "i00", "i20"
"""What many shoppers of the members take, and what they take after it."""


def write_member(folder: Path, seed: int) -> None:
    """A shop of 60 shoppers, half of whom take one product after the other."""
    rng = np.random.default_rng(seed)
    sold = []
    for u in range(60):
        taken = rng.choice(np.arange(1, 20), size=4, replace=False).tolist()
        for day, n in enumerate([*((0, 20) if u % 2 else ()), *taken]):
            sold.append((SHOPPER if u == 0 else f"u{u:02}", f"i{n:02}", day))
    write_shop(folder, sold)


def write_newcomer(folder: Path, seed: int) -> None:
    """A shop that opened today: four shoppers with a basket each, in none of which is what comes after."""
    sold = [(f"u{u:02}", f"i{n:02}", 0) for u in range(4) for n in (1 + seed + u, 7 + u)]
    write_shop(folder, [*sold, *((f"u{u:02}", LOVED, 0) for u in range(4))])


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "fedcart", *map(str, arguments)]


@pytest.fixture
def collector(processes):
    """Return a collector to which the processes send their traces."""
    with collecting() as made:
        processes.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = made.endpoint
        yield made
        del processes.environment["OTEL_EXPORTER_OTLP_ENDPOINT"]


def require_names(lines, run):
    """Raise AssertionError unless the log lines of both sides carry run, round and platform."""
    for name in NAMES:
        assert {line["platform"] for line in lines[name]} == {name}
        told = [(x["run"], x["round"]) for x in lines[name] if x["event"] in {"task", "budget", "answered"}]
        assert told == [(run, number) for number in (1, 1, 1, 2, 2, 2)]
    rounds = [(x["run"], x["round"], x["platforms"]) for x in lines["server"] if x["event"] == "round"]
    assert rounds == [(run, 1, [*NAMES]), (run, 2, [*NAMES])]


def require_one_trace(collector, run):
    """Raise AssertionError unless both sides sent the spans of a run, in one trace."""
    spans = {(s.name, s.facts.get("round"), s.facts.get("platform")): s for s in collector.spans()}
    assert set(spans) == {
        ("run", None, None),
        *(("round", number, None) for number in (1, 2)),
        *((what, n, name) for what in ("message", "training") for n in (1, 2) for name in NAMES),
    }
    assert {s.facts["run"] for s in spans.values()} == {run}
    assert len({s.trace for s in spans.values()}) == 1


def require_absent(shopper, collector, fed, platforms):
    """Raise AssertionError if a shopper is in anything that either side observes, or that the server keeps."""
    seen = {file: file.read_bytes() for file in fed.path.rglob("*") if file.is_file()}
    seen |= {folder.path / AUDIT: (folder.path / AUDIT).read_bytes() for folder in platforms.values()}
    seen |= {"traces": b"".join(collector.bodies)}
    sources = {"server": ServerCollector(fed), **{n: ClientCollector(f) for n, f in platforms.items()}}
    for name, source in sources.items():
        registry = CollectorRegistry()
        registry.register(source)
        seen[f"metrics of {name}"] = generate_latest(registry)
    assert len(seen) > 20
    assert [where for where, held in seen.items() if shopper in held] == []
    assert all(shopper in folder.site().events.read_bytes() for folder in platforms.values())


def require_first_list(federation, said, version):
    """A newcomer who never trained: its first list names what only the others sold well, as soon as it adopts."""
    newcomer = federation.platform("newtown", write=write_newcomer)
    federation.approve_products(newcomer)
    asked = ("client", "recommend", "--item", LOVED, "--count", 3, "--folder", newcomer.path)
    before = [item["item_id"] for item in said(*asked)["items"]]
    assert said("client", "adopt", "--folder", newcomer.path)["version"] == version
    after = [item["item_id"] for item in said(*asked)["items"]]
    assert THEN not in before
    assert after[0] == THEN


def test_from_start_to_a_newcomer_s_first_list(make_federation, processes, capfd, collector):
    federation = make_federation(run=RUN)
    fed, place = federation.folder, ("--folder", federation.folder.path)
    platforms = {n: federation.platform(n, seed, write=write_member) for seed, n in enumerate(NAMES)}
    federation.agree_on_products(*platforms.values())
    for folder in platforms.values():
        approve(folder.approvals, build_bundle()[1], installed_code(CLIENT_PACKAGES), now())
    processes.start("server", command("server", "start", *place))
    for name, folder in platforms.items():
        processes.start(name, command("client", "start", "--folder", folder.path))
    federation.wait_for(lambda: federation.online() == set(NAMES), "all nodes online")

    run = processes.start("run", command("server", "run", *place))
    second = processes.start("second", command("client", "start", "--folder", platforms["toys"].path))
    assert second.wait(60) == 4
    assert str(platforms["toys"].membership().keys.lock) in processes.log("second")
    for address in (federation.address, f"localhost:{federation.port}"):
        for path in ("start-run", "list-runs", "stop-run"):
            url = f"https://{address}/v1/control/{path}"
            assert httpx.post(url, verify=federation.tls()).status_code == 403
    assert run.wait(200) == 0, processes.log("run") + processes.log("server")

    (made,) = fed.runs.glob("*")
    assert (made / MODEL).exists()
    rounds = [e for e in read_events(made) if e["event"] == "round"]
    assert [(r["round"], r["platforms"]) for r in rounds] == [(1, list(NAMES)), (2, list(NAMES))]
    for folder in platforms.values():
        (spend,) = open_ledger(folder.site()).runs()
        assert (spend.run, spend.reservations, spend.open) == (made.name, 2, 0)

    def said(*arguments: object) -> dict:
        capfd.readouterr()
        assert fedcart.run([*map(str, arguments), "--format", "json"]) == 0
        return json.loads(capfd.readouterr().out)

    published = said("server", "publish", made.name, *place)
    assert published["private"], published
    assert [(m["platform"], m["rounds"]) for m in published["card"]["members"]] == [(n, 2) for n in NAMES]
    for folder in platforms.values():
        said("client", "adopt", "--folder", folder.path)
        assert load_adopted(folder.path).version == published["version"]

    require_first_list(federation, said, published["version"])

    checks = {c["check"]: c["detail"] for c in said("server", "doctor", *place)["checks"]}
    assert "control is closed" in checks["address"]
    assert "1 published" in checks["models"]
    status = said("server", "status", *place)
    assert {name: p["state"] for name, p in status["processes"].items()} == dict.fromkeys(
        ("superlink", "superexec", "front", "registry"), "running"
    )
    health = subprocess.run(
        command("client", "status", "--folder", platforms["books"].path),
        env=processes.environment,
        check=False,
    )
    assert health.returncode == 0

    for name in (*NAMES, "server"):
        running = processes.running[name]
        running.terminate()
        assert running.wait(60) == 0
        lines = [line for line in processes.log(name).splitlines() if line]
        assert all(isinstance(json.loads(line), dict) for line in lines)
        assert federation.shopper not in processes.log(name)
    lines = {
        name: [json.loads(x) for x in processes.log(name).splitlines() if x] for name in (*NAMES, "server")
    }
    require_names(lines, made.name)
    require_one_trace(collector, made.name)
    require_absent(federation.shopper.encode(), collector, fed, platforms)
    refused = [json.loads(line) for line in processes.log("server").splitlines() if "-refused" in line]
    assert {line["event"] for line in refused} == {"front-refused", "control-refused"}
