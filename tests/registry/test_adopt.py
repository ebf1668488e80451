"""Adoption on a platform: all is checked before anything changes; versions go forward unless somebody says otherwise."""

import dataclasses
import json
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clients.adopt import Adopter
from clients.errors import SiteError
from clients.models import InstalledModels, load_adopted
from clients.others import others_memory
from clients.platform import HashableSite, prepare_platform
from clients.products import Products, site_vocabulary
from clients.recommender import Recommender, federation_default
from clients.vocabulary import approve_vocabulary
from federation.errors import EnrolmentError, FolderError, TamperedError
from federation.keys import fingerprint, make_signing_key
from federation.registry.card import make_card, model_file
from federation.registry.errors import (
    HistoryError,
    OlderModelError,
    UnknownVersionError,
    WrongFederationError,
    WrongSignerError,
)
from federation.validity import moment, now
from server.vocabulary.store import versions
from shared_model.encoders import EncoderIdentity, identities_from_json, identities_to_json
from shared_model.errors import BadInputError, EncoderError, ExchangeError
from shared_model.exchange import fingerprint as tensors_of
from shared_model.stages import published


def files(folder):
    """Everything under `models/` but the lock, as bytes."""
    path = folder.path / "models"
    return {
        str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file() and p.name != ".lock"
    }


def adopt(books, fed, version, **options):
    return Adopter(books, **options).from_file(fed.models / version)


def write_version(folder: Path, run, key, number=1, parent=None, federation="groceries", **changes) -> Path:
    """Write a version by hand, signed with any key and saying anything."""
    arrays = published(run.table)
    body = changes.pop("body", model_file(arrays))
    values = {
        "federation": federation,
        "number": number,
        "parent": parent,
        "published": moment(now()),
        "run": run.facts.model_dump(),
        "model": run.terms.model_dump(),
        "vocabulary": run.vocabulary,
        "products": run.table.popularity.size,
        "edges": run.table.edges.size,
        "runs": list(run.runs),
        "shoppers": run.shoppers,
        "noise": run.noise,
        "standing_out": run.standing_out,
        "tensors": tensors_of(arrays),
        "file": sha256(body).hexdigest(),
        "size": len(body),
        "members": [m.model_dump() for m in run.members],
        "taints": [],
        "evaluation": None,
    }
    folder.mkdir()
    (folder / "card.json").write_bytes(make_card(values | changes, key))
    (folder / "model.safetensors").write_bytes(body)
    return folder


# What is whole is adopted


def test_a_version_is_adopted_and_used(fed, books, publish, run_of):
    with pytest.raises(SiteError, match="no model is adopted yet"):
        load_adopted(books.path)
    made = publish(1)
    adoption = adopt(books, fed, made.version)
    assert (adoption.version.name, adoption.before) == (made.version, None)
    model = load_adopted(books.path)
    assert (model.version, model.card) == (made.version, made.card)
    assert tensors_of(published(model.table)) == tensors_of(published(run_of(1).table))
    assert made.version in (books.path / "models" / made.version / "card.md").read_text()


@pytest.mark.parametrize("name", ["", "card.json", "model.safetensors"])
def test_a_version_is_its_folder_or_a_file_in_it(fed, books, publish, name):
    version = publish(1).version
    assert Adopter(books).from_file(fed.models / version / name).version.name == version


def test_a_newcomer_that_never_trained_ranks_with_it(root, fed, publish, run_of, helpers):
    newcomer = helpers.enrolled(root, fed, "newtown")
    adopt(newcomer, fed, publish(1).version)
    model = load_adopted(newcomer.path)
    platform = prepare_platform(HashableSite(newcomer.site()), model.encoder_names, model.spec.history_length)
    vocabulary, cache = site_vocabulary(newcomer.site()), newcomer.path / "cache"
    products = Products.of(vocabulary, platform.catalogue, model.encoder_names, cache)

    def scores(table):
        others = None if table is None else others_memory(table, products)
        return Recommender(platform, federation_default(20), others).scores("test", platform.test_users)

    ranked = scores(model.table)
    assert ranked.shape == (len(platform.test_users), 30)
    assert torch.equal(ranked, scores(run_of(1).table))
    assert not torch.allclose(ranked, scores(None))
    assert not (newcomer.path / "work").exists(), "nothing was trained"


