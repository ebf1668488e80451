"""The scenarios that the documents show are accepted as they stand."""

import re
import tomllib
from pathlib import Path

import pytest

from simulations.scenario import parse_scenario

PROJECT = Path(__file__).parents[2]
BLOCKS = [
    (page, number, block)
    for page in ("README.md", "docs/simulation.md")
    for number, block in enumerate(
        re.findall(r"```toml\n(.*?)```", (PROJECT / page).read_text("utf-8"), re.S)
    )
]


@pytest.mark.parametrize(
    ("page", "block"), [(p, b) for p, _, b in BLOCKS], ids=[f"{p}-{n}" for p, n, _ in BLOCKS]
)
def test_a_documented_scenario_is_valid(page, block):
    assert parse_scenario(tomllib.loads(block), page).members


def test_every_key_of_a_scenario_is_documented():
    from simulations.scenario import Scenario

    text = (PROJECT / "docs" / "simulation.md").read_text("utf-8")
    for section, field in Scenario.model_fields.items():
        nested = field.annotation if section != "platform" else field.annotation.__args__[0]
        model = getattr(nested, "__args__", (nested,))[0] if not hasattr(nested, "model_fields") else nested
        for key in model.model_fields:
            assert f".{key}`" in text, f"{section}.{key} is missing in docs/simulation.md"
