"""A small synthetic federation: three shops that sell different things to different people."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.front_door import FrontDoor

SHOPS = ("alpha", "beta", "gamma")
_KINDS = ("garden", "kitchen", "office", "sport", "music")
_THINGS = ("hose", "pan", "pen", "ball", "string", "lamp", "chair", "glove")


def write_shop(folder: Path, name: str, seed: int, shoppers: int = 40) -> None:
    """Write a shop in which every shopper mostly buys one kind of thing."""
    rng = np.random.default_rng(seed)
    items = pd.DataFrame(
        {
            "sku": [f"{name}-{i}" for i in range(60)],
            "name": [f"{_KINDS[i % 5]} {_THINGS[i % 8]} model {i // 8}" for i in range(60)],
        }
    )
    events = []
    for shopper in range(shoppers):
        kind = shopper % 5
        for when in range(6):
            item = rng.choice(np.arange(kind, 60, 5)) if rng.random() < 0.8 else rng.integers(60)
            events.append((f"{name}-u{shopper}", f"{name}-{item}", 1_600_000_000 + 86_400 * when + shopper))
    folder.mkdir(parents=True, exist_ok=True)
    items.to_csv(folder / f"{name}-items.csv", index=False)
    pd.DataFrame(events, columns=["customer", "sku", "time"]).to_csv(
        folder / f"{name}-events.csv", index=False
    )


def scenario_text(**changes: str) -> str:
    """Return the scenario as TOML; `changes` replaces whole `key = value` lines, or adds to a section."""
    values = {
        "epsilon": "8.0",
        "backend": '"inline"',
        "platform_extra": "",
    }
    values |= changes
    text = f"""
[scenario]
name = "tiny"
seed = 7
[privacy]
epsilon = {values["epsilon"]}
share = 0.5
[federation]
backend = {values["backend"]}
[model]
history_length = 6
neighbours = 5
"""
    for name in SHOPS:
        role = "newcomer" if name == "gamma" else "member"
        text += f"""
[[platform]]
name = "{name}"
role = "{role}"
events = "{name}-events.csv"
items = "{name}-items.csv"
columns = {{ user = "customer", item = "sku", order = "time", title = "name" }}
population_size = 40
{values["platform_extra"] if role == "member" else ""}
"""
    return text


@pytest.fixture(scope="session")
def shop_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shops' files; not to be written to."""
    folder = tmp_path_factory.mktemp("shops")
    for seed, name in enumerate(SHOPS):
        write_shop(folder, name, seed)
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def write_scenario(shop_folder: Path, tmp_path: Path):
    """Return a function that writes a scenario with changes and returns its path."""

    def write(**changes: str) -> Path:
        for file in shop_folder.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        path = tmp_path / "scenario.toml"
        path.write_text(scenario_text(**changes), encoding="utf-8")
        return path

    return write


@pytest.fixture
def simulate(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """Return a function that runs `fedcart simulate` here and returns exit code, output and messages."""
    return FrontDoor(capfd, before=("simulate",))
