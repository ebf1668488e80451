"""A platform's side: keys that stay, requests that are never overwritten, kits that are checked before they count."""

import json
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clients import enrol
from clients.enrol import init_folder, install_kit, write_request
from clients.errors import SiteError
from clients.folder import ClientFolder
from clients.own_ledger import open_ledger
from clients.processes import supernode_arguments
from clients.template import SiteAnswers
from federation.certificates import make_authority
from federation.errors import (
    EnrolmentError,
    ExpiredError,
    FolderError,
    KeyFileError,
    ReusedError,
    TamperedError,
    WrongPartyError,
)
from federation.keys import fingerprint, signing_text, spoken
from federation.validity import now
from privacy.errors import LedgerMismatchError, LedgerUnreadableError, PlanError
from privacy.ledger import Ledger
from privacy.ledger.keys import make_key_file
from shared_model.errors import BadInputError

TIME = now()


def answers(**values) -> SiteAnswers:
    given = {
        "name": "books",
        "federation": "groceries",
        "events": Path("/data/events.csv"),
        "items": Path("/data/items.csv"),
        "population_size": 2000,
        "epsilon_cap": 8.0,
        "delta": 1e-6,
    }
    return SiteAnswers(**(given | values))


@pytest.fixture
def folder(tmp_path) -> ClientFolder:
    """Return a new platform's folder."""
    return init_folder(tmp_path / "books", answers())


def join(folder, data, confirmed, time=TIME):
    return install_kit(folder, Path("kit.json"), data, confirmed, time)


# The folder


def test_a_new_folder_has_settings_keys_and_a_ledger(folder):
    site = folder.site()
    assert (site.name, site.federation, site.population_size, site.epsilon_cap) == (
        "books",
        "groceries",
        2000,
        8.0,
    )
    assert site.population == "books"
    assert not site.allow_plain_training
    assert not site.reproducible_noise
    budget = Ledger.open(Path(site.ledger), population="books").budget()
    assert (budget.spent, budget.cap, budget.delta) == (0.0, 8.0, 1e-6)
    assert folder.path.stat().st_mode & 0o077 == 0
    token = folder.path / "keys" / "serving.token"
    for key in (*folder.path.rglob("*.key"), folder.secret, token):
        assert key.stat().st_mode & 0o077 == 0
    assert (len(token.read_text().strip()), site.serving.token) == (64, token)
    assert token.read_text().strip() not in folder.site_file.read_text() + folder.secret.read_text()


@pytest.mark.parametrize(
    "text", ['the "shop"', "back\\slash", "new\nline", "tab\t", "é☃", "#", "\x7f", "a = 1", "'''"]
)
def test_any_path_can_be_written(tmp_path, text):
    made = init_folder(tmp_path / "f", answers(events=Path("/data") / text))
    assert made.site().events == Path("/data") / text


def test_relative_paths_are_taken_from_the_folder(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    site = ClientFolder(Path("books")).site()
    assert site.work == folder.path / "work"
    assert site.ledger == str(folder.path / "ledger.sqlite")


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"name": "a b"}, SiteError, "name = 'a b'"),
        ({"epsilon_cap": float("nan")}, SiteError, "epsilon_cap = nan"),
        ({"epsilon_cap": -1.0}, SiteError, "epsilon_cap = -1.0"),
        ({"epsilon_cap": 2000.0}, PlanError, "2000"),
        ({"delta": 0.5}, PlanError, "delta"),
        ({"population_size": 0}, SiteError, "population_size = 0"),
        ({"ledger_key": "/keys/ledger.key"}, SiteError, "with --ledger"),
    ],
)
def test_answers_that_cannot_be_used_make_nothing(tmp_path, change, error, said):
    with pytest.raises(error, match=said):
        init_folder(tmp_path / "books", answers(**change))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_overwritten(folder):
    before = folder.site_file.read_bytes(), (folder.keys(1).node_file).read_bytes()
    with pytest.raises(BadInputError, match="is not overwritten"):
        init_folder(folder.path, answers())
    assert (folder.site_file.read_bytes(), folder.keys(1).node_file.read_bytes()) == before


