"""Bad input of a simulation: a message that names place, value and fix, the documented exit code, nothing lost."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fedcart
from server.checkpoint import NAME
from shared_model import device
from shared_model.features import ENCODERS


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[scenario]", "[scenari]", "did you mean 'scenario'?"),
        ("share", "shar", "did you mean 'share'?"),
        ("epsilon = 8.0", "epsilon = 0", "privacy.epsilon = 0: must be a finite number above 0"),
        ("epsilon = 8.0", "epsilon = -1.0", "privacy.epsilon = -1.0: must be a finite number above 0"),
        ("epsilon = 8.0", "epsilon = nan", "privacy.epsilon = nan: must be a finite number above 0"),
        ("epsilon = 8.0", "epsilon = inf", "privacy.epsilon = inf: must be a finite number above 0"),
        ("epsilon = 8.0", "epsilon = true", "must be a finite number above 0"),
        ("epsilon = 8.0", 'epsilon = "8"', "must be a finite number above 0"),
        ("epsilon = 8.0", "epsilon = 8.0\ndelta = 1.5", "privacy.delta = 1.5"),
        ("share = 0.5", "share = 1.3", "privacy.share = 1.3"),
        ("share = 0.5", "share = nan", "privacy.share = nan"),
        ("neighbours = 5", "neighbours = -1", "model.neighbours = -1"),
        ("neighbours = 5", 'neighbours = "many"', "model.neighbours = 'many'"),
        ('name = "beta"', 'name = "alpha"', "'alpha' is used twice"),
        ('name = "beta"', 'name = "../beta"', "platform.1.name = '../beta'"),
        (
            "neighbours = 5",
            'neighbours = 5\nencoders = ["bert"]',
            "'bert' is unknown; choose from ['brand', 'category', 'hashed-words', 'minilm'",
        ),
        ("neighbours = 5", "neighbours = 5\nencoders = []", "model.encoders"),
        (
            "[model]",
            '[compute]\ndevice = "gpu"\n[model]',
            "compute.device = 'gpu': Input should be 'auto', 'cpu', 'cuda'",
        ),
        (
            "[model]",
            '[compute]\ndevice = "cuda"\n[model]',
            'compute.device = "cuda": there is no such device here; available: cpu',
        ),
        (
            "[model]",
            '[compute]\nscoring = "float16"\n[model]',
            "compute.scoring = 'float16': Input should be 'float32' or",
        ),
        ("[model]", "[model", "cannot be read as TOML"),
    ],
)
def test_scenario_that_cannot_be_used(write_scenario, simulate, tmp_path, monkeypatch, old, new, message):
    monkeypatch.setattr(device, "available_devices", lambda: ("cpu",))
    scenario = write_scenario()
    change(scenario, old, new)
    code, out, err = simulate("--scenario", scenario, "--out", tmp_path / "runs")
    assert code == 2, err
    assert message in err
    assert "Traceback" not in err
    assert out == ""
    assert not (tmp_path / "runs").exists(), "nothing half-made"


@pytest.mark.parametrize("value", ["0", "-2", "nan", "inf", "much"])
def test_epsilon_on_the_command_line(write_scenario, simulate, tmp_path, value):
    code, _, err = simulate("--scenario", write_scenario(), f"--epsilon={value}", "--out", tmp_path / "runs")
    assert code == 2
    assert "privacy.epsilon" in err
    assert 'or "none"' in err


def test_no_such_scenario(simulate, tmp_path):
    code, _, err = simulate("--scenario", tmp_path / "nowhere.toml")
    assert code == 2
    assert "there is no such scenario file" in err


def test_unknown_option_and_command(capfd):
    assert fedcart.run(["simulate", "--epsilo", "3"]) == 2
    assert fedcart.run(["simulat"]) == 2
    assert "Traceback" not in capfd.readouterr().err


def test_unknown_column_names_the_columns_that_exist(write_scenario, simulate, tmp_path):
    scenario = write_scenario()
    change(scenario, 'user = "customer"', 'user = "custmer"')
    code, _, err = simulate("--scenario", scenario, "--out", tmp_path / "runs")
    assert code == 2
    assert "alpha-events.csv" in err
    assert "custmer" in err
    assert "customer" in err


def test_an_empty_file_is_named(write_scenario, simulate, tmp_path):
    scenario = write_scenario()
    (tmp_path / "beta-events.csv").write_text("")
    code, _, err = simulate("--scenario", scenario, "--out", tmp_path / "runs")
    assert code == 2
    assert "beta-events.csv" in err


def test_a_column_of_the_wrong_kind_is_named(write_scenario, simulate, tmp_path):
    scenario = write_scenario()
    frame = pd.read_csv(tmp_path / "beta-events.csv")
    frame["time"] = "long ago"
    frame.to_csv(tmp_path / "beta-events.csv", index=False)
    code, _, err = simulate("--scenario", scenario, "--out", tmp_path / "runs")
    assert code == 2
    assert "beta-events.csv" in err
    assert "time" in err


def test_a_missing_encoder_package_names_the_extra(write_scenario, simulate, tmp_path, monkeypatch):
    from shared_model.errors import EncoderError

    def missing() -> None:
        raise EncoderError(
            "The encoder 'minilm' needs the package 'onnxruntime'. Install it: pip install 'x[minilm]'."
        )

    monkeypatch.setitem(ENCODERS, "minilm", missing)
    monkeypatch.setattr("shared_model.features._encoder", lambda name: ENCODERS[name]())
    scenario = write_scenario()
    change(scenario, "neighbours = 5", 'neighbours = 5\nencoders = ["minilm"]')
    code, _, err = simulate("--scenario", scenario, "--out", tmp_path / "runs")
    assert code == 2
    assert "Install it" in err


def test_resume_of_something_else(simulate, tmp_path):
    code, _, err = simulate("--resume", tmp_path)
    assert code == 2
    assert "is not the folder of a run" in err


def test_resume_takes_no_other_settings(write_scenario, simulate, tmp_path):
    code, _, err = simulate("--resume", tmp_path, "--epsilon", "5")
    assert code == 2
    assert "takes no other settings" in err


@pytest.fixture
def started(write_scenario, simulate, tmp_path) -> Path:
    """A run that is prepared, with one round done by hand as the federation would."""
    simulate("--scenario", write_scenario(), "--out", tmp_path / "runs", "--prepare")
    (run,) = (tmp_path / "runs").iterdir()
    return run


def test_a_corrupt_ledger_is_refused_and_kept(started, simulate):
    ledger = started / "ledgers" / "alpha.sqlite"
    data = bytearray(ledger.read_bytes())
    data[len(data) // 2 :] = b"\xff" * (len(data) - len(data) // 2)
    ledger.write_bytes(data)
    code, _, err = simulate("--resume", started)
    assert code in {3, 4}, err
    assert "alpha" in err
    assert "Traceback" not in err
    assert ledger.read_bytes() == data, "a damaged ledger is evidence: it is not touched"


def test_a_ledger_that_vanished_with_spend_on_it_is_not_made_anew(write_scenario, simulate, tmp_path):
    simulate("--scenario", write_scenario(), "--out", tmp_path / "runs")
    (run,) = (tmp_path / "runs").iterdir()
    (run / "ledgers" / "alpha.sqlite").unlink()
    (run / "result.json").unlink()
    code, _, err = simulate("--resume", run)
    assert code == 4, err
    assert "alpha.sqlite" in err
    assert not (run / "ledgers" / "alpha.sqlite").exists()


def test_a_corrupt_checkpoint_is_refused(started, simulate):
    (started / NAME).write_bytes(b"fedcart checkpoint 1\n" + bytes(100))
    code, _, err = simulate("--resume", started)
    assert code == 4
    assert NAME in err
    assert "the ledgers keep what was spent" in err


def test_ctrl_c_says_how_to_go_on_and_loses_nothing(write_scenario, simulate, tmp_path, monkeypatch):
    import server.rounds

    save = server.rounds.save_checkpoint

    def interrupt(folder: Path, checkpoint: object) -> None:
        save(folder, checkpoint)
        if checkpoint.round == 1:
            raise KeyboardInterrupt

    scenario = write_scenario()
    whole = simulate("--scenario", scenario, "--out", tmp_path / "whole", "--format", "json")
    monkeypatch.setattr(server.rounds, "save_checkpoint", interrupt)
    code, _, err = simulate("--scenario", scenario, "--out", tmp_path / "runs")
    assert code == 130
    resume = re.search(r"fedcart simulate --resume (\S+)", err).group(1)
    monkeypatch.undo()
    code, out, err = simulate("--resume", resume, "--format", "json")
    assert code == 0, err
    assert "resumed after round 1 of 2" in err
    one, other = json.loads(whole[1])["platforms"], json.loads(out)["platforms"]
    assert one == other
    assert np.isfinite(one["alpha"]["privacy"]["epsilon"])
