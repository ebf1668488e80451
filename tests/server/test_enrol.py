"""Admission: one platform per name and key, everything once, nobody else touched."""

import shutil
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federation.certificates import certificate_problem, read_certificates
from federation.errors import (
    EnrolmentError,
    ExpiredError,
    FolderError,
    ReusedError,
    TamperedError,
    WrongPartyError,
)
from federation.keys import fingerprint, make_node_key, make_signing_key, node_text, signing_text
from federation.kit import read_kit
from federation.request import Declaration, RequestKeys, make_request, read_request
from federation.validity import now
from privacy.ledger import Ledger
from server import enrol
from server.errors import FederationError, RegistryError
from server.folder import OperatorSettings, ServerFolder
from server.members import Members
from server.nodes import agree, list_nodes
from shared_model.errors import BadInputError, EncoderError

TIME = now()


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> ServerFolder:
    """Return a federation's folder, made once: Flower takes its time to make a database."""
    settings = OperatorSettings(name="groceries", address="fed.example.org:9443")
    return enrol.init_folder(tmp_path_factory.mktemp("fed") / "fed", settings, TIME)


@pytest.fixture
def fed(pristine, tmp_path) -> ServerFolder:
    """Return a new federation's folder."""
    return ServerFolder(Path(shutil.copytree(pristine.path, tmp_path / "fed")))


class Platform:
    """A platform's keys, without a folder."""

    def __init__(self, folder, name):
        self.name, self.folder, self.generation = name, folder / name, 0
        self.folder.mkdir()
        self.ledger = self.new_ledger()
        self.renew()

    def new_ledger(self, population=None):
        path = self.folder / f"{len(list(self.folder.iterdir()))}.ledger"
        return Ledger.create(path, population=population or self.name, epsilon_cap=8.0, delta=1e-6)

    def renew(self):
        self.generation += 1
        self.identity = make_signing_key(self.folder / f"identity{self.generation}")
        self.node = make_node_key(self.folder / f"node{self.generation}")

    @property
    def fingerprint(self):
        return fingerprint(signing_text(self.identity))

    def request(
        self, *, name=None, federation="groceries", time=TIME, replaces=None, node=None, identity=None
    ):
        head = self.ledger.head()
        declared = Declaration(federation, name or self.name, "", 100, head, "0.1.0", "1.41.0")
        signers = RequestKeys(identity or self.identity, node or self.node, self.ledger._signer)
        return make_request(declared, signers, time, replaces)

    def admit(self, fed, data=None, time=TIME, new_ledger=None, **values):
        data = data or self.request(time=time, **values)
        identity = values.get("identity") or self.identity
        confirmed = None if values.get("replaces") else fingerprint(signing_text(identity))
        return enrol.admit(fed, fed.path / f"{self.name}.json", data, confirmed, time, new_ledger)


@pytest.fixture
def platform(tmp_path):
    """Return what makes platforms."""
    return lambda name: Platform(tmp_path, name)


def nodes(fed):
    return {node.name: node.node_id for node in list_nodes(fed.database)}


def states(fed):
    return {member.name: member.state for member in Members.open(fed.members_file).all()}


def test_a_platform_is_admitted_with_its_key_and_its_kit(fed, platform):
    books = platform("books")
    admission = books.admit(fed)
    kit = read_kit(admission.kit.read_bytes(), "kit")
    assert (kit.platform, kit.node_key) == ("books", node_text(books.node))
    assert kit.card.signing_key == signing_text(fed.signing_key())
    assert nodes(fed).keys() == {"books"}
    assert states(fed) == {"books": "admitted"}


def test_admission_touches_nobody_else(fed, platform):
    books, toys = platform("books"), platform("toys")
    books.admit(fed)
    before = nodes(fed)["books"], Members.open(fed.members_file).get("books")
    toys.admit(fed)
    assert (nodes(fed)["books"], Members.open(fed.members_file).get("books")) == before
    toys.renew()
    assert nodes(fed).keys() == {"books", "toys"}