def test_adopting_again_changes_nothing(fed, books, publish):
    version = publish(1).version
    adopt(books, fed, version)
    before = files(books)
    assert adopt(books, fed, version).before.name == version
    assert files(books) == before


# What is not is refused, and nothing changes


@given(
    name=st.sampled_from(["card.json", "model.safetensors"]),
    where=st.floats(0, 1, exclude_max=True),
    change=st.integers(1, 255),
)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_byte_is_refused_and_changes_nothing(fed, books, publish, tmp_path, name, where, change):
    whole = tmp_path / "whole"
    if not whole.exists():
        whole = Path(shutil.copytree(fed.models / publish(1).version, whole))
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole, copy)
    data = bytearray((copy / name).read_bytes())
    data[int(where * len(data))] ^= change
    (copy / name).write_bytes(data)
    with pytest.raises(EnrolmentError):
        Adopter(books).from_file(copy)
    assert not (books.path / "models").exists()


@pytest.mark.parametrize("cut", [1, 100, 10**9])
def test_a_cut_file_is_refused(fed, books, publish, tmp_path, cut):
    version = publish(1).version
    for name in ("card.json", "model.safetensors"):
        copy = Path(shutil.copytree(fed.models / version, tmp_path / f"{name}-copy"))
        (copy / name).write_bytes((copy / name).read_bytes()[:-cut])
        with pytest.raises(TamperedError):
            Adopter(books).from_file(copy)
    with pytest.raises(BadInputError, match="cannot be read"):
        Adopter(books).from_file(tmp_path / "nowhere")
    assert not (books.path / "models").exists()


def test_another_signer_is_refused_by_name(books, run_of, tmp_path):
    forger = make_signing_key(tmp_path / "forger")
    place = write_version(tmp_path / "v", run_of(1), forger)
    with pytest.raises(
        WrongSignerError, match=r"^refused as wrong-signer: .* signed by key .*, not by the federation's"
    ):
        Adopter(books).from_file(place)
    with pytest.raises(WrongSignerError):
        Adopter(books, allow_older=True).from_file(place)
    assert not (books.path / "models").exists()


def test_another_federation_s_model_is_refused_by_name(root, books, run_of, tmp_path):
    from server.folder import ServerFolder

    key = ServerFolder(root / "other").signing_key()
    place = write_version(tmp_path / "v", run_of(1), key, federation="fashion")
    with pytest.raises(
        WrongFederationError, match=r"^refused as wrong-federation: .* 'fashion', and this is 'groceries'"
    ):
        Adopter(books).from_file(place)
    assert not (books.path / "models").exists()


@pytest.mark.parametrize("field", ["version", "sha256", "name"])
def test_other_encoders_are_refused_with_both_identities(fed, books, run_of, tmp_path, field):
    terms = run_of().terms
    (ours,) = identities_from_json(terms.encoder_identities)
    theirs = EncoderIdentity(**(dataclasses.asdict(ours) | {field: "f" * 64}))
    names = theirs.name if field == "name" else terms.encoders
    changed = terms.model_copy(update={"encoders": names, "encoder_identities": identities_to_json([theirs])})
    place = write_version(tmp_path / "v", run_of(1, terms=changed), fed.signing_key())
    with pytest.raises(EncoderError) as refusal:
        Adopter(books).from_file(place)
    assert str(theirs) in str(refusal.value)
    if field != "name":
        assert str(ours) in str(refusal.value)
    assert not (books.path / "models").exists()


