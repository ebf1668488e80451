"""Write `docs/transcript.md` from a real run: three platforms on loopback, from `init` to recommendations.

    python -m tests.e2e.transcript docs/transcript.md

Each command but `grpcurl`, whose questions are asked by reflection as it does, is run as it is shown, with the
installed product and made-up shops; what it prints is the page. The only things changed are the folder's name and what
is longer than `LINES`.
"""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc
import numpy as np
import pandas as pd

from benchmarks.serving.transcript import Grpcurl, shell
from clients.folder import ClientFolder
from clients.serving.door import read_token

NAMES = ("books", "toys", "garden")
NOUNS = {
    "books": ("novel", "atlas", "cookbook", "poetry", "biography", "comic"),
    "toys": ("train", "puzzle", "doll", "kite", "blocks", "robot"),
    "garden": ("rake", "seeds", "lantern", "pot", "hose", "gloves"),
}
KINDS = ("red", "small", "large", "old", "new", "blue", "green", "fine", "plain", "round")
LINES = 18
HEAD = """# From init to recommendations: a transcript

Three platforms and an operator on one machine, with TLS, node keys and a registry of models: real processes, made-up
shops of 200 shoppers, which sell different things. `make transcript` runs it again and writes this page; nothing in it
is written by hand but the headings. It shows the way, not the quality.
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def write_shop(folder: Path, name: str, seed: int) -> None:
    """Sixty items and 200 shoppers, of whom each has two nouns that they like."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    items = [(f"{name[0]}{n:02}", f"{KINDS[n // 6]} {NOUNS[name][n % 6]}") for n in range(60)]
    pd.DataFrame(items, columns=["item_id", "title"]).to_csv(folder / "items.csv", index=False)
    events = []
    for shopper in range(200):
        liked = rng.choice(6, size=2, replace=False)
        chosen = rng.choice([n for n in range(60) if n % 6 in liked], size=7, replace=False)
        events += [
            (f"{name}-{shopper:03}", f"{name[0]}{n:02}", 1_600_000_000 + 86_400 * d)
            for d, n in enumerate(chosen)
        ]
    columns = ["user_id", "item_id", "timestamp"]
    pd.DataFrame(events, columns=columns).to_csv(folder / "events.csv", index=False)


class Transcript:
    """Runs commands in one folder, and keeps what they print."""

    def __init__(self, place: Path) -> None:
        self.place, self.page, self.started = place, [HEAD], []
        self._environment = os.environ | {
            "COLUMNS": "120",
            "PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")])),
        }

    def say(self, text: str) -> None:
        self.page.append(f"\n{text}\n")

    def _arguments(self, line: str) -> list[str]:
        return [sys.executable, "-m", *shlex.split(line)]

    def run(self, *lines: str, expect: int = 0, limit: int = LINES) -> str:
        """Run commands one after the other; show them and the lines that they print."""
        shown, said = [], ""
        for line in lines:
            done = subprocess.run(
                self._arguments(line), cwd=self.place, env=self._environment, capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            assert done.returncode == expect, f"{line}: {done.returncode}\n{done.stdout}{done.stderr}"
            said = done.stdout + done.stderr
            text = [part.rstrip() for part in said.replace(str(self.place) + "/", "").splitlines()]
            cut = [*text[:limit], "…"] if len(text) > limit else text
            shown += [f"$ {line}", *cut]
        self.page.append("\n```\n" + "\n".join(shown) + "\n```\n")
        return said

    def start(self, *lines: str) -> None:
        """Start commands that stay; their logs go to files."""
        for line in lines:
            with (self.place / f"{len(self.started)}.log").open("wb") as log:
                self.started.append(
                    subprocess.Popen(
                        self._arguments(line), cwd=self.place, env=self._environment, stdout=log, stderr=log
                    )
                )
        self.page.append("\n```\n" + "\n".join(f"$ {line} &" for line in lines) + "\n```\n")

    def show(self, *calls: str) -> None:
        """Show calls of the service and their answers; raise AssertionError if one was refused."""
        for call in calls:
            assert "ERROR: Code" not in call, call
        self.page.append("\n```\n" + "\n".join(calls) + "```\n")

    def listening(self, port: int, seconds: float = 180) -> None:
        """Wait until a port of this machine takes connections."""
        end = time.monotonic() + seconds
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                assert time.monotonic() < end, f"nothing listens on port {port}"
                time.sleep(0.5)
            else:
                return

    def until(self, line: str, ready, seconds: float = 180) -> None:
        """Ask until `ready` says that the JSON answer is what is waited for."""
        end = time.monotonic() + seconds
        while True:
            done = subprocess.run(
                self._arguments(f"{line} --format json"), cwd=self.place, env=self._environment,
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.stdout and ready(json.loads(done.stdout)):
                return
            assert time.monotonic() < end, f"{line}: {done.stdout}{done.stderr}"
            time.sleep(1)

    def stop(self) -> list[int]:
        for process in reversed(self.started):
            process.send_signal(signal.SIGTERM)
        return [process.wait(90) for process in self.started]


def fingerprint(said: str) -> str:
    """The sixteen groups of four digits that people read out."""
    return " ".join(re.search(r"((?:[0-9a-f]{4}\s+){15}[0-9a-f]{4})", said).group(1).split())


def write(told: Transcript) -> None:
    """The story."""
    front, link, registry = free_port(), free_port(), free_port()
    for seed, name in enumerate(NAMES):
        write_shop(told.place / "data" / name, name, seed)
    told.say("## The operator makes the federation")
    made = told.run(
        f"fedcart server init fed --name shops --address localhost:{front} --superlink-port {link} "
        f"--registry-port {registry} --history-length 10"
    )
    told.say("## Each platform makes its folder and asks to join; the operator admits it")
    for name in NAMES:
        told.run(
            f"fedcart client init {name} --name {name} --federation shops --events data/{name}/events.csv "
            f"--items data/{name}/items.csv --population-size 200 --epsilon-cap 8"
        )
        site = told.place / name / "client.toml"
        text = site.read_text().replace("# port = 9094", f"port = {free_port()}")
        site.write_text(text.replace("# health_port = 9095", f"health_port = {free_port()}"))
        asked = told.run(f"fedcart client request --folder {name} --contact anna@{name}.example")
        request = re.search(r"wrote (\S+)", asked).group(1)
        said = told.run(
            f'fedcart server admit {request} --folder fed --fingerprint "{fingerprint(asked)}"', limit=8
        )
        kit = re.search(r"Send it (\S+)", said).group(1)
        told.run(f'fedcart client join {kit} --folder {name} --fingerprint "{fingerprint(made)}"', limit=3)
    told.say("## All agree on the products")
    told.run(*(f"fedcart client catalogue --folder {n} --out {n}.catalogue.json" for n in NAMES), limit=6)
    told.run(f"fedcart server vocabulary build {' '.join(f'{n}.catalogue.json' for n in NAMES)} --folder fed")
    told.run(*(f"fedcart client vocabulary fed/vocabulary/1.json --folder {name}" for name in NAMES))
    told.say("## All agree on the code")
    bundle = re.search(r"wrote (\S+)", told.run("fedcart server bundle")).group(1)
    told.run(*(f"fedcart client approve {bundle} --folder {name}" for name in NAMES))
    told.say("## Start")
    told.start("fedcart server start --folder fed")
    told.start(*(f"fedcart client start --folder {name}" for name in NAMES))
    told.until(
        "fedcart server status --folder fed",
        lambda status: [m["node"] for m in status["members"]] == ["online"] * len(NAMES),
    )
    told.run("fedcart server doctor --folder fed")
    told.say("## Train")
    said = told.run("fedcart server run --folder fed", limit=40)
    run = re.search(r"run (\S+)", said).group(1)
    told.run("fedcart server status --folder fed")
    told.run("fedcart client status --folder toys")
    told.say("## Publish, adopt, serve")
    told.run(f"fedcart server publish {run} --folder fed")
    for name in NAMES:
        told.run(f"fedcart client adopt --folder {name}", limit=4)
    told.run("fedcart client recommend toys-007 --count 5 --folder toys", limit=30)
    port = free_port()
    told.start(f"fedcart client serve --folder toys --port {port}")
    told.listening(port)
    told.say(
        "Asked by reflection, as `grpcurl` does, whose lines are shown; hashes are cut, numbers rounded."
    )
    address = f"127.0.0.1:{port}"
    with grpc.insecure_channel(address) as channel:
        token = read_token(ClientFolder(told.place / "toys").site().serving)
        tool = Grpcurl(channel, address, token)
        told.show(
            shell("toys") + tool.asked("Recommend", {"who": {"shopperId": "toys-007"}, "count": 3}),
            tool.asked("Recommend", {"who": {"texts": ["red train"]}, "count": 3}),
        )
    told.say("## Who spent what")
    told.run("fedcart audit budget toys/ledger.sqlite", limit=30)


def main() -> None:
    """Write the page; all processes are stopped at the end, in order."""
    target = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        told = Transcript(Path(folder))
        try:
            write(told)
        except BaseException:
            for log in Path(folder).glob("*.log"):
                sys.stderr.write(log.read_text(errors="replace")[-1500:])
            raise
        finally:
            codes = told.stop()
        told.say("## Stop")
        told.say(f"SIGTERM to each of the five: exit codes {', '.join(map(str, codes))}.")
    target.write_text("".join(told.page), encoding="utf-8")


if __name__ == "__main__":
    main()
