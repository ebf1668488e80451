"""With real processes: who is admitted gets in, and a bundle that nobody approved sees nothing of the data."""

import json
import textwrap
from types import SimpleNamespace

import pytest
from flwr.cli.build import build_fab_from_files

from clients.own_ledger import open_ledger
from clients.policy import approve
from clients.processes import supernode_arguments, worker_arguments
from clients.products import site_vocabulary
from federation.bundle import CLIENT_PACKAGES, build_bundle, digest, installed_code
from federation.validity import now
from server import enrol
from server.nodes import list_nodes
from server.settings import FederationSettings
from shared_model.instructions import TrainInstructions

pytestmark = pytest.mark.slow

MALICIOUS_CLIENT = """
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()

@app.train()
def train(message, context):
    data = Path(context.run_config["loot"]).read_text()
    Path(context.run_config["marker"] + str(context.node_id)).write_text("was here")
    return Message(RecordDict({"loot": ConfigRecord({"data": data})}), reply_to=message)
"""
MALICIOUS_SERVER = """
import json
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()

@app.main()
def main(grid, context):
    nodes = list(grid.get_node_ids())
    sent = [Message(RecordDict({"config": ConfigRecord({"a": 1})}), dst_node_id=n, message_type="train") for n in nodes]
    replies = list(grid.send_and_receive(sent, timeout=150))
    Path(context.run_config["result"]).write_text(json.dumps([
        {"node": r.metadata.src_node_id, "error": r.error.reason if r.has_error() else None,
         "data": None if r.has_error() else r.content["loot"]["data"]} for r in replies]))
"""
MALICIOUS_MANIFEST = """
[project]
name = "evil"
version = "0.1.0"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "evil"
[tool.flwr.app.components]
serverapp = "evil_server:app"
clientapp = "evil_client:app"
[tool.flwr.app.config]
loot = ""
marker = ""
result = ""
"""


def malicious_bundle() -> bytes:
    files = {
        "pyproject.toml": MALICIOUS_MANIFEST.encode(),
        "evil_client.py": textwrap.dedent(MALICIOUS_CLIENT).encode(),
        "evil_server.py": textwrap.dedent(MALICIOUS_SERVER).encode(),
    }
    return build_fab_from_files(files)[0]


@pytest.fixture(scope="module")
def fed(federation, processes) -> SimpleNamespace:
    """Return a running federation with one platform behind the gate and one that runs Flower as it comes."""
    books, naive, stranger = (federation.platform(name) for name in ("books", "naive", "stranger"))
    enrol.revoke(federation.folder, "stranger", "test", now())
    processes.start("books", supernode_arguments(books))
    processes.start("books-worker", worker_arguments(books))
    processes.start("stranger", supernode_arguments(stranger))
    as_it_comes = supernode_arguments(naive)
    as_it_comes[as_it_comes.index("process")] = "subprocess"
    processes.start("naive", as_it_comes)
    federation.wait_for(lambda: federation.online() == {"books", "naive"}, "both nodes online")
    return SimpleNamespace(federation=federation, books=books, naive=naive, processes=processes)


def test_a_revoked_node_is_refused(fed):
    stranger = fed.processes.running["stranger"]
    fed.federation.wait_for(lambda: stranger.poll() is not None, "the end of the revoked node")
    assert stranger.returncode != 0
    assert "Failed to activate SuperNode" in fed.processes.log("stranger")


def test_a_malicious_bundle_sees_nothing_behind_the_gate(fed, tmp_path):
    """The control: on a node that runs Flower as it comes, the same bundle takes the data away."""
    events = fed.books.site().events
    fed.federation.run(
        malicious_bundle(), loot=str(events), marker=f"{tmp_path}/marker-", result=f"{tmp_path}/result.json"
    )
    names = {node.node_id: node.name for node in list_nodes(fed.federation.folder.database)}
    replies = {names[r["node"]]: r for r in json.loads((tmp_path / "result.json").read_text())}
    assert fed.federation.shopper in replies["naive"]["data"], "the bundle does what it is made for"
    assert (replies["books"]["error"], replies["books"]["data"]) == ("books:policy.bundle", None)
    assert {names[int(m.name.split("-")[-1])] for m in tmp_path.glob("marker-*")} == {"naive"}
    log = fed.processes.log("books-worker")
    assert "policy.bundle" in log
    assert digest(malicious_bundle()) in log
    assert fed.federation.shopper not in log
    assert open_ledger(fed.books.site()).budget().committed == 0


def test_the_approved_bundle_is_trained_by_installed_code(fed, tmp_path):
    enrol.revoke(fed.federation.folder, "naive", "test", now())
    _, bundle = build_bundle()
    assert approve(fed.books.approvals, bundle, installed_code(CLIENT_PACKAGES), now())
    fed.federation.agree_on_products(fed.books)
    vocabulary = site_vocabulary(fed.books.site())
    settings = FederationSettings(
        sizes={"books": 20},
        round_timeout=150,
        history_length=6,
        instructions=TrainInstructions(
            run_id="run-1",
            round=1,
            rounds=2,
            epsilon=4.0,
            delta=1e-6,
            share=0.5,
            encoders=fed.books.membership().kit.card.model.encoders,
            vocabulary=vocabulary.digest,
            products=len(vocabulary),
            edges=len(vocabulary.edges),
            seed=0,
        ),
    )
    settings.save(tmp_path)
    fed.federation.run(bundle, **{"run-dir": str(tmp_path)})
    events = (tmp_path / "events.jsonl").read_text()
    assert (tmp_path / "model.safetensors").exists(), events + fed.processes.log("books-worker")
    budget = open_ledger(fed.books.site()).budget()
    assert 0 < budget.committed <= 4.0
    assert len(open_ledger(fed.books.site()).runs()) == 1
