"""`fedcart client ingest` and `erase` through the front door, and the settings of sources."""

import json
import sqlite3

import numpy as np
import pandas as pd
import pytest

from clients.data.store import open_store
from clients.errors import SiteError
from clients.feedback import FeedbackStore, Impression, Interaction, Kind
from clients.platform import HashableSite, prepare_platform, read_data
from clients.site import load_site
from tests.front_door import FrontDoor

SITE = """
name = "shop"
items = "items.csv"
population_size = 100
epsilon_cap = 8.0
ledger = "ledger.sqlite"
work = "work"
cache = "cache"
[sources.orders]
type = "sql"
url = "sqlite:///{folder}/shop.db"
table = "orders"
[sources.feedback]
type = "feedback"
"""


@pytest.fixture
def folder(tmp_path):
    """A platform with a database of orders and a feedback store."""
    (tmp_path / "client.toml").write_text(SITE.format(folder=tmp_path))
    items = pd.DataFrame({"item_id": list("abcd"), "title": ["red milk", "lamp", "chair", "doll"]})
    items.assign(price=[1.0, None, None, 2.0]).to_csv(tmp_path / "items.csv", index=False)
    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute("CREATE TABLE orders (user_id TEXT, item_id TEXT, timestamp INTEGER)")
        rows = [(f"u{i % 4}", "abcd"[i % 3], 1_600_000_000 + i) for i in range(20)]
        database.executemany("INSERT INTO orders VALUES (?, ?, ?)", [*rows, (None, "a", 5)])
    store = FeedbackStore(tmp_path / "feedback.sqlite")
    store.record([Interaction("e1", "u1", "d", Kind.PURCHASE, 1_600_000_100.0)])
    store.close()
    return tmp_path


@pytest.fixture
def run(capfd, folder):
    """Run `fedcart client …` on the folder: exit code, standard output, standard error."""
    return FrontDoor(capfd, before=("client",), after=("--folder", folder))


def test_ingest_reports_what_it_did_and_what_is_there(run):
    code, out, _ = run("ingest", "--format", "json")
    done = json.loads(out)
    assert (code, done["added"], done["known"]) == (0, 21, 0)
    assert [s["dropped"] for s in done["sources"]] == [{"missing_user_id": 1}, {}]
    stored = done["store"]
    assert (stored["events"], stored["shoppers"], stored["items"]) == (21, 4, 4)
    assert stored["lengths"] == [{"from": 4, "to": 7, "shoppers": 4}]
    assert (stored["coverage"]["text"], stored["coverage"]["price"]) == (1.0, 0.5)
    assert stored["events_of_known_items"] == 1.0
    code, out, _ = run("ingest")
    assert code == 0
    assert "added 0 events; 21 were there already" in out
    assert "21 events of 4 shoppers" in out


def test_ingest_anew_keeps_what_the_sources_have_now(run, folder):
    run("ingest")
    with sqlite3.connect(folder / "shop.db") as database:
        database.execute("DELETE FROM orders WHERE user_id = 'u1'")
    code, out, _ = run("ingest", "--full")
    assert (code, "added 0 events; 16 were there already\n" in out) == (0, True)
    code, out, _ = run("ingest", "--anew")
    assert (code, "added 0 events; 16 were there already; 5 that the sources no longer have went" in out) == (
        0,
        True,
    )
    code, out, _ = run("ingest", "--anew", "--format", "json")
    assert (json.loads(out)["removed"], json.loads(out)["store"]["events"]) == (0, 16)


def test_erase_reaches_data_sequences_and_feedback(run, folder):
    run("ingest")
    site = load_site(folder / "client.toml")
    encoders = ("tiny",)
    before = prepare_platform(HashableSite(site), encoders, 8)
    (folder / "students" / "abc").mkdir(parents=True)
    (folder / "students" / "abc" / "student.safetensors").write_bytes(b"what shoppers did")
    code, out, _ = run("erase", "u1", "--format", "json")
    assert (code, json.loads(out)) == (0, {"events": 6, "feedback": 1, "students": True, "files": None})
    assert not (folder / "students").exists()
    after = prepare_platform(HashableSite(site), encoders, 8)
    assert "u1" in before.split.sequences.user_ids
    expected = before.split.sequences.without("u1").fingerprint()
    assert after.split.sequences.fingerprint() == expected, "others' sequences are as they were"
    assert json.loads(run("ingest", "--full", "--format", "json")[1])["added"] == 0
    assert "u1" not in read_data(site).sequences.user_ids
    assert run("erase", "u1")[0] == 0
    assert run("erase", " ")[0] == 2


def test_report_shows_lists_by_version_and_arm(run, folder):
    run("ingest")
    assert run("report")[:2] == (0, "No list was recorded yet.\n")
    store = FeedbackStore(folder / "feedback.sqlite")
    store.record([Impression(f"i{k}", f"r{k}", f"u{k}", ("a", "b"), 1.0, arm="AB"[k % 2]) for k in range(4)])
    store.record([Interaction("c", "u1", "b", Kind.CLICK, 2.0, request_id="r1")])
    store.close()
    code, out, _ = run("report", "--format", "json")
    found = json.loads(out)
    assert code == 0
    assert [(g["arm"], g["lists"], g["click_through"]["value"]) for g in found["groups"]] == [
        ("A", 2, 0.0),
        ("B", 2, 0.5),
    ]
    code, out, _ = run("report", "--by", "week")
    assert code == 0
    assert "arm B − A: click_through 0.500" in out


