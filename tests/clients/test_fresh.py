"""What is new since the last run: counted by what trained, not by clocks; told to the platform alone."""

import json
import sqlite3
from pathlib import Path

import pytest

from clients.data.ingest import ingest
from clients.data.sources import SqlSource
from clients.data.store import open_store
from clients.errors import SiteError, StoreError
from clients.fresh import Fresh, fresh_events, mark_trained
from clients.participate import participate
from privacy.ledger import Ledger
from shared_model.exchange import fingerprint
from tests.front_door import FrontDoor

NOW = 1_700_000_000.0


@pytest.fixture
def shop(tmp_path, make_site, events):
    """A site whose events are in a database, and what ingests `count` more of them."""
    with sqlite3.connect(tmp_path / "shop.db") as database:
        events().to_sql("orders", database, index=False)
    sources = {"orders": SqlSource(type="sql", url=f"sqlite:///{tmp_path / 'shop.db'}", table="orders")}
    site = make_site().model_copy(update={"events": None, "sources": sources})

    def more(count: int) -> int:
        with sqlite3.connect(tmp_path / "shop.db") as database:
            at = database.execute("SELECT max(timestamp) FROM orders").fetchone()[0]
            rows = [(f"u{n % 9:02}", f"i{n:02}", at + 1 + n) for n in range(count)]
            database.executemany("INSERT INTO orders VALUES (?, ?, ?)", rows)
        return ingest(open_store(site.store), site.sources, None, now=NOW).added

    return site, more


def test_each_event_is_new_until_a_round_has_read_it(shop, ask, start):
    site, more = shop
    assert fresh_events(site) == Fresh(0, None)
    first = more(0)
    assert fresh_events(site) == Fresh(first, None)
    participate(site, ask, start(ask))
    assert fresh_events(site) == Fresh(0, "run-1")
    assert more(3) == 3
    assert more(2) == 2
    assert more(0) == 0
    assert fresh_events(site) == Fresh(5, "run-1")
    open_store(site.store).erase("u01")
    assert fresh_events(site) == Fresh(5, "run-1"), "an erasure makes nothing new"
    participate(site, ask.model_copy(update={"run_id": "run-2"}), start(ask))
    assert fresh_events(site) == Fresh(0, "run-2")


def test_an_answer_that_is_sent_again_has_not_read_what_came_meanwhile(shop, ask, start):
    site, more = shop
    more(0)
    participate(site, ask, start(ask))
    more(4)
    participate(site, ask, start(ask))
    assert fresh_events(site) == Fresh(4, "run-1")


def test_what_leaves_is_the_same_whether_much_is_new_or_nothing(shop, ask, start, tmp_path):
    """The count is no part of an answer, and of no entry of the ledger."""
    site, more = shop
    more(0)
    answers, entries = [], []
    for name in ("all", "little"):
        kept = {
            "ledger": str(tmp_path / f"{name}.sqlite"),
            "work": tmp_path / name,
            "reproducible_noise": True,
        }
        one = site.model_copy(update=kept)
        ledger = Ledger.create(Path(one.ledger), population=one.population, epsilon_cap=9.0, delta=one.delta)
        if name == "little":
            mark_trained(one, "run-0", fresh_events(one).events - 1)
        answers.append(participate(one, ask, start(ask)))
        key = {"key": "it holds the outbox's id"}
        entries.append([(entry.kind, entry.body | key) for entry in ledger.history()][1:])
    assert fingerprint(answers[0].arrays) == fingerprint(answers[1].arrays)
    assert answers[0].statement == answers[1].statement
    assert entries[0] == entries[1]


def test_a_store_that_was_begun_anew_is_new_and_a_damaged_mark_is_said(shop):
    site, more = shop
    added = more(0)
    mark_trained(site, "old", added + 100)
    assert fresh_events(site) == Fresh(added, "old")
    (site.work / "trained.json").write_text("{")
    with pytest.raises(StoreError, match="Delete it"):
        fresh_events(site)
    with pytest.raises(SiteError, match=r"no \[sources.NAME\]"):
        fresh_events(site.model_copy(update={"sources": {}}))


def test_a_mark_that_cannot_be_written_stops_no_round(shop, ask, start, tmp_path):
    site, more = shop
    more(0)
    (site.work / "trained.json").mkdir(parents=True)
    assert participate(site, ask, start(ask)).receipt is not None


def test_the_command_says_how_many_and_its_code_whether_they_are_enough(tmp_path, capfd):
    (tmp_path / "client.toml").write_text(
        'name = "shop"\nitems = "items.csv"\npopulation_size = 100\nepsilon_cap = 8.0\nledger = "ledger.sqlite"\n'
        'work = "work"\ncache = "cache"\n[sources.files]\ntype = "files"\npath = "events.csv"\n'
    )
    (tmp_path / "items.csv").write_text("item_id,title\na,milk\n")
    (tmp_path / "events.csv").write_text(
        "user_id,item_id,timestamp\n" + "".join(f"u,a,{n}\n" for n in range(7))
    )

    call = FrontDoor(capfd, before=("client",), after=("--folder", tmp_path))
    assert call("fresh")[0] == 1
    assert call.json("ingest")["fresh"] == {"events": 7, "run": None}
    assert call("fresh", "--at-least", "7")[:2] == (
        0,
        "7 events are new since the beginning: no run trained here yet; enough for a run (at least 7)\n",
    )
    code, out, _ = call("fresh", "--at-least", "8", "--format", "json")
    assert (code, json.loads(out)) == (1, {"events": 7, "run": None, "at_least": 8, "enough": False})
    text = (tmp_path / "client.toml").read_text().replace("[sources.files]", "[other.files]")
    (tmp_path / "client.toml").write_text(
        text.split("[other.files]")[0].replace("items =", 'events = "events.csv"\nitems =')
    )
    assert call("fresh")[0] == 2
