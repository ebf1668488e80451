"""From a real platform's folder: the prior before the first model, then what changes without a restart."""

import asyncio
import json
import os
from dataclasses import replace

import pandas as pd
import pytest
from structlog.testing import capture_logs

from clients.folder import ClientFolder
from clients.recommender import LocalLayer
from clients.serving import load
from clients.serving.current import Current
from clients.serving.load import load_snapshot
from clients.serving.watch import keep_current, state_of
from fedcart import run


@pytest.fixture
def shop(member) -> ClientFolder:
    """Return a member's folder."""
    return member


def test_the_shell_answers_without_a_server(shop, capsys):
    assert (
        run(["client", "recommend", "u01", "--count", "3", "--folder", str(shop.path), "--format", "json"])
        == 0
    )
    answer = json.loads(capsys.readouterr().out)
    assert (answer["model_version"], answer["arm"], answer["cold"]) == ("prior", "prior", False)
    assert len(answer["items"]) == 3
    assert run(["client", "recommend", "--text", "red lamp", "--folder", str(shop.path)]) == 0
    assert "lamp" in capsys.readouterr().out
    assert run(["client", "recommend", "u01", "--count", "0", "--folder", str(shop.path)]) == 2
    assert "ask for 1 to 500" in capsys.readouterr().err
    assert run(["client", "recommend", "u01", "--folder", str(shop.path / "none")]) == 2


def test_a_catalogue_that_changes_counts_without_a_restart_and_a_broken_one_does_not(shop):
    items = shop.site().items
    before = items.read_bytes()

    async def watch() -> None:
        current = Current(load_snapshot(shop))
        watcher = asyncio.create_task(keep_current(shop, current, state_of(shop), 0.05))
        frame = pd.read_csv(items)
        frame.loc[len(frame)] = {"item_id": "new", "title": "purple dragon"}
        frame.to_csv(items, index=False)
        await _until(lambda: "new" in current.snapshot.shelf.rows)
        kept = current.snapshot
        with capture_logs() as log:
            items.write_text("planted-column,header\nplanted-item,2\n")
            await _until(lambda: any(entry["event"] == "not-swapped" for entry in log))
        assert current.snapshot is kept
        assert [entry["code"] for entry in log if entry["event"] == "not-swapped"] == ["data"]
        assert "planted" not in json.dumps(log, default=str)
        items.write_bytes(before)
        os.utime(items)
        await _until(lambda: "new" not in current.snapshot.shelf.rows)
        watcher.cancel()

    asyncio.run(watch())


def test_an_empty_catalogue_is_said_and_takes_no_list_away(shop, capsys):
    """Whoever serves goes on with what was there; who starts with nothing is told which file has no item."""
    items = shop.site().items

    async def watch() -> None:
        current = Current(load_snapshot(shop))
        watcher = asyncio.create_task(keep_current(shop, current, state_of(shop), 0.05))
        kept = current.snapshot
        with capture_logs() as log:
            items.write_text("item_id,title\n")
            await _until(lambda: any(entry["event"] == "not-swapped" for entry in log))
        assert current.snapshot is kept
        watcher.cancel()

    asyncio.run(watch())
    assert run(["client", "recommend", "u02", "--folder", str(shop.path)]) == 2
    said = capsys.readouterr().err
    assert str(items) in said
    assert "Traceback" not in said


def test_new_image_vectors_are_noticed(shop):
    text = shop.site_file.read_text().replace("[images]", '[images]\nclip = "clip.npz"')
    shop.site_file.write_text(text)
    before = state_of(shop)
    (shop.path / "clip.npz").write_bytes(b"vectors")
    assert state_of(shop) != before


def test_an_erased_shopper_is_unknown_without_a_restart_and_after_one(shop, capsys):
    async def watch() -> None:
        current = Current(load_snapshot(shop))
        current.sessions.add("u02", "s", "i004")
        watcher = asyncio.create_task(keep_current(shop, current, state_of(shop), 0.05))
        assert current.snapshot.shoppers.find("u02") is not None
        assert run(["client", "erase", "u02", "--folder", str(shop.path)]) == 0
        await _until(lambda: current.snapshot.shoppers.find("u02") is None)
        assert len(current.sessions) == 0
        watcher.cancel()

    asyncio.run(watch())
    capsys.readouterr()
    assert run(["client", "recommend", "u02", "--folder", str(shop.path), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["cold"]


def test_a_local_layer_is_chosen_once_for_the_same_encoders_and_data(shop, monkeypatch):
    chosen = []
    monkeypatch.setattr(load, "choose_local", lambda p: (chosen.append(p.spec), LocalLayer(0.1))[1])
    load_snapshot(shop)
    load_snapshot(shop)
    assert len(chosen) == 1
    model = load.current_model(shop)
    monkeypatch.setattr(
        load, "current_model", lambda _: replace(model, history_length=model.history_length + 1)
    )
    load_snapshot(shop)
    assert len(chosen) == 2


async def _until(true, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.02)
