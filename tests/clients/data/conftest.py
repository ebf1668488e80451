"""Small platforms to test with: frames, files and the way from raw rows to a split."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from clients.data import Catalogue, build_catalogue, items_table

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write text, bytes or a frame to a file below the test's folder and return its path."""

    def put(name: str, content: str | bytes | pd.DataFrame) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pd.DataFrame):
            content.to_parquet(path, index=False) if ".p" in path.suffix else content.to_csv(
                path, index=False
            )
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return put


@pytest.fixture
def letters() -> Catalogue:
    """Items `a` to `j`, catalogue rows 0 to 9."""
    ids = list("abcdefghij")
    return build_catalogue(items_table(pd.DataFrame({"item_id": ids, "title": [f"title {i}" for i in ids]})))[
        0
    ]
