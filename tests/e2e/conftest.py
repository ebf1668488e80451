"""Real processes on loopback: SuperLink with TLS and node keys, SuperNodes, workers."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import ListRunsRequest, StartRunRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

import fedcart
from clients.enrol import init_folder as init_platform
from clients.enrol import install_kit, write_request
from clients.folder import ClientFolder
from clients.template import SiteAnswers
from federation.bundle import digest
from federation.keys import fingerprint, signing_text
from federation.validity import now
from server import enrol
from server.control_key import ControlKey, read_control_key
from server.folder import OperatorSettings, ServerFolder
from server.nodes import list_nodes
from server.processes import front_arguments, superexec_arguments, superlink_arguments

SHOPPER = "shopper-4711"


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(condition: Callable[[], object], what: str, seconds: float = 120) -> None:
    """Wait until a condition is true; fail with `what` after a generous limit."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.2)


class Processes:
    """Processes of a test, each with a log; all are killed at the end, with their children."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen] = {}
        self.environment = os.environ | {
            "FLWR_HOME": str(folder / "flwr"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "OMP_NUM_THREADS": "1",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        }

    def start(self, name: str, arguments: list[str]) -> subprocess.Popen:
        """Start a process; a second one of the same name continues its log."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                arguments,
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.running[name]

    def log(self, name: str) -> str:
        """What a process has written so far."""
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def stop(self, name: str) -> None:
        """Kill a process and its children."""
        process = self.running.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def write_shop(folder: Path, sold: list[tuple[str, str, int]]) -> None:
    """Write a platform's data: what all shops have, and (shopper, item, day) of what this one sold."""
    folder.mkdir(parents=True)
    nouns = ("milk", "bread", "lamp", "chair", "kettle", "train")
    items = [(f"i{n:02}", f"{nouns[n % 6]} {n} for home") for n in range(30)]
    pd.DataFrame(items, columns=["item_id", "title"]).to_csv(folder / "items.csv", index=False)
    events = [(who, what, 1_600_000_000 + 86_400 * day) for who, what, day in sold]
    columns = ["user_id", "item_id", "timestamp"]
    pd.DataFrame(events, columns=columns).to_csv(folder / "events.csv", index=False)


def write_data(folder: Path, seed: int) -> None:
    """Write a platform's data: each seed gives other purchases."""
    rng = np.random.default_rng(seed)
    write_shop(
        folder,
        [
            (SHOPPER if u == 0 else f"u{u:02}", f"i{i:02}", day)
            for u in range(20)
            for day, i in enumerate(rng.choice(30, size=6, replace=False))
        ],
    )


def command(*arguments: object) -> None:
    """Run a command in this process; it must succeed."""
    assert fedcart.run([*map(str, arguments)]) == 0


class Federation:
    """A federation and its platforms on this machine."""

    shopper = SHOPPER
    wait_for = staticmethod(wait_for)
    free_port = staticmethod(free_port)

    def __init__(
        self,
        processes: Processes,
        where: str = "fed",
        host: str = "localhost",
        time: datetime | None = None,
        **sections: dict,
    ) -> None:
        self.processes, self.root = processes, processes.folder
        self.port = free_port()
        self.address = f"{host}:{free_port()}"
        listens = "127.0.0.1" if host == "localhost" else host
        settings = OperatorSettings.model_validate(
            {
                "name": "groceries",
                "address": self.address,
                "model": {"history_length": 6},
                "superlink": {"port": self.port, "health_port": free_port()},
                "front": {"host": listens},
                "registry": {"host": listens, "port": free_port()},
                **sections,
            }
        )
        self.folder: ServerFolder = enrol.init_folder(self.root / where, settings, time or now())
        self.fingerprint = fingerprint(signing_text(self.folder.signing_key()))

    def start(self) -> None:
        """Start the server's processes, without anything that watches them."""
        self.processes.start("link", superlink_arguments(self.folder))
        self.processes.start("superexec", superexec_arguments(self.folder))
        self.processes.start("front", front_arguments(self.folder))

    @property
    def certificate(self) -> Path:
        """The certificate authority by which the server is known."""
        return self.folder.control_certificates

    def tls(self) -> ssl.SSLContext:
        """What verifies the server's certificate."""
        return ssl.create_default_context(cafile=str(self.certificate))

    def listens(self, address: str) -> bool:
        """Whether something takes connections there."""
        host, _, port = address.rpartition(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 2):
            return True
        return False

    def platform(
        self, name: str, seed: int = 0, cap: float = 8.0, write: Callable[[Path, int], None] = write_data
    ) -> ClientFolder:
        """Enrol a platform from init to join; `write` makes its data."""
        data = self.root / "data" / name
        write(data, seed)
        folder = init_platform(
            self.root / name,
            SiteAnswers(name, "groceries", data / "events.csv", data / "items.csv", 20, cap, 1e-6),
        )
        text = folder.site_file.read_text().replace("# port = 9094", f"port = {free_port()}")
        folder.site_file.write_text(text.replace("# health_port = 9095", f"health_port = {free_port()}"))
        request = write_request(folder, now())
        kit = enrol.admit(
            self.folder, request.file, request.file.read_bytes(), request.fingerprint, now()
        ).kit
        install_kit(folder, kit, kit.read_bytes(), self.fingerprint, now())
        return folder

    def agree_on_products(self, *platforms: ClientFolder) -> None:
        """Make the next version of the vocabulary from these platforms' catalogues, which each of them approves."""
        files = [self.root / f"{folder.path.name}.catalogue.json" for folder in platforms]
        for folder, file in zip(platforms, files, strict=True):
            command("client", "catalogue", "--folder", folder.path, "--out", file)
        command("server", "vocabulary", "build", *files, "--folder", self.folder.path)
        for folder in platforms:
            self.approve_products(folder)

    def approve_products(self, platform: ClientFolder) -> None:
        """Approve the newest version of the vocabulary on a platform."""
        newest = max(self.folder.vocabulary.glob("*.json"), key=lambda file: int(file.stem))
        command("client", "vocabulary", newest, "--folder", platform.path)

    def online(self) -> set[str]:
        """The platforms whose nodes are online."""
        return {node.name for node in list_nodes(self.folder.database) if node.status == "online"}

    def run(self, bundle: bytes, **config: str) -> None:
        """Submit a bundle and wait for the end of its run."""
        client = ControlHttpClient.from_server_address(
            f"localhost:{self.port}",
            insecure=False,
            root_certificates=str(self.certificate),
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="flwr"),
                ControlKey(read_control_key(self.folder)),
            ],
        )
        request = StartRunRequest(
            fab=fab_to_proto(Fab(digest(bundle), bundle, {})),
            override_config=user_config_to_proto(dict(config)),
        )
        run = client.StartRun(request).run_id
        wait_for(
            lambda: client.ListRuns(ListRunsRequest(run_id=run)).run_dict[run].status.status == "finished",
            "the end of the run",
            200,
        )


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """Return what starts processes."""
    made = Processes(tmp_path_factory.mktemp("processes"))
    yield made
    for name in list(made.running):
        made.stop(name)


@pytest.fixture(scope="module")
def federation(processes: Processes) -> Federation:
    """Return a federation whose SuperLink is starting."""
    made = Federation(processes)
    made.start()
    return made


@pytest.fixture(scope="module")
def make_federation(processes: Processes) -> Callable[..., Federation]:
    """Return what makes a federation with these options and sections of settings; nothing of it is started."""
    return lambda **options: Federation(processes, **options)