@pytest.mark.parametrize("change", [{"vocabulary": "ab" * 32}, {"history_length": 7}])
def test_a_table_over_another_vocabulary_or_history_is_refused(fed, books, run_of, tmp_path, change):
    run = run_of(1)
    if "history_length" in change:
        change = {"model": run.terms.model_copy(update=change).model_dump()}
    place = write_version(tmp_path / "v", run, fed.signing_key(), **change)
    with pytest.raises(ExchangeError, match=r"never approved here|the federation's is 6"):
        Adopter(books).from_file(place)
    assert not (books.path / "models").exists()


def test_without_an_approved_vocabulary_nothing_is_adopted(fed, books, publish):
    version = publish(1).version
    books.vocabulary.unlink()
    with pytest.raises(ExchangeError, match="has no vocabulary of the federation yet"):
        adopt(books, fed, version)
    approve_vocabulary(books, versions(fed)[-1].record_file)


def test_a_signed_model_with_nan_is_refused(fed, books, run_of, tmp_path):
    run = run_of(1)
    arrays = published(run.table)
    body = model_file(arrays | {"edges": arrays["edges"] * np.float32("nan")})
    place = write_version(tmp_path / "v", run, fed.signing_key(), body=body)
    with pytest.raises(ExchangeError, match="NaN or inf"):
        Adopter(books).from_file(place)
    assert not [p for p in (books.path / "models").glob("*") if p.is_dir()]


def test_a_platform_without_a_kit_adopts_nothing(root, fed, publish):
    from clients.enrol import init_folder
    from clients.template import SiteAnswers

    version = publish(1).version
    fresh = init_folder(
        root / "fresh", SiteAnswers("fresh", "groceries", root / "e", root / "i", 20, 8.0, 1e-6)
    )
    with pytest.raises(SiteError, match="no kit is installed yet"):
        adopt(fresh, fed, version)


def test_a_file_of_another_version_than_asked_for_is_refused(fed, books, publish):
    one = publish(1).version
    for wanted in ("2", "latest", "ffffffffffff", one[:7]):
        with pytest.raises(UnknownVersionError, match="holds version 1"):
            Adopter(books).from_file(fed.models / one, wanted)
    for wanted in ("1", one, one[:8]):
        assert Adopter(books).from_file(fed.models / one, wanted).version.name == one


# Older versions


def test_an_older_version_needs_to_be_allowed(fed, books, publish):
    one, two = publish(1).version, publish(2).version
    adopt(books, fed, two)
    before = files(books)
    with pytest.raises(OlderModelError, match="Version 2 was adopted here, which is newer"):
        adopt(books, fed, one)
    assert files(books) == before
    assert adopt(books, fed, one, allow_older=True).version.card.number == 1
    assert load_adopted(books.path).version == one
    adopt(books, fed, one)
    adopt(books, fed, two)
    with pytest.raises(OlderModelError):
        adopt(books, fed, one)  # what was allowed once is asked again


def test_another_version_of_the_same_number_is_refused(fed, books, publish, run_of, tmp_path):
    adopt(books, fed, publish(1).version)
    place = write_version(tmp_path / "v", run_of(7), fed.signing_key())
    with pytest.raises(HistoryError, match="another version 1 than the one that is installed"):
        Adopter(books).from_file(place)
    assert Adopter(books, allow_older=True).from_file(place).version.card.run.id == "run-7"


def test_rolling_back_goes_to_what_was_before(fed, books, publish):
    models = InstalledModels(books)
    with pytest.raises(SiteError, match="no version from before"):
        models.rollback(None)
    versions = [publish(seed).version for seed in (1, 2, 3)]
    for version in versions:
        adopt(books, fed, version)
    assert models.rollback(None).name == versions[1]
    assert models.rollback(None).name == versions[0]
    with pytest.raises(SiteError, match="no version from before"):
        models.rollback(None)
    assert load_adopted(books.path).version == versions[0]
    assert models.rollback("3").name == versions[2]
    assert models.rollback(versions[1][:8]).name == versions[1]
    assert models.rollback(None).name == versions[2]
    for wanted in ("4", "x", versions[0][:7], ""):
        with pytest.raises(UnknownVersionError, match="those are: 1, 2, 3"):
            models.rollback(wanted)
    with pytest.raises(OlderModelError):
        adopt(books, fed, versions[0])  # after a rollback, too


