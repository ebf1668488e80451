"""The store: durable before it is acknowledged, once for each id, whole batches only."""

import os
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest
import sqlalchemy as sa

from clients.errors import FeedbackError, StoreError
from clients.feedback import FeedbackStore, Impression, Interaction, Kind, Recorded
from clients.feedback.tables import IMPRESSIONS, INTERACTIONS

ROOT = Path(__file__).parents[3]


def shown(event: str, shopper: str = "anna", items: tuple[str, ...] = ("a", "b")) -> Impression:
    return Impression(event, f"r-{event}", shopper, items, 1_700_000_000.5, model_version="3", arm="new")


def bought(event: str, shopper: str = "anna", item: str = "a", value: float | None = 2.5) -> Interaction:
    return Interaction(event, shopper, item, Kind.PURCHASE, 1_700_000_001.0, request_id="r", value=value)


def rows(store: FeedbackStore, table: sa.Table, *shoppers: str) -> list[sa.RowMapping]:
    query = sa.select(table).where(table.c.shopper.in_(shoppers)).order_by(*table.primary_key)
    with store.engine.connect() as connection:
        return list(connection.execute(query).mappings())


def test_a_batch_is_stored_once_however_often_it_is_sent(where):
    store, one, who = FeedbackStore(where, clock=lambda: 7.0), uuid.uuid4().hex, uuid.uuid4().hex
    batch = [
        shown(one, who, ("b", "a")),
        bought(one, who),
        bought(one + "x", who, value=None),
        bought(one, who),
    ]
    assert store.record(batch) == Recorded(3, 1)
    assert store.record(batch) == Recorded(0, 4)
    assert store.record([bought(one, who, "other"), bought(one + "y", who)]) == Recorded(1, 1)
    lists = rows(store, IMPRESSIONS, who)
    assert [(r["position"], r["item"], r["arm"], r["model_version"]) for r in lists] == [
        (0, "b", "new", "3"),
        (1, "a", "new", "3"),
    ]
    done = rows(store, INTERACTIONS, who)
    assert [(r["item"], r["value"], r["kind"], r["recorded"]) for r in done] == [
        ("a", 2.5, "purchase", 7.0),
        ("a", None, "purchase", 7.0),
        ("a", 2.5, "purchase", 7.0),
    ]
    assert done[0]["time"] == 1_700_000_001.0
    store.close()


def test_ids_that_look_alike_differ(where):
    store, one = FeedbackStore(where), uuid.uuid4().hex
    assert store.record([bought(one + "é", one), bought(one + "e", one), bought(one + "E", one)]) == Recorded(
        3, 0
    )
    store.close()


def test_threads_and_processes_that_send_the_same_store_it_once(where):
    one, who = uuid.uuid4().hex, uuid.uuid4().hex
    stores = [
        FeedbackStore(where),
        FeedbackStore(where),
    ]  # as two processes: nothing is shared but the database
    batch = [event for i in range(20) for event in (shown(f"{one}{i}", who), bought(f"{one}{i}", who))]
    taken: list[Recorded] = []
    threads = [
        threading.Thread(target=lambda s=store: taken.append(s.record(batch)))
        for store in stores
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(r.accepted for r in taken) == 40
    assert sum(r.duplicates for r in taken) == 5 * 40
    assert (len(rows(stores[0], IMPRESSIONS, who)), len(rows(stores[0], INTERACTIONS, who))) == (40, 20)
    for store in stores:
        store.close()


def test_an_erased_shopper_leaves_no_row_and_others_stay(where):
    store, one = FeedbackStore(where), uuid.uuid4().hex
    anonymous = Interaction(f"{one}s", "", "a", Kind.CLICK, 5.0, session=one)
    store.record([shown(one, one), bought(one, one), bought(one + "2", one + "else"), anonymous])
    assert store.erase(one, [one]) == 4
    assert (rows(store, IMPRESSIONS, one), rows(store, INTERACTIONS, one, "")) == ([], [])
    assert len(rows(store, INTERACTIONS, one + "else")) == 1
    assert store.erase(one) == 0
    store.close()


def test_an_erased_shopper_is_not_in_the_files_either(tmp_path):
    store = FeedbackStore(tmp_path / "feedback.sqlite")
    store.record([shown("e1", "unmistakable-shopper")])
    store.erase("unmistakable-shopper")
    store.close()
    assert not [f for f in tmp_path.iterdir() if b"unmistakable" in f.read_bytes()]


SENDER = """
import sys
from clients.feedback import FeedbackStore, Interaction, Kind
store = FeedbackStore(sys.argv[1])
for i in range(100_000):
    store.record([Interaction(f"{sys.argv[2]}-{i}-{k}", "anna", "a", Kind.CLICK, 1.0) for k in range(3)])
    print(i, flush=True)
"""


@pytest.mark.slow
def test_what_was_acknowledged_outlives_kill_9(where):
    one = uuid.uuid4().hex
    with subprocess.Popen(
        [sys.executable, "-c", SENDER, where, one], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as sender:
        assert sender.stdout is not None
        for line in sender.stdout:
            if line.strip() == "20":
                break
        os.kill(sender.pid, signal.SIGKILL)
        acknowledged = [20] + [int(line) for line in sender.stdout if line.endswith("\n")]
    store = FeedbackStore(where)
    query = sa.select(INTERACTIONS.c.event_id).where(INTERACTIONS.c.event_id.startswith(one))
    with store.engine.connect() as connection:
        stored = set(connection.execute(query).scalars())
    store.close()
    expected = {f"{one}-{i}-{k}" for i in range(max(acknowledged) + 1) for k in range(3)}
    assert expected <= stored
    assert len(stored) % 3 == 0, "a batch is there whole or not at all"


def test_nothing_of_a_batch_stays_where_a_part_cannot_be_stored(tmp_path):
    store = FeedbackStore(tmp_path / "feedback.sqlite")
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE feedback_interactions")
    with pytest.raises(StoreError) as caught:
        store.record([shown("e1", "anna"), bought("e1", "secret-shopper")])
    assert "secret-shopper" not in str(caught.value)
    assert rows(store, IMPRESSIONS, "anna") == []
    store.close()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql+psycopg://shop:hunter2@127.0.0.1:1/none", "shop:***@127.0.0.1:1"),
        ("nodialect://shop:hunter2@db/none", "cannot be"),
        ("://", "cannot be read"),
    ],
)
def test_a_database_that_cannot_be_reached_is_named_without_its_password(url, told):
    with pytest.raises(StoreError, match=r"^(a )?database") as caught:
        FeedbackStore(url)
    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: bought(""), "event_id: is missing"),
        (lambda: bought("e", "x" * 129), "at most 128"),
        (lambda: bought("e", ""), "shopper, session"),
        (lambda: bought("e\n"), "cannot be seen"),
        (lambda: bought("e", value=float("nan")), "value: nan"),
        (lambda: Interaction("e", "u", "i", "click", 1.0), "kind: 'click'"),
        (lambda: Interaction("e", "u", "i", Kind.CLICK, float("nan")), "time: nan"),
        (lambda: Interaction("e", "u", "i", Kind.CLICK, -1.0), "time: -1.0"),
        (lambda: shown("e", items=()), "shows 1 to 1,000 items, not 0"),
        (lambda: shown("e", items=("a", "")), "items: is missing"),
        (lambda: Impression("e", "", "u", ("a",), 1.0), "request_id: is missing"),
    ],
)
def test_events_that_cannot_be_stored_say_why(make, told):
    with pytest.raises(FeedbackError, match=told):
        make()
