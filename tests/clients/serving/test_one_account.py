"""One account that repeats a pair of products decides nobody else's list."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clients.recommender import LocalLayer
from clients.serving.asks import RecommendAsk, Who
from clients.serving.engine import recommend
from clients.serving.load import Model, make_snapshot
from tests.clients.serving.conftest import platform_from, site_of

CASE = Path(os.environ.get("FEDCART_CASES") or Path(__file__).parents[4] / "shared" / "cases")
CASE /= "one-account-decides"
LAYERS = [LocalLayer(0.3, 1.0), LocalLayer(0.1, 4.0), LocalLayer(0.0, 8.0)]


def bought_together(account: str, pair: tuple[str, str], times: int) -> pd.DataFrame:
    """The account takes both in turns, an hour apart."""
    rows = [(account, pair[at % 2], 1_600_000_000 + 3600 * at) for at in range(2 * times)]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


def invented_shop() -> tuple[pd.DataFrame, pd.DataFrame]:
    """A shop of 120 items and 150 shoppers, and nobody has "pills"."""
    rng = np.random.default_rng(0)
    colours, things = ("red", "blue", "green", "old"), ("lamp", "kettle", "train", "bread", "milk", "soap")
    items = [(f"i{i}", f"{colours[i % 4]} {things[i % 6]} no {i}") for i in range(120)]
    rows = [
        (f"u{u}", f"i{item}", 1_590_000_000 + 86_400 * when)
        for u in range(150)
        for when, item in enumerate(rng.choice(120, size=8, replace=False))
    ]
    catalogue = pd.DataFrame([*items, ("pills", "miracle pills")], columns=["item_id", "title"])
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]), catalogue


def lists_after(bait, events, items, layer, folder) -> dict[str, list[str]]:
    """Return everybody's list who has the bait, and what is listed to a stranger who looks at it."""
    platform = platform_from(events, items, ("tiny",))
    model = Model("prior", 0, ("tiny",), 6, None)
    snapshot = make_snapshot(platform, model, {"model": layer}, None, site_of(folder), folder)
    owners = sorted(
        set(events.loc[events["item_id"] == bait, "user_id"]) & set(platform.split.sequences.user_ids)
    )
    asks = [RecommendAsk(Who(owner)) for owner in owners] + [RecommendAsk(Who(items=(bait,)))]
    found = recommend(snapshot, asks)
    return {
        who: [listed.item for listed in answer.items]
        for who, answer in zip([*owners, ""], found, strict=True)
    }


@pytest.mark.parametrize("layer", LAYERS)
def test_repeating_a_pair_moves_no_list(layer, tmp_path):
    """Ten times or five hundred times: a shopper has the pair, or does not."""
    events, items = invented_shop()
    pair = ("pills", "i8")
    made = {
        times: lists_after(
            "i8", pd.concat([events, bought_together("bot", pair, times)]), items, layer, tmp_path
        )
        for times in (2, 10, 500)
    }
    assert len(made[10]) > 5
    for who in made[2].keys() - {"bot"}:
        assert made[2][who] == made[10][who] == made[500][who]
        assert made[10][who][0] != "pills"


@pytest.mark.parametrize("layer", LAYERS)
def test_the_account_of_the_case_is_on_nobody_s_list(layer, tmp_path):
    if not CASE.exists():
        pytest.skip(f"{CASE} is not here")
    events = pd.read_csv(CASE / "pair_500.csv", dtype=str).astype({"timestamp": int})
    items = pd.read_csv(CASE / "items_spam.csv", dtype=str)
    lists = lists_after("1108", events, items, layer, tmp_path)
    assert len(lists) > 10
    for who in lists.keys() - {"bot"}:
        assert "spam" not in lists[who]
