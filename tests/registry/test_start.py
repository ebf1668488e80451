"""What a run adds to, and whose vocabulary it is over: publication, growth and a simulation's first version."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from federation.validity import now
from server.errors import FederationError
from server.folder import RunSettings
from server.launch import prepare
from server.registry.start import start_of
from server.registry.store import ModelStore
from server.rounds import START
from server.settings import FederationSettings
from server.vocabulary.store import build, take_over, versions
from shared_model.exchange import fingerprint
from shared_model.stages import published
from shared_model.vocabulary import PublicCatalogue
from tests.front_door import FrontDoor
from tests.registry.test_run import write  # noqa: F401  (a fixture)

NEW = PublicCatalogue(("title:oat milk|", "title:zinc|"), ("oat milk", "zinc"), ("", ""), ("", ""))


def grow(fed, helpers, books):
    """Make version 2 of the vocabulary: two products more."""
    catalogue = dataclasses.replace(helpers.catalogue(books, fed), catalogue=NEW)
    assert build(fed, {"books": catalogue}, now(), 5).version.record.number == 2


def test_before_the_first_publication_a_run_starts_from_nothing(fed):
    assert start_of(fed, versions(fed)) is None


def test_a_run_starts_from_the_current_table(fed, publish, run_of):
    publish(1), publish(2)
    ModelStore.open(fed).make_current("1", "worse", now())
    start = start_of(fed, versions(fed))
    assert start.runs == ("run-1",)
    for name, array in published(run_of(1).table).items():
        np.testing.assert_array_equal(published(start.table)[name], array)


def test_a_table_without_privacy_is_never_added_to(fed, publish):
    publish(1, taints=["its noise is known"])
    assert start_of(fed, versions(fed)) is None


def test_a_vocabulary_that_grew_carries_the_table_over(fed, books, publish, run_of, helpers):
    publish(1)
    before = run_of(1).table
    grow(fed, helpers, books)
    old, new = (version.load() for version in versions(fed))
    table = start_of(fed, versions(fed)).table
    count = len(old)
    assert (table.popularity.size, table.edges.size) == (count + 2, len(new.edges))
    np.testing.assert_array_equal(table.popularity, [*before.popularity, 0, 0])
    np.testing.assert_array_equal(table.temper, [*before.temper, 1, 1])
    places = {tuple(edge): number for number, edge in enumerate(new.edges.tolist())}
    at = [places[tuple(edge)] for edge in old.edges.tolist()]
    np.testing.assert_array_equal(table.edges[at], before.edges)
    assert not np.delete(table.edges, at).any()
    assert (table.popularity_variance, table.edges_variance, table.runs) == (1.5, 0.5, 1)


# A simulation's own vocabulary


@pytest.fixture
def simulated(write, fed):  # noqa: F811
    """Return the folder of a simulation's run over a vocabulary that lies in it, and make the federation have none."""
    folder = write()
    (ours,) = versions(fed)
    (folder / "vocabulary.safetensors").write_bytes(ours.file.read_bytes())
    (folder / "scenario.json").write_text(json.dumps({"model": {"neighbours": 7}}))
    ours.file.unlink(), ours.record_file.unlink()
    return folder, ours.record


def test_a_federation_without_a_vocabulary_takes_a_simulation_s(fed, simulated):
    folder, record = simulated
    taken = take_over(fed, folder, record.digest, now())
    assert [version.record for version in versions(fed)] == [taken.record]
    said = (taken.record.number, taken.record.parent, taken.record.digest, taken.record.neighbours)
    assert said == (1, "", record.digest, 7)
    assert (taken.record.shares, taken.load().digest) == ({}, record.digest)
    assert take_over(fed, folder, record.digest, now()) is None, "it has one now"


@pytest.mark.parametrize("harm", ["no vocabulary", "junk", "another's", "no scenario"])
def test_what_is_not_the_run_s_own_vocabulary_is_not_taken(fed, simulated, harm):
    folder, record = simulated
    file, digest = folder / "vocabulary.safetensors", record.digest
    if harm == "no vocabulary":
        file.unlink()
    elif harm == "junk":
        file.write_bytes(b"junk")
    elif harm == "another's":
        digest = "ab" * 32
    else:
        (folder / "scenario.json").unlink()
    with pytest.raises(FederationError, match=r"vocabulary build FILES|Restore the run's folder"):
        take_over(fed, folder, digest, now())
    assert versions(fed) == []


def test_through_the_front_door_a_simulation_is_published_with_its_vocabulary(capfd, fed, simulated):
    folder, record = simulated
    model = load_file(folder / "model.safetensors")
    card = {"taints": [], "model_fingerprint": fingerprint(model)}
    (folder / "model_card.json").write_text(json.dumps(card))
    run = FrontDoor(capfd)
    made = run.json("server", "publish", folder, "--folder", fed.path)
    assert (made["card"]["vocabulary"], made["card"]["run"]["origin"]) == (record.digest, "simulation")
    assert [version.record.digest for version in versions(fed)] == [record.digest]
    code, _, err = run("server", "publish", folder, "--folder", fed.path)
    assert (code, "was published as version 1 already" in err) == (2, True)


def test_a_simulation_that_platforms_would_refuse_leaves_no_vocabulary(capfd, fed, simulated):
    folder, _ = simulated
    card = {"taints": [], "model_fingerprint": fingerprint(load_file(folder / "model.safetensors"))}
    (folder / "model_card.json").write_text(json.dumps(card))
    settings = json.loads((folder / "federation.json").read_text())
    (folder / "federation.json").write_text(json.dumps(settings | {"history_length": 7}))
    code, _, err = FrontDoor(capfd)("server", "publish", folder, "--folder", fed.path)
    assert (code, "platforms would refuse it" in err) == (2, True)
    assert versions(fed) == []


# What is prepared


@pytest.mark.parametrize(
    ("share", "rounds", "said"),
    [(None, 2, 0.5), (0.25, 2, 0.25), (1.0, 1, 1.0)],
    ids=["rule", "quarter", "alone"],
)
def test_a_run_is_prepared_over_the_newest_vocabulary(fed, share, rounds, said):
    place = prepare(fed, RunSettings(min_members=1, share=share), None)
    settings, (version,) = FederationSettings.load(place), versions(fed)
    ask, record = settings.instructions, version.record
    assert (ask.rounds, ask.share, settings.sizes, settings.earlier) == (rounds, said, {"books": 20}, ())
    assert (ask.vocabulary, ask.products, ask.edges) == (record.digest, record.products, record.edges)
    assert not (place / START).exists()


def test_a_run_is_prepared_to_add_to_the_current_table(fed, publish, run_of):
    publish(1)
    place = prepare(fed, RunSettings(min_members=1), None)
    assert FederationSettings.load(place).earlier == ("run-1",)
    assert fingerprint(load_file(place / START)) == fingerprint(published(run_of(1).table))


def test_without_a_vocabulary_no_run_is_prepared(fed):
    shutil.rmtree(fed.vocabulary)
    with pytest.raises(
        FederationError, match=r"has no vocabulary yet.*fedcart server vocabulary build FILES"
    ):
        prepare(fed, RunSettings(min_members=1), None)
    assert not fed.runs.exists()
