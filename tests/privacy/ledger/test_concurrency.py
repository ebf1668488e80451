"""Many processes reserving at once never pass the cap, on each database."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest
from cryptography.hazmat.primitives import serialization

from privacy.accounting import epsilon
from privacy.errors import BudgetRefusedError
from privacy.events import PoissonGaussian
from privacy.ledger import Kind, Ledger

EVENT = PoissonGaussian(0.05, 1.0, 10)
DELTA, CAP = 1e-6, 3.5

WORKER = """
import json, sys
from cryptography.hazmat.primitives import serialization
from privacy.errors import BudgetRefusedError
from privacy.events import PoissonGaussian
from privacy.ledger import Ledger

url, population, pem, name = sys.argv[1:]
key = serialization.load_pem_private_key(pem.encode(), None)
ledger = Ledger.open(url, population=population, key=key)
granted = []
print("ready", flush=True)
sys.stdin.readline()
try:
    for i in range(50):
        ledger.reserve(
            PoissonGaussian(0.05, 1.0, 10), run=name, purpose="update", key=f"{name}/{i}",
            model_fingerprint="m", code_version="1",
        )
        granted.append(f"{name}/{i}")
except BudgetRefusedError:
    print(json.dumps(granted), flush=True)
"""


def pem(key):
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return text.decode()


def test_processes_never_pass_the_cap_together(database, population, key):
    ledger = Ledger.create(database, population=population, epsilon_cap=CAP, delta=DELTA, key=key)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, database, population, pem(key), f"w{n}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(3)
    ]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:  # all start together
        worker.stdin.write("go\n")
        worker.stdin.flush()
    said = [set(json.loads(worker.communicate(timeout=120)[0])) for worker in workers]
    granted = set().union(*said)
    recorded = {e.body["key"] for e in ledger.history() if e.kind is Kind.RESERVE}
    assert granted == recorded
    assert sum(map(len, said)) == len(recorded)
    total = epsilon([EVENT] * len(recorded), DELTA)
    assert total <= CAP < epsilon([EVENT] * (len(recorded) + 1), DELTA)
    assert ledger.budget().committed == pytest.approx(total, rel=1e-6)
    report = ledger.verify()
    assert report.ok, report.findings


def test_threads_share_one_ledger(ledger, reserve):
    granted, refused = [], []

    def work(name):
        for i in range(6):
            try:
                granted.append(reserve(ledger, f"{name}/{i}").key)
            except BudgetRefusedError:
                refused.append(name)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) + len(refused) == 24
    total = epsilon([EVENT] * len(granted), DELTA)
    assert total <= 4.0 < epsilon([EVENT] * (len(granted) + 1), DELTA)
    assert ledger.verify().ok


def test_platforms_can_set_up_one_server_at_once(postgresql, mariadb, key):
    """Tables and triggers are made once, whoever comes first."""
    for server, url in (("pg", postgresql), ("my", mariadb)):
        errors = []

        def create(n, url=url, server=server, errors=errors):
            try:
                Ledger.create(url, population=f"{server}-{n}", epsilon_cap=1.0, delta=DELTA, key=key)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=create, args=(n,)) for n in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert all(Ledger.open(url, population=f"{server}-{n}", key=key).verify().ok for n in range(5))
