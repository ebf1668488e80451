"""How long a platform's service takes from the start of its process to its first answer, with a warm cache.

The shop is a real folder: enrolled, its events and catalogue in CSV files, its encoder's features and local layer in the
cache, as they are after any earlier start.
"""

import subprocess
import sys
import time
from pathlib import Path

import grpc
import numpy as np
import pandas as pd

from benchmarks.provenance import PROJECT
from benchmarks.serving.shop import EVENTS, TOPICS
from clients.enrol import init_folder, install_kit, write_request
from clients.folder import ClientFolder
from clients.serving.door import bearer, read_token
from clients.serving.v1 import serving_pb2 as messages
from clients.serving.v1.serving_pb2_grpc import RecommenderStub
from clients.template import SiteAnswers
from federation.keys import fingerprint, signing_text
from federation.validity import now
from server import enrol
from server.folder import OperatorSettings


def made_folder(items: int, shoppers: int, seed: int, folder: Path) -> ClientFolder:
    """Return the folder of a platform that is a member of a federation of its own."""
    rng = np.random.default_rng(seed)
    names = [f"i{i:07}" for i in range(items)]
    titles = [f"topic{i % TOPICS} kind{i % 7} thing{i}" for i in range(items)]
    pd.DataFrame({"item_id": names, "title": titles}).to_csv(folder / "items.csv", index=False)
    topics = rng.integers(TOPICS, size=(shoppers, 2)).repeat(EVENTS // 2, axis=1)
    rows = (topics + TOPICS * rng.integers(max(items // TOPICS, 1), size=topics.shape)) % items
    events = {
        "user_id": [f"u{u:07}" for u in range(shoppers) for _ in range(EVENTS)],
        "item_id": [names[row] for row in rows.ravel().tolist()],
        "timestamp": 1_600_000_000 + 86_400 * np.tile(np.arange(EVENTS), shoppers),
    }
    pd.DataFrame(events).to_csv(folder / "events.csv", index=False)
    operator = enrol.init_folder(
        folder / "operator",
        OperatorSettings.model_validate({"name": "made-up", "address": "localhost:9092"}),
        now(),
    )
    answers = SiteAnswers(
        "bench", "made-up", folder / "events.csv", folder / "items.csv", shoppers, 8.0, 1e-6
    )
    platform = init_folder(folder / "platform", answers)
    request = write_request(platform, now())
    kit = enrol.admit(operator, request.file, request.file.read_bytes(), request.fingerprint, now()).kit
    key = fingerprint(signing_text(operator.signing_key()))
    install_kit(platform, kit, kit.read_bytes(), key, now())
    return platform


def first_answer(folder: ClientFolder) -> float:
    """Return the seconds from the start of `fedcart client serve` to the first list; raise RuntimeError without one."""
    command = [
        sys.executable,
        "-m",
        "fedcart",
        "client",
        "serve",
        "--port",
        "0",
        "--folder",
        str(folder.path),
    ]
    begun = time.perf_counter()
    process = subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None  # noqa: S101
        line = next((line for line in process.stderr if line.startswith("serving recommendations of")), "")
        if not line:
            raise RuntimeError(f"the service ended with code {process.wait()}")
        with grpc.insecure_channel(line.split()[-1]) as channel:
            who = messages.Who(shopper_id="u0000001")
            shown = bearer(read_token(folder.site().serving))
            RecommenderStub(channel).Recommend(messages.RecommendRequest(who=who), metadata=shown, timeout=30)
        return time.perf_counter() - begun
    finally:
        process.terminate()
        process.wait(60)
