"""The failure matrix with real processes on loopback: three platforms with different data, TLS, node keys.

One federation lives through all cases, in this order; what each shows is in `docs/operations.md`. `toys` has a network
namespace of its own, so that its network can be cut, and its ledger lies on a small disk, so that it can be filled; both
need root, and the two cases that need them are skipped without.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from clients.folder import ClientFolder
from clients.own_ledger import open_ledger
from clients.policy import approve
from federation.bundle import CLIENT_PACKAGES, build_bundle, installed_code
from federation.lock import is_held
from federation.supervise import read_record
from federation.validity import now
from server.app import MODEL
from server.events import read_events

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

RUN = {"epsilon": 4.0}
NAMES = ("books", "tools", "toys")
CAP = 400.0
HOST, GUEST = "10.213.77.1", "10.213.77.2"


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "fedcart", *map(str, arguments)]


def allowed(*arguments: str) -> bool:
    try:
        return subprocess.run(arguments, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@dataclass
class Network:
    """A network namespace joined to this one by a pair of interfaces, if that is permitted here."""

    name: str = f"fedcart-{os.getpid()}"
    made: bool = False

    def make(self) -> None:
        link, guest = f"fc{os.getpid() % 100000}", f"fg{os.getpid() % 100000}"
        inside = ("ip", "-n", self.name)
        self.made = allowed("ip", "netns", "add", self.name) and all(
            allowed(*step)
            for step in (
                ("ip", "link", "add", link, "type", "veth", "peer", "name", guest, "netns", self.name),
                ("ip", "addr", "add", f"{HOST}/30", "dev", link),
                ("ip", "link", "set", link, "up"),
                (*inside, "addr", "add", f"{GUEST}/30", "dev", guest),
                (*inside, "link", "set", guest, "up"),
                (*inside, "link", "set", "lo", "up"),
            )
        )
        self.guest = guest

    def prefix(self) -> list[str]:
        return ["ip", "netns", "exec", self.name] if self.made else []

    def set(self, state: str) -> None:
        assert allowed("ip", "-n", self.name, "link", "set", self.guest, state)

    def remove(self) -> None:
        allowed("ip", "netns", "del", self.name)


@dataclass
class Run:
    """A `fedcart server run` under way."""

    name: str
    place: Path
    process: subprocess.Popen
    log: Path

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [e for e in read_events(self.place) if e["event"] == kind]

    @property
    def text(self) -> str:
        return self.log.read_text(encoding="utf-8")


@dataclass
class World:
    federation: Any
    processes: Any
    network: Network
    small: Path | None
    platforms: dict[str, ClientFolder] = field(default_factory=dict)
    _count: int = 0

    def start_server(self) -> None:
        self.processes.start("server", command("server", "start", "--folder", self.federation.folder.path))

    def start_client(self, name: str) -> None:
        prefix = self.network.prefix() if name == "toys" else []
        self.processes.start(
            name, [*prefix, *command("client", "start", "--folder", self.platforms[name].path)]
        )

    def online(self) -> None:
        self.federation.wait_for(lambda: self.federation.online() == set(NAMES), "all nodes online", 200)

    def run(self, *options: object) -> Run:
        """Start a run, and wait until it has a name."""
        self._count += 1
        key = f"run-{self._count}"
        place = ("--folder", self.federation.folder.path)
        process = self.processes.start(key, command("server", "run", *place, *options))
        log = self.processes.folder / f"{key}.log"

        def named() -> bool:
            assert process.poll() in (None, 0), log.read_text()
            return "\n" in log.read_text()

        self.federation.wait_for(named, "the run's name", 60)
        name = log.read_text().split()[1]
        return Run(name, self.federation.folder.runs / name, process, log)

    def until(self, run: Run, kind: str, number: int) -> None:
        """Wait for an event of round `number`."""

        def happened() -> bool:
            assert run.process.poll() is None, run.text
            return any(e["round"] == number for e in run.events(kind))

        self.federation.wait_for(happened, f"{kind} of round {number}", 200)

    def end(self, run: Run, seconds: float = 420) -> int:
        self.federation.wait_for(lambda: run.process.poll() is not None, f"the end of\n{run.text}", seconds)
        return run.process.returncode

    def charged(self, run: Run) -> dict[str, tuple[int, int]]:
        """By platform: reservations of the run in its ledger, and how many of them are open."""
        found = {}
        for name, folder in self.platforms.items():
            spends = [s for s in open_ledger(folder.site()).runs() if s.run == run.name]
            found[name] = (spends[0].reservations, spends[0].open) if spends else (0, 0)
        return found

    def pid(self, name: str, process: str) -> int:
        return read_record(self.platforms[name].node_record)[process]["pid"]

    def record(self, case: str, run: Run, code: int) -> None:
        """Keep what was seen, where FEDCART_E2E_RECORD says."""
        if target := os.environ.get("FEDCART_E2E_RECORD"):
            line = {"case": case, "exit": code, "charged": self.charged(run), "seen": run.text.splitlines()}
            with Path(target).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Iterator[Path | None]:
    """Return a disk of one megabyte, None if none may be mounted."""
    place = tmp_path_factory.mktemp("small")
    if not allowed("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)):
        yield None
        return
    yield place
    allowed("umount", "-l", str(place))


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    made = Network()
    made.make()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def world(small, network, make_federation, processes) -> World:
    federation = make_federation(host=HOST if network.made else "localhost", run=RUN)
    world = World(federation, processes, network, small)
    for seed, name in enumerate(NAMES):
        folder = world.platforms[name] = federation.platform(name, seed, cap=CAP)
        approve(folder.approvals, build_bundle()[1], installed_code(CLIENT_PACKAGES), now())
    federation.agree_on_products(*world.platforms.values())
    if small is not None:
        toys = world.platforms["toys"]
        for file in toys.path.glob("ledger*"):
            (small / file.name).write_bytes(file.read_bytes())
            (small / file.name).chmod(0o600)
            file.unlink()
        text = toys.site_file.read_text()
        assert 'ledger = "ledger.sqlite"' in text
        toys.site_file.write_text(
            text.replace('ledger = "ledger.sqlite"', f'ledger = "{small / "ledger.sqlite"}"')
        )
    world.start_server()
    for name in NAMES:
        world.start_client(name)
    world.online()
    return world


def test_a_clean_run(world):
    run = world.run()
    assert world.end(run) == 0, run.text
    assert (run.place / MODEL).exists()
    assert world.charged(run) == dict.fromkeys(NAMES, (2, 0))
    world.record("clean run", run, 0)


def test_two_runs_at_once(world):
    """Both end, and each is charged for itself."""
    one, two = world.run(), world.run()
    codes = world.end(one), world.end(two)
    world.record("two runs at once", one, codes[0])
    world.record("two runs at once", two, codes[1])
    assert codes == (0, 0), one.text + two.text
    assert one.name != two.name
    for run in (one, two):
        assert world.charged(run) == dict.fromkeys(NAMES, (2, 0))


def test_a_disk_that_is_full(world):
    """The platform whose ledger cannot be written trains nothing, and is back when there is room."""
    if world.small is None:
        pytest.skip("no disk may be mounted here")
    filler = world.small / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 1000)
    run = world.run()
    code = world.end(run)
    filler.unlink()
    world.record("disk full for a ledger", run, code)
    assert code == 0, run.text
    assert "toys left out: ledger.unreadable" in run.text
    assert world.charged(run) == {"books": (2, 0), "tools": (2, 0), "toys": (0, 0)}
    assert open_ledger(world.platforms["toys"].site()).verify().ok
    assert "database or disk is full" not in run.text, "words stay on the platform"


def test_a_budget_that_is_used_up_in_the_middle(world):
    """Nothing is left after the first round (the cap is lowered to what is spent): the second costs nothing."""
    run = world.run()
    world.until(run, "round", 1)
    ledger = open_ledger(world.platforms["tools"].site())
    ledger.change_cap(ledger.budget().committed + 1e-4, "nothing is left")
    code = world.end(run)
    ledger.change_cap(CAP, "the next case")
    world.record("budget used up in the middle", run, code)
    assert code == 0, run.text
    assert "tools left out: budget.refused" in run.text
    assert world.charged(run) == {"books": (2, 0), "tools": (1, 0), "toys": (2, 0)}


def test_a_client_that_never_answers(world):
    """Its worker is stopped, its node lives: it is left out after the limit; what it does later counts for nothing."""
    worker = world.pid("toys", "worker")
    os.killpg(worker, signal.SIGSTOP)
    run = world.run("--round-timeout", 25)
    code = world.end(run)
    before = world.charged(run)
    os.killpg(worker, signal.SIGCONT)
    time.sleep(10)
    world.record("a client that never answers", run, code)
    assert code == 0, run.text
    assert "toys gave no reply in 25 s, left out" in run.text
    assert before == {"books": (2, 0), "tools": (2, 0), "toys": (0, 0)}
    assert world.charged(run)["toys"] in ((0, 0), (1, 0), (2, 0))


def test_a_client_that_is_killed_in_a_round_and_comes_back(world):
    run = world.run("--min-members", 3, "--round-timeout", 100)
    world.until(run, "asked", 1)
    for process in ("supernode", "worker"):
        os.killpg(world.pid("toys", process), signal.SIGKILL)
    code = world.end(run)
    world.record("client killed in a round", run, code)
    assert code == 0, run.text
    assert [len(e["platforms"]) for e in run.events("round")] == [3, 3]
    assert world.charged(run) == dict.fromkeys(NAMES, (2, 0))
    assert read_record(world.platforms["toys"].node_record)["supernode"]["starts"] > 1


def test_a_server_that_is_killed_in_a_round_and_resumed(world):
    """Everything on the server's machine is killed; started again, --resume goes on, and nobody is charged twice."""
    run = world.run("--min-members", 3)
    world.until(run, "asked", 2)
    os.killpg(run.process.pid, signal.SIGKILL)
    record = read_record(world.federation.folder.server_record)
    world.processes.stop("server")
    for state in record.values():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(state["pid"], signal.SIGKILL)
    world.start_server()
    # `server run` waits for a SuperLink whose supervisor runs: it has to run by now.
    world.federation.wait_for(lambda: is_held(world.federation.folder.lock), "the server's lock", 60)
    resumed = world.run("--resume", run.name)
    code = world.end(resumed)
    world.record("server killed in a round, resumed", resumed, code)
    assert code == 0, resumed.text
    assert [e["round"] for e in run.events("round")] == [1, 2]
    assert world.charged(run) == dict.fromkeys(NAMES, (2, 0))


def test_a_network_that_is_cut_for_two_minutes(world):
    if not world.network.made:
        pytest.skip("no network namespace may be made here")
    world.online()
    run = world.run("--min-members", 3, "--round-timeout", 100)
    world.until(run, "asked", 1)
    world.network.set("down")
    time.sleep(120)
    world.network.set("up")
    code = world.end(run, 600)
    world.record("network cut for two minutes", run, code)
    assert code == 0, run.text
    assert [len(e["platforms"]) for e in run.events("round")] == [3, 3]
    assert world.charged(run) == dict.fromkeys(NAMES, (2, 0))


def test_nothing_of_a_shopper_is_in_any_log(world):
    for log in world.processes.folder.glob("*.log"):
        assert world.federation.shopper not in log.read_text(encoding="utf-8", errors="replace"), log.name
    for folder in world.platforms.values():
        assert open_ledger(folder.site()).verify().ok