def test_a_fingerprint_must_be_given_and_be_right(fed, platform):
    books, toys = platform("books"), platform("toys")
    file = fed.path / "request.json"
    with pytest.raises(EnrolmentError, match="by another way"):
        enrol.admit(fed, file, books.request(), None, TIME)
    with pytest.raises(WrongPartyError, match="another fingerprint"):
        enrol.admit(fed, file, books.request(), toys.fingerprint, TIME)
    with pytest.raises(WrongPartyError):
        enrol.admit(fed, file, books.request(), books.fingerprint[:8], TIME)
    assert states(fed) == nodes(fed) == {}
    spoken = " ".join(books.fingerprint.upper())
    enrol.admit(fed, file, books.request(), spoken, TIME)


def test_a_request_works_once(fed, platform):
    books = platform("books")
    data = books.request()
    books.admit(fed, data)
    with pytest.raises(ReusedError, match="This request of 'books' was admitted on"):
        books.admit(fed, data)
    enrol.revoke(fed, "books", "left", TIME)
    with pytest.raises(ReusedError):
        books.admit(fed, data)
    assert nodes(fed) == {}


def test_a_key_is_one_platform_s(fed, platform):
    """Two nodes may not claim one platform, and one key may not claim two."""
    books, toys = platform("books"), platform("toys")
    books.admit(fed)
    with pytest.raises(ReusedError, match="'toys' brings a key that 'books' has or had"):
        toys.admit(fed, node=books.node)
    with pytest.raises(ReusedError, match="'toys' brings a key that 'books' has or had"):
        toys.admit(fed, identity=books.identity)
    with pytest.raises(EnrolmentError, match="'books' is a member since"):
        toys.admit(fed, name="books")
    assert states(fed) == {"books": "admitted"}
    assert nodes(fed).keys() == {"books"}


def test_a_revoked_platform_is_out_and_its_keys_never_come_back(fed, platform):
    books, toys = platform("books"), platform("toys")
    books.admit(fed)
    toys.admit(fed)
    toys_node = nodes(fed)["toys"]
    member = enrol.revoke(fed, "books", "key leaked", TIME)
    assert (member.state, member.reason) == ("revoked", "key leaked")
    assert nodes(fed) == {"toys": toys_node}
    with pytest.raises(EnrolmentError, match="was revoked on"):
        enrol.revoke(fed, "books", "again", TIME)
    with pytest.raises(EnrolmentError, match="it gets no kit"):
        enrol.new_kit(fed, "books", TIME)
    with pytest.raises(ReusedError):
        books.admit(fed)
    old = books.identity
    books.renew()
    with pytest.raises(WrongPartyError, match="not in force"):
        books.admit(fed, replaces=old)
    books.admit(fed)
    assert states(fed) == {"books": "admitted", "toys": "admitted"}


def test_keys_are_rotated_without_a_fingerprint_and_without_the_others(fed, platform):
    books, toys = platform("books"), platform("toys")
    books.admit(fed)
    toys.admit(fed)
    before = nodes(fed)
    old, old_node = books.identity, books.node
    books.renew()
    admission = books.admit(fed, replaces=old)
    assert admission.rotated
    after = nodes(fed)
    assert after["toys"] == before["toys"]
    assert after["books"] != before["books"]
    kit = read_kit(admission.kit.read_bytes(), "kit")
    assert (kit.node_key, kit.number) == (node_text(books.node), 3)
    with pytest.raises(ReusedError):
        books.admit(fed, identity=old, node=old_node)


def test_a_rotation_is_of_the_key_in_force(fed, platform):
    books, toys = platform("books"), platform("toys")
    books.admit(fed)
    toys.admit(fed)
    thief = platform("thief")
    with pytest.raises(WrongPartyError, match="not in force"):
        thief.admit(fed, name="books", replaces=toys.identity)
    with pytest.raises(WrongPartyError, match="not in force"):
        thief.admit(fed, replaces=books.identity)
    first = books.identity
    books.renew()
    books.admit(fed, replaces=first)
    with pytest.raises(WrongPartyError, match="not in force"):
        thief.admit(fed, name="books", replaces=first)
    assert nodes(fed).keys() == {"books", "toys"}


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"time": TIME - timedelta(days=8)}, ExpiredError),
        ({"time": TIME + timedelta(minutes=10)}, ExpiredError),
        ({"federation": "toys"}, WrongPartyError),
    ],
)
def test_what_does_not_belong_here_is_refused_by_name(fed, platform, values, error):
    books = platform("books")
    with pytest.raises(error):
        enrol.admit(fed, fed.path / "r", books.request(**values), books.fingerprint, TIME)
    assert states(fed) == nodes(fed) == {}


