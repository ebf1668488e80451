"""A store of two shards, and what is in it, in an order of its own."""

from collections.abc import Callable

import pandas as pd
import pytest

from clients.data.store import EventStore, open_store

NOW = 1_700_000_000.0


def content(store: EventStore) -> list[tuple]:
    """Return all events, sorted, missing as None."""
    frames = [table.frame for table in store.tables()]
    if not frames:
        return []
    frame = pd.concat(frames).astype(object)
    rows = frame.where(frame.notna(), None).itertuples(index=False, name=None)
    return sorted(rows, key=repr)


@pytest.fixture
def store(tmp_path) -> EventStore:
    return open_store(tmp_path / "store", shards=2)


@pytest.fixture(scope="session")
def now() -> float:
    return NOW


@pytest.fixture(scope="session")
def events_of() -> Callable[[EventStore], list[tuple]]:
    return content
