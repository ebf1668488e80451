"""The store: a chain of versions that never change, a list that is old or new at any moment, one publisher at a time."""

import dataclasses
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from federation.errors import FolderError
from federation.registry.card import model_file, version_of
from federation.registry.errors import UnknownVersionError
from federation.registry.versions import make_list
from federation.validity import now
from server.errors import FederationError
from server.folder import ServerFolder
from server.registry.store import ModelStore
from server.vocabulary.store import versions
from shared_model.errors import BadInputError, EncoderError
from shared_model.stages import published as published_arrays


def state(fed):
    """Everything that is published, as bytes."""
    return {str(p.relative_to(fed.models)): p.read_bytes() for p in fed.models.rglob("*") if p.is_file()}


def test_versions_are_chained_and_named_by_their_cards(fed, publish, run_of):
    store = ModelStore.open(fed)
    assert (store.listing(), store.all()) == (None, [])
    first, second = publish(1), publish(2)
    listing = store.listing()
    assert listing.versions == [first.version, second.version]
    assert (listing.current, listing.serial, listing.reason) == (second.version, 2, "")
    assert (first.card.parent, second.card.parent) == (None, first.version)
    assert [p.card for p in store.all()] == [first.card, second.card]
    for published, seed in ((first, 1), (second, 2)):
        folder = fed.models / published.version
        assert version_of((folder / "card.json").read_bytes()) == published.version
        assert (folder / "model.safetensors").read_bytes() == model_file(published_arrays(run_of(seed).table))
        assert published.version in (folder / "card.md").read_text()


def test_publishing_changes_nothing_that_is_there(fed, publish):
    publish(1)
    before = state(fed)
    publish(2)
    after = state(fed)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"list.json"}


def test_a_run_is_published_once(fed, publish):
    publish(1)
    publish(2)
    before = state(fed)
    with pytest.raises(FederationError, match="Run run-1 was published as version 1 already"):
        publish(1)
    assert state(fed) == before


def test_rolling_back_moves_the_current_version_and_nothing_else(fed, publish):
    store = ModelStore.open(fed)
    with pytest.raises(FederationError, match="nothing is published yet"):
        store.make_current("1", "", now())
    one, two = publish(1), publish(2)
    before = state(fed)
    listing = store.make_current("1", "worse on toys", now())
    assert (listing.current, listing.serial, listing.reason) == (one.version, 3, "worse on toys")
    assert {k: v for k, v in state(fed).items() if k != "list.json"} == {
        k: v for k, v in before.items() if k != "list.json"
    }
    with pytest.raises(FederationError, match="Version 1 is current already"):
        store.make_current(one.version[:12], "", now())
    with pytest.raises(UnknownVersionError):
        store.make_current("3", "", now())
    with pytest.raises(BadInputError, match="reason"):
        store.make_current("2", "x\ny", now())
    three = publish(3)
    assert three.card.parent == two.version, "the chain is the order of publication"
    assert store.listing().current == three.version
    assert store.listing().serial == 4


def test_a_model_of_another_federation_s_shape_is_not_published(fed, run_of):
    terms = run_of().terms
    other = terms.encoder_identities.replace("hashed-words", "hashed-word5")
    with pytest.raises(EncoderError, match=r"hashed-words/1 .*hashed-word5/1"):
        ModelStore.open(fed).publish(
            run_of(terms=terms.model_copy(update={"encoder_identities": other})), now()
        )
    with pytest.raises(FederationError, match="platforms would refuse it"):
        ModelStore.open(fed).publish(run_of(terms=terms.model_copy(update={"history_length": 7})), now())
    assert ModelStore.open(fed).listing() is None


def test_a_run_over_a_vocabulary_that_the_federation_does_not_have_is_not_published(fed, run_of):
    stranger = dataclasses.replace(run_of(), vocabulary="ab" * 32)
    (ours,) = versions(fed)
    with pytest.raises(
        FederationError, match=f"abababababab, which .* \\(it has {ours.record.digest[:12]}\\)"
    ):
        ModelStore.open(fed).publish(stranger, now())
    run = run_of()
    shutil.rmtree(fed.vocabulary)
    with pytest.raises(FederationError, match=r"\(it has none\)"):
        ModelStore.open(fed).publish(run, now())
    assert ModelStore.open(fed).listing() is None