@given(where=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_request_changes_nothing(fed, tmp_path_factory, where, change):
    books = Platform(tmp_path_factory.mktemp("books"), "books")
    data = bytearray(books.request())
    data[int(where * len(data))] ^= change
    with pytest.raises(EnrolmentError):
        enrol.admit(fed, fed.path / "r", bytes(data), books.fingerprint, TIME)
    assert states(fed) == {}
    assert list(fed.kits.iterdir()) == []


def test_of_many_at_once_one_gets_the_name(fed, platform):
    requests = [platform(f"rival{n}").request(name="books") for n in range(4)]
    received = [read_request(data, "r", "groceries", TIME) for data in requests]
    barrier, outcomes = threading.Barrier(4), []

    def admit(request):
        registry = Members.open(fed.members_file)
        barrier.wait()
        try:
            registry.admit(request, TIME)
            outcomes.append("admitted")
        except EnrolmentError:
            outcomes.append("refused")

    threads = [threading.Thread(target=admit, args=(request,)) for request in received]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["admitted", "refused", "refused", "refused"]
    assert states(fed) == {"books": "admitted"}


def test_kits_are_numbered_and_a_member_can_have_another(fed, platform):
    books = platform("books")
    first = read_kit(books.admit(fed).kit.read_bytes(), "kit")
    second = read_kit(enrol.new_kit(fed, "books", TIME).read_bytes(), "kit")
    assert (first.number, second.number) == (1, 2)
    assert (first.card, first.node_key, first.request) == (second.card, second.node_key, second.request)
    with pytest.raises(FederationError, match="There is no member 'toys'; there are: books"):
        enrol.new_kit(fed, "toys", TIME)


# Flower's list of nodes follows the registry


def test_a_crash_between_registry_and_flower_is_mended(fed, platform, monkeypatch):
    books = platform("books")
    data = books.request()
    with monkeypatch.context() as patch:
        patch.setattr(enrol, "agree", lambda *_: (_ for _ in ()).throw(RegistryError("disk full")))
        with pytest.raises(RegistryError):
            books.admit(fed, data)
    assert (states(fed), nodes(fed)) == ({"books": "admitted"}, {})
    with pytest.raises(ReusedError, match="fedcart server kit books"):
        books.admit(fed, data)
    assert nodes(fed).keys() == {"books"}, "trying again mends it"
    assert read_kit(enrol.new_kit(fed, "books", TIME).read_bytes(), "kit").platform == "books"


def test_a_node_that_the_registry_does_not_know_is_taken_off(fed, platform):
    books, stray = platform("books"), platform("stray")
    books.admit(fed)
    agree(fed.database, {"books": node_text(books.node), "stray": node_text(stray.node)})
    assert nodes(fed).keys() == {"books", "stray"}
    enrol.agree_nodes(fed, Members.open(fed.members_file))
    assert nodes(fed).keys() == {"books"}


def test_agreeing_twice_changes_nothing(fed, platform):
    books = platform("books")
    wanted = {"books": node_text(books.node)}
    assert agree(fed.database, wanted).registered == ["books"]
    changes = agree(fed.database, wanted)
    assert changes.registered == changes.removed == []
    assert agree(fed.database, {}).removed == ["books"]
    with pytest.raises(RegistryError, match="Flower has seen the node key of 'books' before"):
        agree(fed.database, wanted)


# The folder and its certificates


def test_the_folder_is_made_whole_or_not_at_all(tmp_path, monkeypatch):
    settings = OperatorSettings(name="g", address="a:1")
    monkeypatch.setattr(enrol, "make_database", lambda _: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(FolderError, match="disk full"):
        enrol.init_folder(tmp_path / "fed", settings, TIME)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_federation_is_not_overwritten(fed):
    before = fed.signing_file.read_bytes()
    with pytest.raises(BadInputError, match="is not overwritten"):
        enrol.init_folder(fed.path, fed.settings(), TIME)
    assert fed.signing_file.read_bytes() == before


def test_an_unknown_encoder_is_refused_before_anything_is_made(tmp_path):
    settings = OperatorSettings.model_validate(
        {"name": "g", "address": "a:1", "model": {"encoders": ["bert"]}}
    )
    with pytest.raises(EncoderError, match="bert"):
        enrol.init_folder(tmp_path / "fed", settings, TIME)
    assert list(tmp_path.iterdir()) == []


def test_private_files_are_the_owner_s_alone(fed):
    private = [p for p in fed.path.rglob("*") if p.is_file() and p.suffix in (".key", ".secret")]
    assert {p.name for p in private} == {
        "signing.key",
        "worker.secret",
        "control.secret",
        "ca.key",
        "server.key",
    }
    for path in (*private, fed.database):
        assert path.stat().st_mode & 0o077 == 0, path
    assert fed.path.stat().st_mode & 0o077 == 0


def certificate(fed):
    return (fed.server_certificate(fed.certificates().server) / "server.crt").read_bytes()


def trusts(card, fed, time=TIME):
    return certificate_problem(certificate(fed), card.certificates.encode(), "fed.example.org", time) is None


def test_a_server_certificate_is_renewed_without_the_members(fed):
    card = enrol.card_of(fed)
    before = certificate(fed)
    assert trusts(card, fed)
    enrol.renew_certificate(fed, TIME + timedelta(days=300))
    assert certificate(fed) != before
    assert trusts(card, fed, TIME + timedelta(days=600))
    assert enrol.card_of(fed) == card


def test_an_authority_is_exchanged_without_cutting_a_member_off(fed, platform):
    books, toys = platform("books"), platform("toys")
    books.admit(fed)
    toys.admit(fed)
    old = enrol.card_of(fed)
    kits = enrol.start_authority(fed, TIME)
    new = read_kit(kits[0].read_bytes(), "kit").card
    assert [kit.name.split("-")[0] for kit in kits] == ["books", "toys"]
    assert len(read_certificates(new.certificates.encode())) == 2
    assert trusts(old, fed)
    assert trusts(new, fed)
    with pytest.raises(FederationError, match="--finish"):
        enrol.start_authority(fed, TIME)
    enrol.finish_authority(fed, TIME)
    assert not trusts(old, fed)
    assert trusts(new, fed)
    last = enrol.card_of(fed)
    assert trusts(last, fed)
    assert len(read_certificates(last.certificates.encode())) == 1
    with pytest.raises(FederationError, match="without --finish"):
        enrol.finish_authority(fed, TIME)
    enrol.start_authority(fed, TIME)


def test_a_renewal_that_was_cut_off_is_begun_anew(fed, monkeypatch):
    card = enrol.card_of(fed)
    with monkeypatch.context() as patch:
        patch.setattr(ServerFolder, "put_in_force", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            enrol.renew_certificate(fed, TIME)
    assert trusts(card, fed), "the old one stays in force"
    enrol.renew_certificate(fed, TIME)
    assert trusts(card, fed)


# What cannot be used is named


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = 'g'", "address"),
        ("name = 'a b'\naddress = 'a:1'", "name = 'a b'"),
        ("name = 'g'\naddress = 'here'", "write host:port"),
        ("name = 'g'\naddress = 'a:1'\nadress = 1", "adress"),
        ("name = 'g'\naddress = 'a:1'\n[superlink]\nport = 0", "superlink.port = 0"),
        ("name =", "cannot be read"),
    ],
)
def test_bad_settings_are_named(fed, text, said):
    fed.settings_file.write_text(text)
    with pytest.raises(FederationError, match=said):
        fed.settings()


def test_a_folder_that_is_none_says_so(tmp_path):
    with pytest.raises(FederationError, match="fedcart server init"):
        ServerFolder(tmp_path).settings()


@pytest.mark.parametrize("damage", [None, b"", b"not a database" * 100])
def test_a_registry_that_cannot_be_read_is_refused(fed, damage):
    if damage is None:
        fed.members_file.unlink()
    else:
        fed.members_file.write_bytes(damage)
    with pytest.raises(RegistryError, match=r"members\.sqlite"):
        enrol.new_kit(fed, "books", TIME)


def test_a_lost_database_of_flower_is_not_made_anew(fed):
    fed.database.unlink()
    with pytest.raises(RegistryError, match="Flower's database is missing"):
        enrol.new_kit(fed, "books", TIME)
    assert not fed.database.exists()


def test_tampered_material_has_its_own_name(fed, platform):
    data = platform("books").request()
    with pytest.raises(TamperedError):
        enrol.admit(fed, fed.path / "r", data.replace(b"books", b"brooks"), "0" * 64, TIME)
