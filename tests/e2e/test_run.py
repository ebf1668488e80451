"""With real processes, by the commands alone: start, train, publish, adopt over the network, stop.

The failures are in `test_matrix.py` and `test_refused.py` (`make e2e`).
"""

import json
import subprocess
import sys

import httpx
import pytest

import fedcart
from clients.models import load_adopted
from clients.participate import open_ledger
from clients.policy import approve
from federation.bundle import CLIENT_PACKAGES, build_bundle, installed_code
from federation.validity import now
from server.app import MODEL
from server.events import read_events

pytestmark = pytest.mark.slow

RUN = {"rounds": 2, "epsilon": 4.0, "local_steps": 2, "sample_rate": 0.5, "negatives": 4, "targets": 3}
NAMES = ("books", "toys")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "fedcart", *map(str, arguments)]


def test_from_start_to_an_adopted_model(make_federation, processes, capfd):
    federation = make_federation(run=RUN)
    fed, place = federation.folder, ("--folder", federation.folder.path)
    platforms = {name: federation.platform(name, seed) for seed, name in enumerate(NAMES)}
    for folder in platforms.values():
        approve(folder.approvals, build_bundle()[1], installed_code(CLIENT_PACKAGES), now())
    processes.start("server", command("server", "start", *place))
    for name, folder in platforms.items():
        processes.start(name, command("client", "start", "--folder", folder.path))
    federation.wait_for(lambda: federation.online() == set(NAMES), "both nodes online")

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
        assert (spend.run, spend.reservations, spend.open, spend.steps) == (made.name, 2, 0, 4)

    def said(*arguments: object) -> dict:
        capfd.readouterr()
        assert fedcart.run([*map(str, arguments), "--format", "json"]) == 0
        return json.loads(capfd.readouterr().out)

    published = said("server", "publish", made.name, *place)
    assert published["private"], published
    assert [(m["platform"], m["rounds"]) for m in published["card"]["members"]] == [("books", 2), ("toys", 2)]
    for folder in platforms.values():
        said("client", "adopt", "--folder", folder.path)
        assert load_adopted(folder.path).version == published["version"]

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
    refused = [json.loads(line) for line in processes.log("server").splitlines() if "-refused" in line]
    assert {line["event"] for line in refused} == {"front-refused", "control-refused"}
