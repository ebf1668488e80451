"""Robust strategies withstand what they claim, and are refused where they would withstand nobody."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict

from server.robust import aggregate, require_tolerance, tolerance
from server.rounds import run_rounds
from server.strategies import WEIGHT_KEY, make_strategy
from shared_model.errors import BadInputError

KRUM = {"num_malicious_nodes": 1}


def replies(kit, updates):
    request = Message(RecordDict({}), dst_node_id=1, message_type="train")
    made = []
    for update in updates:
        content = {"arrays": ArrayRecord({"w": Array(update)}), "metrics": MetricRecord({WEIGHT_KEY: 1.0})}
        made.append(Message(RecordDict(content), reply_to=request))
    return made


@pytest.mark.parametrize(
    ("name", "options", "count", "hostile"),
    [
        ("FedMedian", {}, 3, 1),
        ("FedMedian", {}, 6, 2),
        ("FedTrimmedAvg", {"beta": 0.2}, 5, 1),
        ("FedTrimmedAvg", {"beta": 0.4}, 5, 2),
        ("Krum", KRUM, 5, 1),
        ("MultiKrum", {"num_malicious_nodes": 2, "num_nodes_to_select": 5}, 7, 2),
    ],
)
def test_what_is_claimed_is_withstood(kit, name, options, count, hostile):
    """Whatever the hostile replies hold, alike or not, the result is among the honest ones."""
    strategy = make_strategy(name, options)
    assert tolerance(strategy, count) == hostile
    rng, start = np.random.default_rng(1), {"w": np.zeros(8, np.float32)}
    honest = [rng.uniform(0.9, 1.1, 8).astype(np.float32) for _ in range(count - hostile)]
    low, high = np.min(honest, axis=0), np.max(honest, axis=0)
    for lie in (-1.0, 1e6, -1e30):
        lies = [np.full(8, lie, np.float32)] * hostile
        result = aggregate(strategy, 1, replies(kit, [*lies, *honest]), start)["w"]
        assert result.dtype == np.float32
        assert (low - 1e-5 <= result).all()
        assert (result <= high + 1e-5).all()


def test_krum_sees_small_updates_beside_a_large_model(kit):
    """Flower's distances of float32 models would be noise here."""
    rng = np.random.default_rng(2)
    start = {"w": np.full(2000, 100.0, np.float32)}
    honest = [(start["w"] + 1e-3 + 1e-4 * rng.standard_normal(2000)).astype(np.float32) for _ in range(4)]
    liar = (start["w"] - np.float32(4e-3)).astype(np.float32)
    strategy = make_strategy("Krum", KRUM)
    for place in range(5):
        updates = [*honest[:place], liar, *honest[place:]]
        assert (aggregate(strategy, 1, replies(kit, updates), start)["w"] > start["w"]).mean() > 0.9


@pytest.mark.parametrize(
    ("name", "options", "needed", "said"),
    [
        ("FedMedian", {}, 2, "it needs 3 or more"),
        ("FedTrimmedAvg", {"beta": 0.2}, 4, "beta times replies"),
        ("FedTrimmedAvg", {"beta": 0.0}, 9, "beta times replies"),
        ("Krum", {}, 9, "num_malicious_nodes = f"),
        ("Krum", KRUM, 4, "2·f + 3"),
        ("Krum", {"num_malicious_nodes": 1.0}, 9, "a whole number"),
        ("MultiKrum", KRUM | {"num_nodes_to_select": 5}, 5, "num_nodes_to_select"),
        ("MultiKrum", KRUM | {"num_nodes_to_select": 0}, 5, "num_nodes_to_select"),
    ],
)
def test_a_strategy_that_withstands_nobody_is_refused_before_anybody_is_asked(
    kit, tmp_path, name, options, needed, said
):
    settings = kit.settings(strategy=name, strategy_options=options, min_replies=needed)
    grid = kit.grid(4, kit.honest)
    with pytest.raises(BadInputError, match="withstands no hostile member") as refusal:
        run_rounds(grid, settings, tmp_path, lambda *_: None)
    assert said in str(refusal.value)
    assert grid.asked == []


@pytest.mark.parametrize("name", ["FedAvg", "FedAdam", "FedProx"])
def test_an_average_claims_nothing(name):
    require_tolerance(make_strategy(name, {"proximal_mu": 0.1} if name == "FedProx" else {}), 1)


def test_options_that_flower_refuses_are_bad_input():
    with pytest.raises(BadInputError, match=r"FedTrimmedAvg refuses them: .*beta"):
        make_strategy("FedTrimmedAvg", {"beta": 0.5})
