"""The store: a chain of versions that never change, a list that is old or new at any moment, one publisher at a time."""

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable

import pytest

from federation.errors import FolderError
from federation.registry.card import model_file, version_of
from federation.registry.errors import UnknownVersionError
from federation.registry.versions import read_list
from federation.validity import now
from server.errors import FederationError
from server.registry.store import ModelStore
from shared_model.errors import BadInputError, EncoderError


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
        assert (folder / "model.safetensors").read_bytes() == model_file(run_of(seed).arrays)
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
    for change in ({"width": 3}, {"history_length": 7}):
        with pytest.raises(FederationError, match="platforms would refuse it"):
            ModelStore.open(fed).publish(run_of(terms=terms.model_copy(update=change)), now())
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
    from federation.registry.versions import make_list

    one, two = publish(1), publish(2)
    data = make_list("groceries", fed.signing_key(), [two.version, one.version], one.version, 3, now())
    (fed.models / "list.json").write_bytes(data)
    with pytest.raises(FolderError, match="is not version 1 of this list"):
        ModelStore.open(fed).all()


def test_another_federation_s_list_is_refused(fed, root, publish):
    from server.folder import ServerFolder

    publish(1)
    other = ServerFolder(root / "other")
    shutil.rmtree(other.models)
    shutil.copytree(fed.models, other.models)
    with pytest.raises(FolderError, match="is of federation 'groceries'"):
        ModelStore.open(other).listing()


STEPS = ("fsync", "rename", "replace", "link", "mkdir", "unlink", "fchmod")


def killed_before_step(number: int, action: Callable[[], object]) -> bool:
    """Run `action` in a process that is killed before its `number`-th step on the disk; whether it came so far."""
    child = os.fork()
    if child == 0:
        left = [number]

        def step(real):
            def call(*arguments, **options):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments, **options)

            return call

        for name in STEPS:
            setattr(os, name, step(getattr(os, name)))
        try:
            action()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("start", [0, 1], ids=["first version", "second version"])
def test_kill_9_at_any_moment_leaves_the_old_list_or_the_new(fed, publish, start):
    for seed in range(start):
        publish(seed + 1)
    before = (fed.models / "list.json").read_bytes() if start else b""
    step, outcomes = 0, []
    while True:
        step += 1
        killed = killed_before_step(step, lambda: publish(9))
        whole = ModelStore.open(fed).all()
        listed = ModelStore.open(fed).list_bytes()
        outcomes.append(len(whole))
        assert [p.card.run.id for p in whole] == [f"run-{n + 1}" for n in range(start)] + ["run-9"] * (
            listed != before
        )
        if not killed or listed != before:
            break
    assert step > 10, "the publication has many steps, and each was the last once"
    assert outcomes == [start] * (step - 1) + [start + 1]
    following = publish(10)
    assert following.card.number == start + 2
    assert not [p for p in fed.models.iterdir() if p.name.startswith(".") and p.name != ".lock"], (
        "what was left is gone"
    )


def test_kill_9_while_rolling_back_leaves_the_old_list_or_the_new(fed, publish):
    publish(1), publish(2)
    store = ModelStore.open(fed)
    old = store.list_bytes()
    step = 0
    while store.list_bytes() == old:
        step += 1
        killed_before_step(step, lambda: store.make_current("1", "", now()))
        assert store.listing().number(store.listing().current) in {1, 2}
        assert len(store.all()) == 2
    assert step > 2
    assert store.listing().serial == 3


def publish_in_a_process(path, seed, terms, make_run):
    from server.folder import ServerFolder

    ModelStore.open(ServerFolder(path)).publish(make_run(terms, seed), now())


def test_two_publishers_take_turns(fed, run_of, helpers):
    """Five processes at once: five versions, one chain."""
    forked = multiprocessing.get_context("fork")
    terms = run_of().terms
    publishers = [
        forked.Process(target=publish_in_a_process, args=(fed.path, seed, terms, helpers.make_run))
        for seed in range(1, 6)
    ]
    for publisher in publishers:
        publisher.start()
    for publisher in publishers:
        publisher.join(60)
        assert publisher.exitcode == 0
    published = ModelStore.open(fed).all()
    assert [p.card.number for p in published] == [1, 2, 3, 4, 5]
    assert {p.card.run.id for p in published} == {f"run-{seed}" for seed in range(1, 6)}
    assert read_list((fed.models / "list.json").read_bytes(), "list").serial == 5


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