def test_shoppers_keep_their_ledger_in_a_second_federation(folder, tmp_path):
    """The budget belongs to the shoppers: a second folder for them uses the first one's ledger."""
    ledger = folder.path / "ledger.sqlite"
    second = init_folder(
        tmp_path / "two", answers(name="books-uk", federation="other", ledger=str(ledger), population="books")
    )
    assert second.site().ledger == str(ledger)
    assert not (second.path / "ledger.sqlite").exists()
    with pytest.raises(LedgerMismatchError):
        init_folder(tmp_path / "three", answers(name="toys", ledger=str(ledger)))
    assert not (tmp_path / "three").exists()


@pytest.fixture(params=["postgresql", "mariadb"])
def server_url(request) -> str:
    """The URL of a database on a server, of each kind in turn."""
    return str(request.getfixturevalue(request.param))


def test_a_ledger_is_made_in_a_database_and_found_again(server_url, tmp_path):
    """Its key is in the platform's folder; a second folder of the same shoppers is given that key."""
    name = f"shop-{uuid.uuid4().hex[:8]}"
    folder = init_folder(tmp_path / "one", answers(name=name, ledger=server_url))
    site = folder.site()
    assert site.ledger_key == folder.path / "keys" / "ledger.key"
    assert open_ledger(site).budget().cap == 8.0
    with pytest.raises(LedgerMismatchError, match="already holds population"):
        init_folder(tmp_path / "two", answers(name=name, ledger=server_url))
    assert not (tmp_path / "two").exists()
    again = {"ledger": server_url, "ledger_key": str(site.ledger_key), "population": name}
    second = init_folder(tmp_path / "two", answers(name="other", **again))
    open_ledger(second.site()).change_cap(5.0, "less")
    assert open_ledger(site).budget().cap == 5.0


def test_a_ledger_in_a_database_is_never_opened_without_its_own_key(server_url, tmp_path):
    name = f"shop-{uuid.uuid4().hex[:8]}"
    folder = init_folder(tmp_path / "one", answers(name=name, ledger=server_url))
    key = folder.site().ledger_key
    key.rename(key.with_suffix(".away"))
    with pytest.raises(LedgerUnreadableError, match=r"ledger\.key is missing"):
        open_ledger(folder.site())
    make_key_file(key)
    with pytest.raises(LedgerMismatchError, match="belongs to key"):
        open_ledger(folder.site())
    key.chmod(0o644)
    with pytest.raises(LedgerUnreadableError, match="chmod 600"):
        open_ledger(folder.site())


def test_a_database_without_a_key_is_refused_and_its_password_not_shown(folder):
    text = folder.site_file.read_text()
    url = "postgresql+psycopg://shop:hunter2@db/ledger"
    folder.site_file.write_text(text.replace('ledger = "ledger.sqlite"', f'ledger = "{url}"'))
    with pytest.raises(SiteError, match="ledger_key must name") as caught:
        folder.site()
    assert "hunter2" not in str(caught.value)


def test_a_database_that_cannot_be_reached_leaves_no_folder(tmp_path):
    url = "postgresql+psycopg://shop:hunter2@127.0.0.1:1/ledger"
    with pytest.raises(LedgerUnreadableError) as caught:
        init_folder(tmp_path / "one", answers(ledger=url))
    assert "hunter2" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# Requests


def test_requests_are_kept_apart(folder):
    first, second = write_request(folder, TIME), write_request(folder, TIME)
    assert first.file != second.file
    assert first.fingerprint == second.fingerprint == fingerprint(signing_text(folder.keys(1).identity()))
    assert len(list(folder.requests.iterdir())) == 2


def test_a_request_needs_a_federation_and_a_reason(folder, operator):
    for option in ("rotate", "rejoin"):
        with pytest.raises(SiteError, match="was no member yet"):
            write_request(folder, TIME, **{option: True})
    join(folder, operator.answer(write_request(folder, TIME).file), operator.fingerprint)
    with pytest.raises(SiteError, match="is a member already"):
        write_request(folder, TIME)
    text = folder.site_file.read_text()
    folder.site_file.write_text(text.replace('federation = "groceries"', ""))
    with pytest.raises(SiteError, match="federation: is missing"):
        write_request(folder, TIME)


