"""Whole simulations of a small federation, through the command line in this process."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from privacy.accounting import epsilon
from privacy.events import Gaussian
from privacy.ledger import Ledger

AT_RANKS = {
    f"{name}@{k}" for name in ("recall", "precision", "f1", "ndcg", "mrr", "map") for k in (10, 20, 50)
}
IN_UNIT_RANGE = AT_RANKS | {"mrr", "serendipity@10", "coverage@10", "gini@10"}
TOTALS = {"coverage@10", "gini@10", "popularity_lift@10"}


def run_of(folder: Path) -> Path:
    (run,) = folder.iterdir()
    return run


def numbers(result: dict) -> dict:
    return {key: result[key] for key in ("platforms", "data_fingerprint", "seed")}


def test_a_private_run_writes_all_that_it_promises(write_scenario, simulate, tmp_path):
    code, out, err = simulate("--scenario", write_scenario(), "--out", tmp_path / "runs", "--format", "json")
    assert code == 0, err
    result = json.loads(out)
    run = run_of(tmp_path / "runs")
    assert json.loads((run / "result.json").read_text()) == result
    assert set(result["platforms"]) == {"alpha", "beta", "gamma"}
    for name, platform in result["platforms"].items():
        member = name != "gamma"
        assert platform["role"] == ("member" if member else "newcomer")
        expected = {"popularity", "prior", "own", "federated", "federated_private"}
        assert set(platform["methods"]) == expected | (set() if member else {"adopted"})
        for values in platform["methods"].values():
            for metric in IN_UNIT_RANGE:
                assert 0 <= values[metric] <= 1
            assert 0 <= values["diversity@10"] <= 2
            assert 0 <= values["novelty@10"] <= math.log2(40)
            assert values["popularity_lift@10"] >= -1
            assert set(values["intervals"]) == (IN_UNIT_RANGE | {"diversity@10", "novelty@10"}) - TOTALS
            for metric, (low, high) in values["intervals"].items():
                assert low <= values[metric] <= high
        if member:
            spent = platform["privacy"]
            events = [Gaussian(spent["noise_multiplier"] / share**0.5) for share in (0.5, 0.5)]
            assert spent["epsilon"] == pytest.approx(epsilon(events, spent["delta"]), rel=1e-6)
            assert 7.9 < spent["epsilon"] <= 8.0
            ledger = Ledger.open(run / "ledgers" / f"{name}.sqlite", population=name)
            assert ledger.verify().ok
            assert ledger.budget().committed == pytest.approx(spent["epsilon"])
            assert ledger.budget().reserved == spent["epsilon_reserved"] == spent["epsilon_before"] == 0
            assert spent["epsilon_left"] == pytest.approx(8.0 - spent["epsilon"])
        else:
            assert platform["privacy"] is None
            assert not (run / "ledgers" / f"{name}.sqlite").exists()
    tensors = load_file(run / "model.safetensors")
    assert set(tensors) == {"popularity", "edges", "temper", "totals"}
    size = result["model"]
    assert (size["products"], size["edges"]) == (len(tensors["popularity"]), len(tensors["edges"]))
    assert size["shared_numbers"] == size["products"] + size["edges"]
    noise = [(2 * spent["noise_multiplier"] ** 2 / share) for share in (0.5, 0.5)]
    np.testing.assert_allclose(tensors["totals"], [*noise, 1.0], rtol=1e-5)
    card = (run / "model_card.md").read_text()
    assert "Do not release this model as private" in card
    assert "computed again from the seed" in card
    events = [json.loads(line)["event"] for line in (run / "events.jsonl").read_text().splitlines()]
    assert events == ["started", *["asked", "answered", "round"] * 2, "finished", "evaluated"]


def test_progress_goes_to_stderr_with_budgets_before_and_after_and_rounds_during(
    write_scenario, simulate, tmp_path
):
    code, out, err = simulate("--scenario", write_scenario(), "--out", tmp_path / "runs")
    assert code == 0
    lines = [line.strip() for line in err.splitlines()]
    before = [lines.index(f"budget: {name} goes from ε 0.00 to 8.00 of 8.00") for name in ("alpha", "beta")]
    after = [
        lines.index(f"budget: {name} went from ε 0.00 to 8.00 of 8.00, 0.00 left")
        for name in ("alpha", "beta")
    ]
    rounds = [n for n, line in enumerate(lines) if "round   2/2  2 replies" in line]
    assert max(before) < rounds[0] < min(after)
    (row,) = [line for line in out.splitlines() if line.split()[1:2] == ["alpha"] and "1e-06" in line]
    cells = [cell.strip() for cell in row.strip("│ ").split("│")]
    spent = json.loads((run_of(tmp_path / "runs") / "result.json").read_text())["platforms"]["alpha"][
        "privacy"
    ]
    assert cells[:5] == ["alpha", "0.000", f"{spent['epsilon']:.3f}", "8", f"{spent['epsilon_left']:.3f}"]
    assert "with the federation, private" in out
    assert "round " not in out


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(write_scenario, simulate, tmp_path):
    scenario = write_scenario()
    first, second, _ = (
        json.loads(
            simulate("--scenario", scenario, "--seed", s, "--out", tmp_path / str(n), "--format", "json")[1]
        )
        for n, s in enumerate((3, 3, 4))
    )
    assert numbers(first) == numbers(second)
    models = [load_file(run_of(tmp_path / str(n)) / "model.safetensors") for n in range(3)]
    for name, tensor in models[0].items():
        np.testing.assert_array_equal(tensor, models[1][name])
    assert any((tensor != models[2][name]).any() for name, tensor in models[0].items())


def test_secure_noise_differs_every_time_and_is_private(write_scenario, simulate, tmp_path):
    scenario = write_scenario()
    results = [
        json.loads(
            simulate(
                "--scenario", scenario, "--secure-noise", "--out", tmp_path / str(n), "--format", "json"
            )[1]
        )
        for n in range(2)
    ]
    models = [load_file(run_of(tmp_path / str(n)) / "model.safetensors") for n in range(2)]
    assert all((models[0][name] != models[1][name]).any() for name in ("popularity", "edges"))
    assert results[0]["private"] is True
    assert results[0]["taints"] == []
    assert "Do not release" not in (run_of(tmp_path / "0") / "model_card.md").read_text()


def test_a_run_without_privacy_says_so_and_has_no_ledger(write_scenario, simulate, tmp_path):
    code, out, _ = simulate(
        "--scenario", write_scenario(), "--epsilon", "none", "--out", tmp_path / "runs", "--format", "json"
    )
    assert code == 0
    result = json.loads(out)
    assert result["private"] is False
    assert "without differential privacy" in result["taints"][0]
    methods = result["platforms"]["alpha"]["methods"]
    assert "federated" in methods
    assert "federated_private" not in methods
    assert not (run_of(tmp_path / "runs") / "ledgers").exists()


def test_a_population_size_that_was_not_declared_taints_the_run(write_scenario, simulate, tmp_path):
    path = write_scenario()
    path.write_text(path.read_text().replace("population_size = 40\n", ""))
    _, out, _ = simulate("--scenario", path, "--secure-noise", "--out", tmp_path / "runs", "--format", "json")
    result = json.loads(out)
    assert result["private"] is False
    assert "alpha, beta was rounded from the data" in result["taints"][0]


def test_a_lasting_ledger_carries_over_to_the_next_run_and_refuses_what_passes_its_cap(
    write_scenario, simulate, tmp_path
):
    scenario = write_scenario(
        epsilon="3.0",
        platform_extra='epsilon_cap = 4.5\nledger = "lasting-{name}.sqlite"'.replace("-{name}", ""),
    )
    text = scenario.read_text()
    for name in ("alpha", "beta"):
        text = text.replace('ledger = "lasting.sqlite"', f'ledger = "lasting-{name}.sqlite"', 1)
    scenario.write_text(text)
    code, out, _ = simulate("--scenario", scenario, "--out", tmp_path / "one", "--format", "json")
    assert code == 0
    first = json.loads(out)["platforms"]["alpha"]["privacy"]["epsilon"]
    code, out, err = simulate("--scenario", scenario, "--out", tmp_path / "two", "--format", "json")
    assert code == 0
    spent = json.loads(out)["platforms"]["alpha"]["privacy"]
    second = spent["epsilon"]
    assert spent["epsilon_before"] == pytest.approx(first, rel=1e-6)
    assert spent["epsilon_left"] == pytest.approx(4.5 - second)
    assert f"budget: alpha goes from ε {first:.2f} to {second:.2f} of 4.50\n" in err
    assert f"budget: alpha went from ε {first:.2f} to {second:.2f} of 4.50, {4.5 - second:.2f} left\n" in err
    assert first < second < 2 * first, "the second run composes with the first"
    code, _, err = simulate("--scenario", scenario, "--out", tmp_path / "three")
    assert code == 5
    assert "alpha: from" in err
    assert "beta: from" in err
    assert "Nothing was trained" in err
    after = Ledger.open(tmp_path / "lasting-alpha.sqlite", population="alpha").budget().committed
    assert after == pytest.approx(second)
    lower = scenario.read_text().replace("epsilon_cap = 4.5", "epsilon_cap = 1.0")
    scenario.write_text(lower)
    code, _, err = simulate("--scenario", scenario, "--epsilon", "0.1", "--out", tmp_path / "four")
    assert code == 5
    assert "of 1.000" in err


def test_a_finished_run_is_shown_again_and_trains_nothing(write_scenario, simulate, tmp_path):
    _, out, _ = simulate("--scenario", write_scenario(), "--out", tmp_path / "runs", "--format", "json")
    run = run_of(tmp_path / "runs")
    before = (run / "events.jsonl").read_bytes()
    code, again, _ = simulate("--resume", run, "--format", "json")
    assert code == 0
    assert json.loads(again) == json.loads(out)
    assert (run / "events.jsonl").read_bytes() == before


def test_a_member_that_fails_is_reported_and_the_others_go_on(write_scenario, simulate, tmp_path):
    code, _, _ = simulate("--scenario", write_scenario(), "--out", tmp_path / "runs", "--prepare")
    assert code == 0
    run = run_of(tmp_path / "runs")
    (run / "ledgers" / "beta.sqlite").write_bytes(b"not a database")
    site = next((run / "sites").glob("*beta.toml"))
    assert site.exists()
    from simulations.folder import open_run
    from simulations.run import federate, load

    folder, scenario = open_run(run)
    with pytest.raises(Exception, match=r"beta\.sqlite"):
        load(folder, scenario, lambda _: None)
    (run / "ledgers" / "beta.sqlite").unlink()
    (run / "ledgers" / "beta.sqlite.key").unlink(missing_ok=True)
    simulation = load(folder, scenario, lambda _: None)
    (run / "ledgers" / "beta.sqlite").write_bytes(b"not a database")
    federate(simulation, run, simulation.sites, simulation.settings)
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    failed = [e for e in events if e["event"] == "client-failed"]
    assert [(e["round"], e["platform"], e["reason"]) for e in failed] == [
        (n, "beta", "ledger.unreadable") for n in (1, 2)
    ]
    assert (run / "model.safetensors").exists()


def test_a_run_in_which_nobody_answers_well_fails(write_scenario, simulate, tmp_path):
    simulate("--scenario", write_scenario(), "--out", tmp_path / "runs", "--prepare")
    run = run_of(tmp_path / "runs")
    for name in ("alpha", "beta"):
        ledger = Ledger.open(run / "ledgers" / f"{name}.sqlite", population=name)
        ledger.change_cap(0.5, "test")
    code, _, err = simulate("--resume", run)
    assert code == 5
    assert "more than these ledgers allow" in err
    assert not (run / "model.safetensors").exists()
    from shared_model.errors import RunFailedError
    from simulations.folder import open_run
    from simulations.run import federate, load

    simulation = load(*open_run(run), lambda _: None)
    with pytest.raises(RunFailedError, match=r"alpha: budget\.refused"):
        federate(simulation, run, simulation.sites, simulation.settings)


def test_a_run_that_fails_says_what_it_has_spent(write_scenario, simulate, tmp_path, monkeypatch):
    import simulations.run as module
    from shared_model.errors import RunFailedError

    server = module.run_server

    def failing(*arguments):
        server(*arguments)
        raise RunFailedError("the disk is full")

    monkeypatch.setattr(module, "run_server", failing)
    code, _, err = simulate("--scenario", write_scenario(), "--out", tmp_path / "runs")
    assert code == 1
    assert err.rstrip().endswith("the disk is full")
    ledger = Ledger.open(run_of(tmp_path / "runs") / "ledgers" / "alpha.sqlite", population="alpha").budget()
    assert ledger.committed > 7
    assert f"budget: alpha went from ε 0.00 to {ledger.committed:.2f} of 8.00, {ledger.left:.2f} left" in err


def test_a_k_core_taints_the_run(write_scenario, simulate, tmp_path):
    path = write_scenario()
    path.write_text(path.read_text() + "\n[task]\nresearch_k_core = 2\n")
    _, out, _ = simulate("--scenario", path, "--out", tmp_path / "runs", "--format", "json")
    result = json.loads(out)
    assert result["private"] is False
    assert any("k-core" in taint for taint in result["taints"])
