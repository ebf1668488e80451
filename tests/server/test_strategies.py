"""Every offered strategy averages what it should, and goes on after a restart as if there had been none."""

import copy

import numpy as np
import pytest

from server.checkpoint import load_checkpoint
from server.rounds import run_rounds
from server.strategies import STRATEGIES, make_strategy, restore_strategy, strategy_state
from shared_model.errors import BadInputError
from shared_model.instructions import TrainInstructions
from shared_model.model import initial_shared

OPTIONS = {
    "FedAvgM": {"server_momentum": 0.9, "server_learning_rate": 0.7},
    "FedProx": {"proximal_mu": 0.1},
    "FedAdam": {"eta": 0.05, "beta_1": 0.8},
    "FedYogi": {"eta": 0.05},
    "FedAdagrad": {"eta": 0.05},
    "FedTrimmedAvg": {"beta": 0.25},
    "Krum": {"num_malicious_nodes": 1},
    "MultiKrum": {"num_malicious_nodes": 1, "num_nodes_to_select": 2},
}


def quiet(*_):
    return None


class StopError(Exception):
    """Stands for kill -9 between two rounds."""


def run(kit, folder, name, *, rounds=4, stop_before=None, answer=None):
    """Run a federation of this strategy; return the model, or leave a checkpoint if stopped."""
    settings = kit.settings(
        kit.five,
        strategy=name,
        strategy_options=OPTIONS.get(name, {}),
        min_replies=5,
        instructions={"rounds": rounds},
    )

    def stopping(message, node):
        if message.content.config_records["config"]["round"] == stop_before:
            raise StopError
        return (answer or kit.honest)(message, node)

    grid = kit.grid(5, stopping)
    folder.mkdir(exist_ok=True)
    return run_rounds(grid, settings, folder, quiet).arrays, grid


@pytest.mark.parametrize("name", sorted(STRATEGIES))
@pytest.mark.parametrize("stop", [2, 4])
def test_resumed_equals_uninterrupted_bit_for_bit(kit, name, stop, tmp_path):
    whole, _ = run(kit, tmp_path / "whole", name)
    with pytest.raises(StopError):
        run(kit, tmp_path / "cut", name, stop_before=stop)
    assert load_checkpoint(tmp_path / "cut").round == stop - 1
    resumed, grid = run(kit, tmp_path / "cut", name)
    assert len(grid.asked) == 4 - stop + 1
    for tensor, array in whole.items():
        np.testing.assert_array_equal(resumed[tensor], array)
        assert array.dtype == np.float32


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_all_that_a_strategy_carries_over_is_in_its_state(kit, name, tmp_path):
    """Every array among its attributes after two rounds is saved, or is set anew by the next round."""
    made = []

    def keep(*arguments):
        made.append(make_strategy(*arguments))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("server.rounds.make_strategy", keep)
        run(kit, tmp_path / "run", name, rounds=2)
    (strategy,) = made
    fresh = vars(make_strategy(name, OPTIONS.get(name, {})))
    changed = {k for k, v in vars(strategy).items() if k not in fresh or not same(v, fresh[k])}
    saved = {key.split("/")[0] for key in strategy_state(strategy)}
    assert changed - saved <= {"current_arrays"}
    other = make_strategy(name, OPTIONS.get(name, {}))
    restore_strategy(other, copy.deepcopy(strategy_state(strategy)))
    for key, array in strategy_state(strategy).items():
        np.testing.assert_array_equal(strategy_state(other)[key], array)
    if name in ("FedAvgM", "FedAdam", "FedYogi", "FedAdagrad"):
        assert saved


def same(a, b):
    return a is b or (not callable(a) and type(a) is type(b) and not isinstance(a, dict | list) and a == b)