def test_a_key_that_others_can_read_signs_nothing(folder):
    (folder.keys(1).folder / "identity.key").chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        write_request(folder, TIME)
    assert list(folder.requests.iterdir()) == []


# Kits


def test_a_kit_is_installed_and_the_node_can_be_started(folder, operator):
    with pytest.raises(SiteError, match="no kit is installed yet"):
        folder.membership()
    data = operator.answer(write_request(folder, TIME).file)
    join(folder, data, spoken(operator.fingerprint).upper())
    membership = folder.membership()
    assert membership.kit.card == operator.card
    assert membership.authorities.read_text() == operator.card.certificates
    arguments = supernode_arguments(folder)
    assert arguments[arguments.index("--superlink") + 1] == "fed.example.org:9443"
    for option in ("--root-certificates", "--auth-supernode-private-key", "--superexec-auth-secret-file"):
        assert Path(arguments[arguments.index(option) + 1]).exists()
        assert Path(arguments[arguments.index(option) + 1]).is_absolute()
    assert arguments[arguments.index("--isolation") + 1] == "process"
    assert arguments[arguments.index("--host") + 1] == "127.0.0.1"
    assert "--insecure" not in arguments


def test_client_toml_is_never_written_again(folder, operator):
    folder.site_file.write_text(folder.site_file.read_text() + "\n# mine\n")
    before = folder.site_file.read_bytes()
    join(folder, operator.answer(write_request(folder, TIME).file), operator.fingerprint)
    join(folder, operator.answer(write_request(folder, TIME, rotate=True).file), None)
    assert folder.site_file.read_bytes() == before


def test_the_first_kit_needs_the_federation_s_fingerprint(folder, operator, tmp_path):
    data = operator.answer(write_request(folder, TIME).file)
    with pytest.raises(EnrolmentError, match="--fingerprint"):
        join(folder, data, None)
    with pytest.raises(WrongPartyError, match="do not use it"):
        join(folder, data, "0" * 64)
    assert folder.current() is None


def test_a_forged_federation_is_found_by_its_fingerprint(folder, operator, make_operator, tmp_path):
    """Somebody in the middle answers the request with a kit of their own, whole in itself."""
    forger = make_operator(tmp_path / "forger")
    data = forger.answer(write_request(folder, TIME).file)
    with pytest.raises(WrongPartyError, match="another fingerprint"):
        join(folder, data, operator.fingerprint)


def test_after_the_first_kit_the_federation_is_known(folder, operator, make_operator, tmp_path):
    request = write_request(folder, TIME).file
    join(folder, operator.answer(request), operator.fingerprint)
    join(folder, operator.answer(request), None)
    assert folder.membership().kit.number == 2
    forger = make_operator(tmp_path / "forger")
    with pytest.raises(WrongPartyError, match="signed by another key than the installed kit"):
        join(folder, forger.answer(request, number=9), None)
    join(folder, forger.answer(request, number=9), forger.fingerprint)  # a person confirmed the new key


@pytest.mark.parametrize(
    ("later", "said"),
    [
        (timedelta(days=31), "expired on"),
        (-timedelta(minutes=10), "one of the clocks is wrong"),
    ],
)
def test_a_kit_has_its_time(folder, operator, later, said):
    data = operator.answer(write_request(folder, TIME).file)
    with pytest.raises(ExpiredError, match=said):
        join(folder, data, operator.fingerprint, TIME + later)
    assert folder.current() is None


def test_a_kit_with_an_expired_authority_is_refused(folder, operator):
    old = make_authority("groceries", TIME - timedelta(days=4000))[1].decode()
    data = operator.answer(
        write_request(folder, TIME).file, card=operator.card.model_copy(update={"certificates": old})
    )
    with pytest.raises(ExpiredError, match="certificate authority in it has expired"):
        join(folder, data, operator.fingerprint)


