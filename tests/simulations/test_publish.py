"""From a simulated run to recommendations on a newcomer that never trained: publish, adopt, rank."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from clients.evaluation import evaluate
from clients.folder import ClientFolder
from clients.models import load_adopted
from clients.others import others_memory
from clients.platform import HashableSite, prepare_platform
from clients.products import Products, site_vocabulary
from clients.recommender import Recommender, federation_default
from server.registry.run import read_run
from shared_model.metrics import ndcg_at
from tests.front_door import FrontDoor

DOCUMENT = Path(__file__).parents[2] / "docs" / "registry.md"


@pytest.fixture
def run(capfd):
    return FrontDoor(capfd)


def federation_with(run, root, shops):
    """Make a federation of the scenario's model, and enrol gamma, a newcomer."""
    made = run.json(
        *("server", "init", root / "fed", "--name", "crafts", "--address", "localhost:9443"),
        *("--history-length", 6),
    )
    run.json(
        *("client", "init", root / "gamma", "--name", "gamma", "--federation", "crafts"),
        *("--events", shops / "gamma-events.csv", "--items", shops / "gamma-items.csv"),
        *("--population-size", 40, "--epsilon-cap", 8),
    )
    site = root / "gamma" / "client.toml"
    columns = '[columns]\nuser = "customer"\nitem = "sku"\norder = "time"\ntitle = "name"\n'
    site.write_text(site.read_text().replace("[columns]\n", columns))
    asked = run.json("client", "request", "--folder", root / "gamma")
    kit = run.json(
        *("server", "admit", asked["request"], "--folder", root / "fed"),
        *("--fingerprint", asked["fingerprint"]),
    )["kit"]
    run.json("client", "join", kit, "--folder", root / "gamma", "--fingerprint", made["fingerprint"])
    return root / "fed", root / "gamma"


def test_a_newcomer_adopts_a_simulated_model_and_ranks_as_the_simulation_did(
    write_scenario, simulate, run, tmp_path, shop_folder
):
    code, out, err = simulate(
        *("--scenario", write_scenario(), "--secure-noise", "--out", tmp_path / "runs", "--format", "json")
    )
    assert code == 0, err
    result = json.loads(out)
    (folder,) = (tmp_path / "runs").iterdir()
    fed, gamma = federation_with(run, tmp_path, shop_folder)
    published = run.json("server", "publish", folder, "--folder", fed)
    card = published["card"]
    assert (published["private"], card["taints"], card["run"]["origin"]) == (True, [], "simulation")
    assert [m["platform"] for m in card["members"]] == ["alpha", "beta"]
    for member in card["members"]:
        spent = result["platforms"][member["platform"]]["privacy"]
        assert member["epsilon_run"] == pytest.approx(spent["epsilon"])
        assert member["epsilon_ledger"] == pytest.approx(spent["epsilon"])
        assert (member["rounds"], member["head"]["seq"]) == (2, 4)
    assert card["evaluation"] is None
    assert set(card["run"]["versions"]) >= {"fedcart", "flwr", "torch"}

    run.json("client", "vocabulary", fed / "vocabulary" / "1.json", "--folder", gamma)
    adopted = run.json("client", "adopt", "--folder", gamma, "--from", fed / "models" / published["version"])
    assert adopted["card"] == card
    model = load_adopted(gamma)
    site = ClientFolder(gamma).site().model_copy(update={"seed": result["seed"]})
    platform = prepare_platform(HashableSite(site), model.encoder_names, model.spec.history_length)
    products = Products.of(site_vocabulary(site), platform.catalogue, model.encoder_names, site.cache)
    others, first_day = others_memory(model.table, products), federation_default(card["shoppers"])
    ranking = evaluate(platform, Recommender(platform, first_day, others), "test", platform.test_users)
    simulated = result["platforms"]["gamma"]["methods"]["federated_private"]["ndcg@10"]
    assert np.mean(ndcg_at(ranking.ranks, 10)) == pytest.approx(simulated, rel=1e-9)

    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.S)
    names: dict = {}
    exec(example.replace('"newtown"', repr(str(gamma))), names)
    assert names["scores"].shape == (len(platform.test_users), len(platform.catalogue))

    shown = read_run(folder, with_evaluation=True)
    assert shown.taints == ["its card shows results on shoppers that were measured without noise"]
    metrics = {r.platform: r.metrics for r in shown.evaluation}
    assert metrics["gamma"]["ndcg@10"] == simulated
