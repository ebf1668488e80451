"""A newer version of the vocabulary is approved before there is a model over it: the adopted one goes on serving."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clients.data import build_catalogue, items_table
from clients.data.products import published
from clients.enrol import init_folder, install_kit, write_request
from clients.errors import PolicyError, SiteError
from clients.folder import ClientFolder
from clients.others import sent_table
from clients.participate import participate
from clients.platform import HashableSite, prepare_platform
from clients.products import vocabulary_named
from clients.serving.load import Model, others_of
from clients.template import SiteAnswers
from clients.vocabulary import approve_vocabulary
from federation.validity import moment, now
from federation.vocabulary import VocabularyRecord, make_record
from shared_model.encoders import HashedWordsEncoder
from shared_model.vocabulary import Vocabulary, carried, carried_products
from shared_model.vocabulary_file import vocabulary_bytes
from tests.clients.conftest import VOCABULARY, item_frame, make_ask


def grown() -> Vocabulary:
    """The next version, with twenty products more."""
    catalogue = published(build_catalogue(items_table(item_frame(100)))[0])
    return VOCABULARY.grown([catalogue], [HashedWordsEncoder(dimension=16, buckets=2**10)], 5)


def signed(operator, vocabulary: Vocabulary, folder: Path) -> Path:
    """Write a version as the operator does."""
    record = VocabularyRecord(
        federation=operator.card.federation,
        number=vocabulary.number,
        parent=vocabulary.parent,
        digest=vocabulary.digest,
        products=len(vocabulary),
        edges=len(vocabulary.edges),
        neighbours=5,
        encoders=operator.card.model.encoder_identities,
        issued=moment(now()),
        shares={},
    )
    file = folder / f"{vocabulary.number}.json"
    file.write_bytes(make_record(record, operator.key))
    file.with_suffix(".safetensors").write_bytes(vocabulary_bytes(vocabulary))
    return file


@pytest.fixture
def folder(tmp_path, make_site, operator) -> ClientFolder:
    """Return a member's folder that approved version 1."""
    data = make_site("data", cap=None)
    made = init_folder(
        tmp_path / "toys", SiteAnswers("toys", "groceries", data.events, data.items, 20, 30.0, 1e-6)
    )
    kit = operator.answer(write_request(made, now()).file)
    install_kit(made, Path("kit"), kit, operator.fingerprint, now())
    assert approve_vocabulary(made, signed(operator, VOCABULARY, tmp_path)).new
    return made


def test_an_approved_version_goes_on_serving_and_what_was_sent_over_it_is_still_taken_off(
    folder, operator, tmp_path
):
    newer = grown()
    assert (newer.number, len(newer)) == (2, 100)
    first = make_ask(run_id="first")
    sent = participate(folder.site(), first, {}).arrays["popularity"]
    temper = {"temper": np.full(80, 1.5, np.float32)}
    edges = participate(folder.site(), first.model_copy(update={"round": 2}), temper).arrays["edges"]
    own = sent_table(folder.site(), VOCABULARY, {"first"})
    table = replace(own.plus(own), popularity=own.popularity + 50, runs=1)  # another member sent 50 of each
    old = Model("v1", 1, ("tiny",), 6, table, ("first",), VOCABULARY.digest)
    before = others_of(folder.site(), platform_of(folder), old)

    assert approve_vocabulary(folder, signed(operator, newer, tmp_path)).new
    after = others_of(folder.site(), platform_of(folder), old)
    assert before.popularity.sum() > 0
    np.testing.assert_allclose(after.popularity, before.popularity, rtol=1e-5)

    own = sent_table(folder.site(), newer, {"first"})
    np.testing.assert_allclose(own.popularity, carried_products(VOCABULARY, newer, sent))
    np.testing.assert_allclose(own.edges, carried(VOCABULARY, newer, edges))
    carried_over = replace(
        own.plus(own),
        popularity=own.popularity + carried_products(VOCABULARY, newer, np.full(80, 50.0)),
        runs=1,
    )
    new = Model("v2", 2, ("tiny",), 6, carried_over, ("first",), newer.digest)
    later = others_of(folder.site(), platform_of(folder), new)
    np.testing.assert_allclose(later.popularity, before.popularity, rtol=1e-5)  # sums of float32 numbers


def test_a_version_that_was_never_approved_is_asked_for(folder, operator, tmp_path):
    with pytest.raises(SiteError, match="fedcart client vocabulary"):
        vocabulary_named(folder.site(), "0" * 64)
    approve_vocabulary(folder, signed(operator, grown(), tmp_path))
    assert vocabulary_named(folder.site(), VOCABULARY.digest).digest == VOCABULARY.digest
    with pytest.raises(PolicyError, match="version 2 is approved here"):
        approve_vocabulary(folder, tmp_path / "1.json")


def platform_of(folder: ClientFolder):
    return prepare_platform(HashableSite(folder.site()), ("tiny",), 6)
