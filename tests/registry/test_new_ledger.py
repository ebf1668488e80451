"""A platform whose ledger does not go on: refused by every command, until the operator says otherwise; then it shows."""

import shutil

import pytest

from clients.enrol import ledger_key
from clients.own_ledger import open_ledger
from federation.validity import now
from privacy.errors import LedgerRolledBackError
from privacy.events import PoissonGaussian
from privacy.ledger import Ledger
from server.members import Members
from server.registry.run import read_run
from server.registry.store import ModelStore
from tests.front_door import FrontDoor
from tests.registry.test_run import write  # noqa: F401  (a fixture)


@pytest.fixture
def run(capfd, root, monkeypatch):
    """Return what runs a command in the copy of `pristine`: exit code, standard output, standard error."""
    monkeypatch.chdir(root)
    return FrontDoor(capfd)


def spend(books, number):
    ledger = open_ledger(books.site())
    event = PoissonGaussian(0.1, 4.0, 2)
    ledger.settle(
        ledger.reserve(
            event, run="run-1", purpose="update", key=f"k{number}", model_fingerprint="m", code_version="1"
        ),
        "ab" * 32,
    )
    return ledger.head()


def begin_anew(books):
    """Throw the ledger away, and make another one of the same population."""
    site = books.site()
    for file in books.path.glob("ledger.sqlite*"):
        file.unlink()
    return Ledger.create(site.ledger, population=site.population, epsilon_cap=8.0, delta=1e-6)


def admit(run, books, *options):
    asked = run.json("client", "request", "--folder", "books", "--rotate")
    return run("server", "admit", asked["request"], "--folder", "fed", *options)


def test_a_request_names_the_ledger_and_the_operator_sees_it(run, fed, books):
    ledger = Members.open(fed.members_file).ledgers()["books"]
    assert ledger.last == open_ledger(books.site()).head()
    code, out, err = admit(run, books)
    assert code == 0, err
    assert f"ledger           population books, entry 0, key {ledger.last.public_key[:16]}…" in out


def test_a_restored_ledger_file_is_refused_in_the_next_run(fed, books, tmp_path):
    """The file itself is put back, with its key: whole in itself, and a fresh budget."""
    members, site = Members.open(fed.members_file), books.site()
    shutil.copy(site.ledger, tmp_path / "backup")
    last = spend(books, 1)
    members.see_head("books", last, members.ledgers(), now())
    for file in books.path.glob("ledger.sqlite-*"):
        file.unlink()
    shutil.copy(tmp_path / "backup", site.ledger)
    back = open_ledger(site).head()
    assert back.seq < last.seq
    with pytest.raises(LedgerRolledBackError, match="went back: entry 0 came after entry 2") as refusal:
        members.see_head("books", back, members.ledgers(), now())
    assert refusal.value.code == "ledger.rollback"


def test_a_ledger_that_was_cut_and_goes_on_with_its_key_is_refused(fed, books):
    members, site = Members.open(fed.members_file), books.site()
    key = ledger_key(site)
    members.see_head("books", spend(books, 1), members.ledgers(), now())
    for file in books.path.glob("ledger.sqlite*"):
        if not file.name.endswith(".key"):
            file.unlink()
    Ledger.create(site.ledger, population=site.population, epsilon_cap=8.0, delta=1e-6, key=key)
    with pytest.raises(LedgerRolledBackError, match="another entry 2 came after entry 2"):
        members.see_head("books", spend(books, 2), members.ledgers(), now())


def test_a_new_ledger_needs_the_operator_s_word_which_everybody_sees(run, fed, books, write):  # noqa: F811
    begin_anew(books)
    code, _, err = admit(run, books)
    assert code == 5
    assert "has another key or population" in err
    assert "--new-ledger REASON" in err
    code, out, err = admit(run, books, "--new-ledger", "its disk was lost")
    assert code == 0, err
    assert "It begins a new ledger: what it spent before is in no ε from now on" in out
    day = f"{now():%Y-%m-%d}"
    said = f"began a new ledger on {day}"

    _, out, _ = run("server", "status", "--folder", "fed")
    assert said in out
    _, out, _ = run("server", "log", "--folder", "fed")
    assert "admit failed" in out
    assert "new_ledger its disk was lost" in out

    made = read_run(write(members=fed.members_file))
    published = ModelStore.open(fed).publish(made, now())
    books_facts, toys_facts = published.card.members
    assert [moment[:10] for moment in books_facts.new_ledgers] == [day]
    assert toys_facts.new_ledgers == []
    assert published.card.private
    page = (fed.models / published.version / "card.md").read_text()
    sentence = f"books {said}: earlier spending is not in its ε"
    assert sentence in page
    code, out, err = run("client", "adopt", "--folder", "books", "--from", fed.models / published.version)
    assert code == 0, err
    assert sentence in out


def test_a_ledger_that_went_back_shows_in_status_and_doctor(run, fed, books):
    members = Members.open(fed.members_file)
    first = members.ledgers()
    members.see_head("books", spend(books, 1), first, now())
    with pytest.raises(LedgerRolledBackError, match="went back"):
        members.see_head("books", first["books"].last, members.ledgers(), now())
    _, out, _ = run("server", "status", "--folder", "fed")
    assert f"its ledger went back on {now():%Y-%m-%d}" in out
    assert "--new-ledger REASON" in out
    _, out, _ = run("server", "doctor", "--folder", "fed")
    assert "the ledger of books went back, so its updates are refused" in out


def test_a_request_without_a_ledger_that_can_be_read_is_not_written(run, books):
    for file in books.path.glob("ledger.sqlite*"):
        file.unlink()
    code, _, err = run("client", "request", "--folder", "books", "--rotate")
    assert code == 4
    assert "ledger" in err
