"""`fedcart client erase` by any certain spelling, in store and feedback; an id that is not known changes nothing."""

import itertools
import shutil
import sqlite3
from pathlib import Path

import pandas as pd
import pytest

from clients.data.store import open_store
from clients.feedback import FeedbackStore, Impression, Interaction, Kind
from clients.serving.asks import Who
from clients.serving.erased import Tombstones, WithoutErased
from clients.serving.sessions import Sessions
from clients.site import load_site
from tests.front_door import FrontDoor

CASE = Path(__file__).parents[3] / "shared" / "cases" / "erase-other-spelling"
SITE = """
name = "shop"
items = "items.csv"
population_size = 100
epsilon_cap = 8.0
ledger = "ledger.sqlite"
work = "work"
cache = "cache"
"""
SOURCES = """
[sources.text]
type = "files"
path = "old.csv"
[sources.floats]
type = "files"
path = "new.parquet"
[sources.database]
type = "sql"
url = "sqlite:///{folder}/shop.db"
table = "orders"
[sources.feedback]
type = "feedback"
"""
SPELLINGS = ["17850", "17850.0", "17850.00", " 17850 "]
USERS = (17850, 17851, 17852)


@pytest.fixture
def folder(tmp_path):
    """A platform that has three shoppers in a text file, one of floats, a database, and feedback."""
    (tmp_path / "client.toml").write_text(SITE + SOURCES.format(folder=tmp_path))
    (tmp_path / "items.csv").write_text("item_id,title\n1001,red milk\n1002.0,lamp\n")
    head = "user_id,item_id,timestamp\n"
    (tmp_path / "old.csv").write_text(head + "".join(f"{u}.0,1001,{u}\n" for u in USERS))
    new = pd.DataFrame({"user_id": [float(u) for u in USERS], "item_id": 1002, "timestamp": USERS})
    new.to_parquet(tmp_path / "new.parquet")
    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute("CREATE TABLE orders (user_id INTEGER, item_id REAL, timestamp INTEGER)")
        database.executemany("INSERT INTO orders VALUES (?, 1001, ?)", [(u, u + 1) for u in USERS])
    store = FeedbackStore(tmp_path / "feedback.sqlite")
    store.record([bought(f"e{n}", spelled) for n, spelled in enumerate(SPELLINGS)])
    store.record(
        [bought("other", "17851.0"), Impression("i", "r", "17850.0", ("1001.0",), 5.0, session="9.0")]
    )
    store.close()
    return tmp_path


def bought(event, shopper, session=""):
    return Interaction(event, shopper, "1002.0", Kind.PURCHASE, 17900.0, session=session)


@pytest.fixture
def run(capfd, folder):
    """Run `fedcart client …` on the folder: exit code, standard output, standard error."""
    return FrontDoor(capfd, before=("client",), after=("--folder", folder))


def everything(folder):
    """Return what erasing may change, byte for byte."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".sqlite-shm")
    return {file: file.read_bytes() for file in files}


@pytest.mark.parametrize("spelled", SPELLINGS)
def test_any_certain_spelling_erases_all_of_a_shopper_and_keeps_them_out(run, folder, spelled):
    done = run.json("ingest")
    assert (done["store"]["shoppers"], done["store"]["items"]) == (3, 2)
    assert done["store"]["events_of_known_items"] == 1.0
    erased = run.json("erase", spelled, "--session", "9")
    assert (erased["events"], erased["feedback"]) == (4, 5)
    store = open_store(folder / "store")
    assert sorted(store.shoppers()) == ["17851", "17852"]
    assert all(store.erased(other) for other in SPELLINGS)
    assert run.json("ingest", "--full")["store"]["shoppers"] == 2
    site = load_site(folder / "client.toml")
    feedback, tombstones = FeedbackStore(site.feedback), Tombstones(site)
    late = [bought(f"late{n}", other) for n, other in enumerate(SPELLINGS)] + [bought("s", "", "9.0")]
    assert WithoutErased(feedback, tombstones).record(late).accepted == 0
    assert feedback.shoppers() == ["17851"]
    feedback.close()


def test_erasing_again_by_another_spelling_is_no_error(run):
    run("ingest")
    for spelled in SPELLINGS:
        assert run("erase", spelled)[0] == 0


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("017850", "'17850'"),
        ("1.7850e4", "'17850'"),
        ("17850,0", "'17850'"),
        ("17850.5", None),
        ("nobody", None),
    ],
)
def test_an_unknown_shopper_changes_nothing_and_near_spellings_are_named(run, folder, asked, near):
    run("ingest")
    before = everything(folder)
    code, _, err = run("erase", asked)
    told = " ".join(err.split())
    assert (code, f"shopper '{asked}'" in told, "nothing was erased" in told) == (2, True, True)
    assert ("Near spellings: " + near in told) if near else "Near" not in told
    assert everything(folder) == before
    assert run("erase", "17850", "--session", "8c1f")[0] == 2
    assert everything(folder) == before


@pytest.mark.parametrize("session", ["", " ", "null"])
def test_a_session_that_is_none_erases_nobody(run, folder, session):
    """Rows without a session have an empty one: it is everybody's."""
    run("ingest")
    before = everything(folder)
    assert run("erase", "17850", "--session", session, "--anyway")[0] == 2
    assert everything(folder) == before
    store, events = FeedbackStore(folder / "feedback.sqlite"), open_store(folder / "store")
    store.erase("17852", [session])
    events.erase("17852", [session])
    assert store.shoppers() == ["17850", "17851"]
    assert events.manifest().erased_sessions == frozenset()
    store.close()


def test_an_unknown_shopper_before_the_first_ingest_makes_no_store(run, folder):
    assert run("erase", "17853")[0] == 2
    assert not (folder / "store").exists()
    assert run("erase", "17850.0")[0] == 0, "known by feedback"


def test_an_id_can_be_kept_out_before_anything_is_known_of_it(run, folder):
    assert run("erase", "17852.0", "--session", "a-session", "--anyway")[0] == 0
    assert run.json("ingest")["store"]["shoppers"] == 2
    assert open_store(folder / "store").erased_session("a-session")


def test_a_shopper_of_a_plain_file_is_known(run, folder):
    (folder / "client.toml").write_text('events = "old.csv"\n' + SITE)
    assert run("erase", "17850")[0] == 0
    code, _, err = run("erase", "017851")
    assert (code, "'17851'" in err) == (2, True)


@pytest.mark.skipif(not CASE.exists(), reason="the shared cases are not here")
def test_the_case_of_an_erasure_by_another_spelling(run, folder):
    shutil.copy(CASE / "events.csv", folder / "events.csv")
    source = '[sources.shop]\ntype = "files"\npath = "events.csv"\n'
    columns = 'columns = { user = "user", item = "item", order = "t" }\n'
    (folder / "client.toml").write_text(SITE + source + columns)
    (folder / "feedback.sqlite").unlink()
    run("ingest")
    erased = run.json("erase", "17850")
    assert erased["events"] == 3
    assert list(open_store(folder / "store").shoppers()) == ["17851"]


def test_a_session_in_memory_is_found_and_forgotten_by_any_spelling():
    for first, second in itertools.permutations(SPELLINGS, 2):
        sessions = Sessions()
        who = Who(first)
        sessions.add(who.shopper, who.session, "1001")
        assert sessions.joined(Who(second)).items == ("1001",)
        sessions.erase(frozenset({"17850"}))
        assert not len(sessions)