def test_without_its_record_the_installed_versions_still_count(fed, books, publish):
    one, two = publish(1).version, publish(2).version
    adopt(books, fed, two)
    (books.path / "models" / "adopted.json").unlink()
    with pytest.raises(OlderModelError):
        adopt(books, fed, one)
    (books.path / "models" / "adopted.json").write_text("{}}")
    with pytest.raises(FolderError, match=r"adopted\.json: cannot be read"):
        load_adopted(books.path)


# What is installed is checked whenever it is used


@pytest.mark.parametrize("name", ["card.json", "model.safetensors"])
@pytest.mark.parametrize("harm", ["changed", "missing"])
def test_installed_files_that_were_changed_are_not_used(fed, books, publish, name, harm):
    one, two = publish(1).version, publish(2).version
    adopt(books, fed, one)
    adopt(books, fed, two)
    file = books.path / "models" / two / name
    whole = file.read_bytes()
    if harm == "missing":
        file.unlink()
    else:
        file.write_bytes(whole[:300] + bytes([whole[300] ^ 1]) + whole[301:])
    with pytest.raises(FolderError, match=r"again|cannot be read"):
        load_adopted(books.path)
    with pytest.raises(FolderError if name == "model.safetensors" else UnknownVersionError):
        InstalledModels(books).rollback("2")
    adopt(books, fed, two)
    assert file.read_bytes() == whole, "adopting it again mends it"
    assert load_adopted(books.path).version == two


def test_an_encoder_that_changed_since_is_found(fed, books, publish, monkeypatch):
    from shared_model import features
    from shared_model.encoders import HashedWordsEncoder

    version = publish(1).version
    adopt(books, fed, version)
    other = HashedWordsEncoder(number_weight=0.4)
    monkeypatch.setattr(features, "_encoder", lambda _: other)
    for use in (lambda: load_adopted(books.path), lambda: adopt(books, fed, version)):
        with pytest.raises(EncoderError) as refusal:
            use()
        assert str(other.identity) in str(refusal.value)


def test_an_adoption_that_is_cut_off_leaves_the_old_version(fed, books, publish, monkeypatch):
    one, two = publish(1).version, publish(2).version
    adopt(books, fed, one)
    for point in ("make_folder", "_put"):
        with monkeypatch.context() as patch:

            def killed(*_):
                raise KeyboardInterrupt

            if point == "make_folder":
                patch.setattr("clients.models.make_folder", killed)
            else:
                patch.setattr(InstalledModels, "_put", killed)
            with pytest.raises(KeyboardInterrupt):
                adopt(books, fed, two)
        assert load_adopted(books.path).version == one
    adopt(books, fed, two)
    assert load_adopted(books.path).version == two


def test_a_new_key_of_the_federation_does_not_stop_what_is_adopted(root, fed, books, publish):
    """A person confirms a new key; the adopted version stays, and one by the old key is adopted no more."""
    from clients.enrol import install_kit
    from server import enrol

    one, two = publish(1).version, publish(2).version
    adopt(books, fed, one)
    fed.signing_file.unlink()
    make_signing_key(fed.signing_file)
    kit = enrol.new_kit(fed, "books", now())
    install_kit(books, kit, kit.read_bytes(), fingerprint(enrol.card_of(fed).signing_key), now())
    assert load_adopted(books.path).version == one
    with pytest.raises(WrongSignerError):
        adopt(books, fed, two)


def test_the_record_is_readable(fed, books, publish):
    version = publish(1).version
    adopt(books, fed, version)
    record = json.loads((books.path / "models" / "adopted.json").read_text())
    assert (record["current"], record["newest"], record["before"]) == (version, 1, [])