def two_rounds(kit, average):
    """Return the model after two rounds of a plain numpy federation."""
    settings = kit.settings(kit.five, instructions={"rounds": 2})
    ask = settings.instructions
    arrays = ask.spec.exchange.to_numpy(initial_shared(ask.spec), "start")
    for number in (1, 2):
        replies = [
            kit.update(ask.model_copy(update={"round": number}), arrays, node) for node in (1, 2, 3, 4, 5)
        ]
        weights = [settings.weights[name] for name in kit.five]
        arrays = {name: average(arrays[name], [reply[name] for reply in replies], weights) for name in arrays}
    return arrays


def weighted(_, replies, weights):
    return np.average(np.stack(replies), axis=0, weights=weights).astype(np.float32)


REFERENCES = {
    "FedAvg": weighted,
    "FedProx": weighted,
    "FedMedian": lambda _, replies, __: np.median(np.stack(replies), axis=0).astype(np.float32),
    "FedTrimmedAvg": lambda _, replies, __: np.sort(np.stack(replies), 0)[1:4].mean(0).astype(np.float32),
}


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_averages_are_those_of_the_definition(kit, name, tmp_path):
    got, _ = run(kit, tmp_path / "run", name, rounds=2)
    for tensor, expected in two_rounds(kit, REFERENCES[name]).items():
        np.testing.assert_allclose(got[tensor], expected, atol=1e-6)


def test_momentum_pairs_each_tensor_with_itself(kit, tmp_path):
    """Tensors of one shape could be swapped in silence if old and new came in different orders."""
    momentum = {}
    settings = kit.settings(kit.five, instructions={"rounds": 3})
    ask = settings.instructions
    arrays = ask.spec.exchange.to_numpy(initial_shared(ask.spec), "start")
    for number in (1, 2, 3):
        replies = [
            kit.update(ask.model_copy(update={"round": number}), arrays, node) for node in (1, 2, 3, 4, 5)
        ]
        weights = [settings.weights[name] for name in kit.five]
        for name in arrays:
            gradient = arrays[name] - weighted(None, [reply[name] for reply in replies], weights)
            momentum[name] = 0.9 * momentum.get(name, 0.0) + gradient
        arrays = {name: arrays[name] - 0.7 * momentum[name] for name in arrays}
    got, _ = run(kit, tmp_path / "run", "FedAvgM", rounds=3)
    for name, expected in arrays.items():
        np.testing.assert_allclose(got[name], expected, atol=1e-5)


@pytest.mark.parametrize(("name", "mu"), [("FedProx", 0.1), ("FedAvg", 0.0), ("FedAdam", 0.0)])
def test_fedprox_s_mu_reaches_every_client_and_no_one_else_s(kit, name, mu, tmp_path):
    _, grid = run(kit, tmp_path / "run", name)
    for number, asked in enumerate(grid.asked, 1):
        assert len(asked) == 5
        for config in asked:
            ask = TrainInstructions.from_mapping(config)  # and no key is left that a client would refuse
            assert (ask.proximal, ask.round) == (mu, number)


def test_an_unknown_strategy_is_answered_with_those_there_are():
    with pytest.raises(BadInputError) as refusal:
        make_strategy("FedBest", {})
    for name in ("'FedBest'", *STRATEGIES):
        assert name in str(refusal.value)
    assert "DifferentialPrivacyClientSideFixedClipping" not in STRATEGIES


@pytest.mark.parametrize(
    ("name", "option", "known"),
    [
        ("FedProx", "mu", "proximal_mu"),
        ("FedAvg", "eta", "none"),
        ("FedAdam", "weighted_by_key", "beta_1"),
        ("FedAvg", "fraction_train", "none"),
        ("Krum", "train_metrics_aggr_fn", "num_malicious_nodes"),
    ],
)
def test_an_unknown_option_is_answered_with_those_there_are(name, option, known):
    with pytest.raises(BadInputError) as refusal:
        make_strategy(name, {option: 1})
    assert f"{name} has no option {option}" in str(refusal.value)
    assert known in str(refusal.value)


@pytest.mark.parametrize(("name", "options"), OPTIONS.items())
def test_options_arrive(name, options):
    strategy = make_strategy(name, options)
    for option, value in options.items():
        assert getattr(strategy, option) == value