@pytest.mark.parametrize("name", ["card.json", "model.safetensors", "../list.json"])
@pytest.mark.parametrize("harm", ["changed", "cut", "missing"])
def test_damage_is_found(fed, publish, name, harm):
    publish(1)
    version = publish(2).version
    file = fed.models / version / name
    data = file.read_bytes()
    if harm == "missing":
        file.unlink()
    else:
        file.write_bytes(data[:-3] if harm == "cut" else data[:200] + bytes([data[200] ^ 1]) + data[201:])
    with pytest.raises(FolderError, match=r"from a backup|cannot be read"):
        ModelStore.open(fed).all()
    if name != "model.safetensors":
        with pytest.raises(FolderError):
            publish(3)


def test_versions_in_another_order_are_found(fed, publish):
    """Whole cards and a whole list, put together wrongly by somebody with the key."""
    one, two = publish(1), publish(2)
    data = make_list("groceries", fed.signing_key(), [two.version, one.version], one.version, 3, now())
    (fed.models / "list.json").write_bytes(data)
    with pytest.raises(FolderError, match="is not version 1 of this list"):
        ModelStore.open(fed).all()


def test_another_federation_s_list_is_refused(fed, root, publish):
    publish(1)
    other = ServerFolder(root / "other")
    shutil.rmtree(other.models)
    shutil.copytree(fed.models, other.models)
    with pytest.raises(FolderError, match="is of federation 'groceries'"):
        ModelStore.open(other).listing()


@pytest.fixture
def killed(fed, tmp_path):
    """Return what runs `killed.py` and gives what it saw after each child."""

    def run(runs, *arguments: str) -> list[dict]:
        file = tmp_path / "runs.pickle"
        file.write_bytes(pickle.dumps(runs))
        command = [sys.executable, Path(__file__).with_name("killed.py"), fed.path, file, *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert ended.returncode == 0, ended.stderr
        return [json.loads(line) for line in ended.stdout.splitlines()]

    return run


@pytest.mark.parametrize("start", [0, 1], ids=["first version", "second version"])
def test_kill_9_at_any_moment_leaves_the_old_list_or_the_new(fed, publish, run_of, killed, start):
    for seed in range(start):
        publish(seed + 1)
    before = [f"run-{seed + 1}" for seed in range(start)]
    seen = killed([run_of(9)], "kill", "publish")
    old = {"ended": "killed", "runs": before, "serial": start, "current": start}
    new = {"runs": [*before, "run-9"], "serial": start + 1, "current": start + 1}
    assert len(seen) > 10, "the publication has many steps, and each was the last once"
    changed = next(n for n, after in enumerate(seen) if after["serial"] != start)
    assert seen[:changed] == [old] * changed
    assert changed > 10
    assert all(after | new == after for after in seen[changed:])
    assert {after["ended"] for after in seen[changed:-1]} <= {"killed", "exit 1"}
    assert publish(10).card.number == start + 2
    left = [p.name for p in fed.models.iterdir() if p.name.startswith(".") and p.name != ".lock"]
    assert left == [], "what was left is gone"


def test_kill_9_while_rolling_back_leaves_the_old_list_or_the_new(publish, killed):
    publish(1), publish(2)
    seen = killed([], "kill", "rollback")
    states = [(after["serial"], after["current"]) for after in seen]
    assert set(states) == {(2, 2), (3, 1)}
    assert states == sorted(states)
    assert all(after["runs"] == ["run-1", "run-2"] for after in seen)
    assert states.count((2, 2)) > 2


def test_two_publishers_take_turns(fed, run_of, killed):
    """Five processes at once: five versions, one chain."""
    seen = killed([run_of(seed) for seed in range(1, 6)], "together")
    assert [after["ended"] for after in seen] == ["exit 0"] * 5
    assert sorted(seen[-1]["runs"]) == [f"run-{seed}" for seed in range(1, 6)]
    assert (seen[-1]["serial"], seen[-1]["current"]) == (5, 5)
    assert [p.card.number for p in ModelStore.open(fed).all()] == [1, 2, 3, 4, 5]


def test_a_lost_list_is_not_started_anew(fed, publish):
    publish(1), publish(2)
    (fed.models / "list.json").unlink()
    with pytest.raises(FolderError, match=r"list\.json: is missing; restore"):
        publish(3)
    assert len(list(fed.models.glob("*/card.json"))) == 2


def test_a_folder_without_rights_says_so(fed, publish, monkeypatch):
    publish(1)
    before = state(fed)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(FolderError, match="No space left on device"):
            publish(2)
    assert state(fed) == before
    assert publish(2).card.number == 2


def test_the_signed_card_is_readable_json(fed, publish):
    version = publish(1).version
    body = json.loads((fed.models / version / "card.json").read_text())["body"]
    assert body["members"][0]["epsilon_run"] == 7.9
    assert body["taints"] == []