def test_images_are_counted_and_a_bad_file_changes_nothing(run, folder):
    text = (folder / "client.toml").read_text()
    (folder / "client.toml").write_text(text + '[images]\nclip = "clip.npz"\n')
    code, _, err = run("ingest")
    assert (code, "clip.npz" in err) == (2, True)
    assert open_store(folder / "store").manifest().generation == 0
    np.savez(folder / "clip.npz", item_id=["a", "zz"], vector=np.eye(2, 4))
    code, out, _ = run("ingest")
    assert (code, "catalogue items with image (clip): 25.0%" in out) == (0, True)


def test_a_feedback_store_that_nothing_was_recorded_in_has_no_rows_and_is_not_made(run, folder):
    for file in folder.glob("feedback.sqlite*"):
        file.unlink()
    code, out, _ = run("ingest")
    assert (code, "feedback: kept 0 of 0 rows" in out, "added 20 events" in out) == (0, True, True)
    assert not (folder / "feedback.sqlite").exists()
    FeedbackStore(folder / "feedback.sqlite").close()
    assert run("ingest")[0] == 0


def test_feedback_that_was_there_and_is_gone_is_refused(run, folder):
    assert run("ingest")[0] == 0
    with sqlite3.connect(folder / "feedback.sqlite") as database:
        database.execute("ALTER TABLE feedback_interactions RENAME TO elsewhere")
    code, _, err = run("ingest")
    assert (code, "there is no such table" in err) == (2, True)


def test_what_cannot_be_used_has_a_code_and_changes_nothing(run, folder):
    code, _, err = run("ingest")
    assert code == 0
    before = (folder / "store" / "manifest.json").read_bytes()
    with sqlite3.connect(folder / "shop.db") as database:
        database.execute("ALTER TABLE orders RENAME TO bookings")
    code, _, err = run("ingest")
    assert (code, "there is no such table" in err) == (2, True)
    (folder / "shop.db").write_bytes(b"no database at all" * 100)
    code, _, err = run("ingest")
    assert (code, "not a database" in err) == (4, True)
    assert (folder / "store" / "manifest.json").read_bytes() == before


def test_training_before_the_first_ingest_says_what_to_do(folder):
    with pytest.raises(Exception, match="fedcart client ingest"):
        read_data(load_site(folder / "client.toml"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (('table = "orders"', 'tabel = "orders"'), "there is no such key; did you mean 'table'"),
        (('type = "sql"', 'type = "mongo"'), "'sql'"),
        (('items = "items.csv"', 'items = "items.csv"\nevents = "e.csv"'), "either events = FILE, or"),
        (('items = "items.csv"', ""), "either items = FILE, or"),
        (('table = "orders"', 'table = "orders"\ntimezone = "Europe/Berln"'), "is no time zone"),
        (('table = "orders"', 'table = "orders"\nlate = -1'), "late"),
        (('table = "orders"', 'table = "orders"\nweights = { view = -1 }'), "weights"),
        (('table = "orders"', 'table = "orders"\nweights = { view = 1, buy = 4 }'), "divide them all by 4"),
    ],
)
def test_settings_that_are_none_are_explained(folder, change, told):
    text = (folder / "client.toml").read_text()
    assert change[0] in text
    (folder / "client.toml").write_text(text.replace(*change, 1))
    with pytest.raises(SiteError) as caught:
        load_site(folder / "client.toml")
    assert told in str(caught.value)


def test_the_busiest_account_is_named_where_it_is_no_person_and_never_in_json(run, folder):
    assert "  the busiest account has 6 of 21 events (28.6%)\n" in run("ingest")[1]
    with sqlite3.connect(folder / "shop.db") as database:
        more = [(f"v{u}", "a", 1_600_001_000 + u) for u in range(400)]
        more += [("r\x1b[2Jobot", "abcd"[i % 4], 1_600_002_000 + i) for i in range(300)]
        database.executemany("INSERT INTO orders VALUES (?, ?, ?)", more)
    code, out, _ = run("ingest")
    told = "the busiest account has 300 of 721 events (41.6%), 169 times the average: 'r\\x1b[2Jobot'. "
    assert (code, told in out, "fedcart client erase" in out) == (0, True, True)
    out = run("ingest", "--format", "json")[1]
    assert json.loads(out)["store"]["most_events_of_an_account"] == 300
    assert "obot" not in out


def test_product_codes_come_through_the_store_and_are_counted(run, folder):
    items = pd.DataFrame({"sku": list("abcd"), "title": ["red milk", "lamp", "chair", "doll"]})
    items.assign(gtin=[4006381333931.0, None, 4006381333932.0, 36000291452.0]).to_parquet(
        folder / "items.parquet"
    )
    site = (folder / "client.toml").read_text().replace('items = "items.csv"\n', "")
    catalogue = (
        '[catalogue]\ntype = "files"\npath = "items.parquet"\ncolumns = { item = "sku", code = "gtin" }\n'
    )
    (folder / "client.toml").write_text(site + catalogue)
    code, out, _ = run("ingest")
    assert code == 0
    assert "  items with a valid product code: 2 of 4\n  codes not used, wrong check digit: 1\n" in out
    keys = read_data(load_site(folder / "client.toml")).catalogue.keys.texts
    assert keys == ("gtin:04006381333931", "title:lamp|", "title:chair|", "gtin:00036000291452")
    stored = json.loads(run("ingest", "--format", "json")[1])["store"]
    assert (stored["codes"]["valid"], stored["codes"]["known"]) == (2, None)