def test_a_kit_is_for_one_platform_key_and_request(folder, operator, tmp_path):
    request = write_request(folder, TIME).file
    other = init_folder(tmp_path / "toys", answers(name="toys"))
    theirs = write_request(other, TIME).file
    for data, said in (
        (operator.answer(theirs), "answers a request that was not made"),
        (operator.answer(request, platform="toys"), "is for platform 'toys'"),
        (operator.answer(request, identity_key="ab" * 32), "is for keys that are not in"),
        (operator.answer(request, request="ab" * 32), "answers a request that was not made"),
    ):
        with pytest.raises(WrongPartyError, match=said):
            join(folder, data, operator.fingerprint)
    wrong = operator.card.model_copy(update={"federation": "elsewhere"})
    with pytest.raises(WrongPartyError, match="is of federation 'elsewhere'"):
        join(folder, operator.answer(request, card=wrong), operator.fingerprint)
    with pytest.raises(WrongPartyError, match="this command takes fedcart-kit/1"):
        join(folder, request.read_bytes(), operator.fingerprint)
    assert folder.current() is None
    assert list((folder.path / "federation").iterdir()) == []


def test_an_old_kit_does_not_come_back(folder, operator):
    request = write_request(folder, TIME).file
    first, second = operator.answer(request), operator.answer(request)
    join(folder, first, operator.fingerprint)
    with pytest.raises(ReusedError, match="is kit 1, and kit 1 is installed"):
        join(folder, first, operator.fingerprint)
    join(folder, second, None)
    with pytest.raises(ReusedError, match="is kit 1, and kit 2 is installed"):
        join(folder, first, None)
    assert folder.membership().kit.number == 2


@given(where=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_kit_changes_nothing(folder, operator, where, change):
    data = bytearray(operator.answer(write_request(folder, TIME).file))
    data[int(where * len(data))] ^= change
    with pytest.raises(EnrolmentError):
        join(folder, bytes(data), operator.fingerprint)
    assert folder.current() is None


def test_new_keys_count_when_their_kit_is_installed(folder, operator):
    join(folder, operator.answer(write_request(folder, TIME).file), operator.fingerprint)
    old = folder.membership()
    request = write_request(folder, TIME, rotate=True).file
    again = write_request(folder, TIME, rotate=True).file
    assert folder.membership() == old, "the old keys stay in force"
    one, two = (json.loads(file.read_text())["body"]["node_key"] for file in (request, again))
    assert one == two, "asking twice makes one new pair"
    join(folder, operator.answer(again), None)
    assert folder.membership().keys.number == 2
    assert str(folder.membership().keys.node_file) in supernode_arguments(folder)


def test_a_revoked_platform_comes_back_with_new_keys(folder, operator):
    join(folder, operator.answer(write_request(folder, TIME).file), operator.fingerprint)
    request = write_request(folder, TIME, rejoin=True)
    body = json.loads(request.file.read_text())["body"]
    assert (body["kind"], body["replaces"]) == ("join", None)
    assert body["identity_key"] != signing_text(folder.keys(1).identity())
    join(folder, operator.answer(request.file), None)
    assert folder.membership().keys.number == 2


# What was installed is checked again whenever it is used


def test_installed_material_that_was_changed_is_refused(folder, operator):
    join(folder, operator.answer(write_request(folder, TIME).file), operator.fingerprint)
    installed = folder.installed(1)
    whole = (installed / "kit.json").read_bytes()
    (installed / "kit.json").write_bytes(whole.replace(b"9443", b"9444"))
    with pytest.raises(TamperedError):
        folder.membership()
    (installed / "kit.json").write_bytes(whole)
    folder.membership()
    (installed / "ca.crt").write_text(make_authority("groceries", TIME)[1].decode())
    with pytest.raises(FolderError, match="was changed since it was installed"):
        folder.membership()
    (installed / "ca.crt").unlink()
    with pytest.raises(FolderError, match="cannot be read"):
        folder.membership()
    folder.record.write_text("{}")
    with pytest.raises(FolderError, match=r"membership\.json"):
        folder.membership()


def test_a_join_that_was_cut_off_is_done_again(folder, operator, monkeypatch):
    data = operator.answer(write_request(folder, TIME).file)
    with monkeypatch.context() as patch:
        patch.setattr(enrol.ClientFolder, "put_in_force", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            join(folder, data, operator.fingerprint)
    assert folder.current() is None
    join(folder, data, operator.fingerprint)
    assert folder.membership().kit.number == 1


def test_a_folder_that_is_none_says_so(tmp_path):
    with pytest.raises(SiteError, match="fedcart client init"):
        ClientFolder(tmp_path).site()
