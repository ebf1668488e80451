"""Candidates for a shared layer, on made-up shops."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.candidates.__main__ import finished, main
from benchmarks.candidates.judge import OfNetwork, drawn, z_of
from benchmarks.candidates.networks import DomainGates
from benchmarks.candidates.study import CANDIDATES, Size, gated, mixture, plain
from benchmarks.candidates.training import (
    INNER_STEPS,
    Effort,
    batch_loss,
    from_the_front,
    gbce_loss,
    softmax_loss,
    train_to_be_tuned,
    train_together,
)


@pytest.fixture
def shops(platforms):
    return list(platforms.loaded.values())


def test_every_candidate_is_run_and_kept(tmp_path, capsys, shops):
    assert main(["--quick", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["candidates"]) == [candidate.name for candidate in CANDIDATES]
    for cell in found["candidates"].values():
        assert list(cell["platforms"]) == ["alpha", "beta", "gamma", "delta"]
        assert {"alone", "prior", "own layer"} < set(cell["platforms"]["delta"])
        assert set(cell["tuned"]) == {"from the members", "from nothing"}
    size = Size(2, 20, 20, 2, 16)
    first = finished(CANDIDATES[:1], shops, size, 0, tmp_path)
    capsys.readouterr()
    assert finished(CANDIDATES[:1], shops, size, 0, tmp_path) == json.loads(json.dumps(first))
    assert capsys.readouterr().err == "", "nothing was trained again"


def test_unknown_names_are_refused(capsys):
    assert main(["--quick", "--only", "magic"]) == 2
    assert "choose among transformer" in capsys.readouterr().err
    assert main(["--quick", "--member", "delta"]) == 2
    assert "choose among alpha" in capsys.readouterr().err


def test_histories_begin_at_place_0():
    items = np.array([[-1, -1, 5, 6], [1, 2, 3, 4], [-1, -1, -1, -1]])
    assert from_the_front(items).tolist() == [[5, 6, -1, -1], [1, 2, 3, 4], [-1, -1, -1, -1]]


def test_a_state_knows_nothing_of_later_events(shops):
    network = plain(shops).eval()
    history = torch.randn(1, 6, 128)
    later = history.clone()
    later[0, 4:] = torch.randn(2, 128)
    torch.testing.assert_close(network.states(history)[0, :4], network.states(later)[0, :4])
    assert not torch.allclose(network.states(history)[0, 4], network.states(later)[0, 4])


def test_own_items_are_no_negatives(shops):
    network, users = plain(shops).eval(), np.array([0])
    rows = from_the_front(shops[0].recent("train")[0][users])[0]
    own = rows[rows >= 0].numpy()
    others = np.setdiff1d(np.arange(len(shops[0].catalogue)), own)[:10]
    mixed = batch_loss(network, shops[0], users, np.concatenate([own, others]), softmax_loss)
    torch.testing.assert_close(mixed, batch_loss(network, shops[0], users, others, softmax_loss))


def test_losses_are_the_papers():
    rng = np.random.default_rng(0)
    targets, negatives = rng.normal(size=(5, 1)), rng.normal(size=(5, 7))
    every = np.concatenate([targets, negatives], axis=1)
    softmax = np.mean(np.log(np.exp(every).sum(1)) - targets[:, 0])
    sigmoid = 1 / (1 + np.exp(-every))
    share = 7 / (50 - 1)
    power = share * (0.75 * (1 - 1 / share) + 1 / share)
    gbce = -(power * np.log(sigmoid[:, 0]) + np.log(1 - sigmoid[:, 1:]).sum(1)).mean()
    given = torch.from_numpy(targets), torch.from_numpy(negatives), 50
    assert float(softmax_loss(*given)) == pytest.approx(softmax, rel=1e-12)
    assert float(gbce_loss(*given)) == pytest.approx(gbce, rel=1e-12)
    masked = torch.cat([given[1], torch.full((5, 1), -torch.inf, dtype=torch.float64)], dim=1)
    assert float(softmax_loss(given[0], masked, 50)) == pytest.approx(softmax, rel=1e-12)


def test_a_domain_that_never_trained_gets_the_mean_gate():
    gates = DomainGates(["a", "b"])
    with torch.no_grad():
        gates._gates["a"] += 1.0
        gates._gates["b"] += 3.0
    items = torch.randn(2, 128)
    torch.testing.assert_close(gates(items, "c"), items * 3.0)
    torch.testing.assert_close(gates(items, "b"), items * 4.0)


@pytest.mark.parametrize("make", [plain, mixture, gated])
def test_training_learns_what_shoppers_buy_together(shops, make):
    """Shoppers of the made-up shops buy one kind of thing, which the text names."""
    torch.manual_seed(0)
    network, users = make(shops), np.arange(80)
    everything = np.arange(len(shops[0].catalogue))

    @torch.no_grad()
    def loss():
        return float(batch_loss(network.eval(), shops[0], users, everything, softmax_loss))

    before = loss()
    assert before == pytest.approx(np.log(len(everything)), abs=0.1), "nothing is known yet"
    train_together(network, shops[:3], softmax_loss, Effort(60, 64, 64), 0, print)
    assert loss() < before - 0.1


def test_a_round_of_meta_learning_goes_half_the_way(shops):
    torch.manual_seed(0)
    network = plain(shops)
    start, inner = copy.deepcopy(network), copy.deepcopy(network)
    train_together(inner, shops[:1], softmax_loss, Effort(INNER_STEPS, 16, 16), 0, print)
    train_to_be_tuned(network, shops[:1], softmax_loss, Effort(INNER_STEPS, 16, 16), 0, print)
    for at, old, new in zip(network.parameters(), start.parameters(), inner.parameters(), strict=True):
        torch.testing.assert_close(at, (old + new) / 2, rtol=1e-4, atol=1e-6)


def test_nothing_of_the_test_is_looked_at(shops):
    """Another last item of everybody changes no score and no judged shopper."""
    platform = shops[0]
    split = platform.split
    items = split.sequences.items.copy()
    items[split.valid_end] = (items[split.valid_end] + 1) % len(platform.catalogue)
    moved = replace(
        split, sequences=replace(split.sequences, items=items), test_target=items[split.valid_end]
    )
    other = replace(platform, split=moved)
    network, users = plain(shops), drawn(platform, 30)
    np.testing.assert_array_equal(users, drawn(other, 30))
    with torch.no_grad():
        scores = [OfNetwork(network, each).scores("valid", users) for each in (shops[0], other)]
    torch.testing.assert_close(scores[0], scores[1])


def test_z_is_the_mean_over_its_error():
    assert z_of(np.array([1.0, 3.0])) == pytest.approx(2.0 / (1.0 / np.sqrt(2)))
    assert z_of(np.zeros(4)) == 0.0
