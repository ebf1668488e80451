"""Published data sets, where they are at hand (FEDCART_DATA, else ../shared/data beside the repository)."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clients.data import leave_one_out, load_platform

ROOT = Path(os.environ.get("FEDCART_DATA") or Path(__file__).parents[4] / "shared" / "data")
NAMES = ["s3rec_toys", "amazon_food", "s3rec_beauty", "unisrec_scientific"]


@pytest.mark.parametrize("name", NAMES)
def test_leave_one_out_is_the_published_split(name: str) -> None:
    folder = ROOT / name
    if not (folder / "interactions.parquet").exists():
        pytest.skip(f"{folder} is not here")
    data = load_platform(folder / "interactions.parquet", folder / "items.parquet", seed=0)
    raw = pd.read_parquet(folder / "interactions.parquet")
    assert data.events_report.dropped == {}
    assert len(data.sequences.items) == len(raw)
    assert len(data.sequences) == raw["user_id"].nunique()
    split = leave_one_out(data.sequences, first_time_only=False, seed=0)
    for which, target in (("valid", split.valid_target), ("test", split.test_target)):
        published = raw[raw["split"] == which].set_index("user_id")["item_id"].astype("str")
        published.index = published.index.astype("str")
        expected = data.catalogue.index_of(published.loc[list(data.sequences.user_ids)])
        np.testing.assert_array_equal(target, expected)
    train = raw[raw["split"] == "train"].groupby("user_id").size()
    train.index = train.index.astype("str")
    lengths = split.train_end - data.sequences.offsets[:-1]
    np.testing.assert_array_equal(lengths, train.loc[list(data.sequences.user_ids)])
