"""Ingest: any increments equal one ingest, nothing is lost or doubled, whatever happens in between."""

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.data import load_platform, load_store
from clients.data.ingest import ingest
from clients.data.sources import FilesSource, SqlSource
from clients.data.store import EventStore, Manifest, open_store
from clients.errors import DataError, StoreError
from federation.errors import BusyError

ROOT = Path(__file__).parents[4]
EVENT = st.tuples(
    st.sampled_from(["anna", "ben", "cleo", "", "007"]),
    st.sampled_from(["a", "b", ""]),
    st.integers(1_600_000_000, 1_600_000_004) | st.sampled_from([-1, 4_000_000_000]),
)


def frame(rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


def files(path: Path, **options) -> dict:
    return {"shop": FilesSource(type="files", path=path, **options)}


@settings(max_examples=12, deadline=None)
@given(
    rows=st.lists(EVENT, min_size=1, max_size=25),
    cuts=st.lists(st.integers(0, 25), max_size=3),
    data=st.data(),
)
def test_any_increments_of_a_table_equal_one_ingest(events_of, now, rows, cuts, data):
    """Rows come in any order, late within a day, and equal times fall on both sides of a cut."""
    arrival = data.draw(st.permutations(rows))
    with tempfile.TemporaryDirectory() as folder:
        engine = sa.create_engine(f"sqlite:///{folder}/shop.db", poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE orders (user_id TEXT, item_id TEXT, timestamp INTEGER)")
        source = {"shop": SqlSource(type="sql", url=str(engine.url), table="orders")}
        parts = open_store(Path(folder) / "parts", shards=2)
        bounds = [0, *sorted(min(c, len(rows)) for c in cuts), len(rows)]
        for start, end in itertools.pairwise(bounds):
            with engine.begin() as connection:
                for row in arrival[start:end]:
                    connection.exec_driver_sql("INSERT INTO orders VALUES (?, ?, ?)", row)
            ingest(parts, source, None, now=now, rows=4)
        whole = open_store(Path(folder) / "whole", shards=2)
        ingest(whole, source, None, now=now)
        usable = {(u, i, float(t)) for u, i, t in rows if u and i and 0 <= t <= now}
        assert [row[:3] for row in events_of(parts)] == sorted(usable, key=repr)
        assert events_of(parts) == events_of(whole)


def test_files_are_read_once_and_again_when_they_change(tmp_path, store, now, events_of):
    folder = tmp_path / "in"
    folder.mkdir()
    one, two = frame([("anna", "a", 5), ("ben", "b", 6)]), frame([("anna", "a", 5), ("cleo", "c", 7)])
    one.to_csv(folder / "1.csv", index=False)
    assert ingest(store, files(folder), None, now=now).added == 2
    again = ingest(store, files(folder), None, now=now)
    assert (again.added, again.known, again.reports[0].read) == (0, 0, 0)
    two.to_parquet(folder / "2.parquet")
    done = ingest(store, files(folder), None, now=now)
    assert (done.added, done.known, done.reports[0].read) == (1, 1, 2)
    pd.concat([one, frame([("dora", "d", 8)])]).to_csv(folder / "1.csv", index=False)
    done = ingest(store, files(folder), None, now=now)
    assert (done.added, done.known) == (1, 2)
    full = ingest(store, files(folder), None, now=now, full=True)
    assert (full.added, full.known) == (0, 5)
    assert [row[0] for row in events_of(store)] == ["anna", "ben", "cleo", "dora"]


def test_training_gets_from_the_store_what_it_gets_from_the_file(tmp_path, store, now):
    rng = np.random.default_rng(0)
    rows = [
        (f"u{rng.integers(0, 40)}", f"i{rng.integers(0, 12)}", int(1_600_000_000 + rng.integers(0, 50)))
        for _ in range(600)
    ]
    events = frame([*rows, *rows[:30], ("u1", "unknown", 1_600_000_000), ("few", "i1", 1_600_000_000)])
    events["order_no"] = [f"o{i % 7}" if i % 3 else None for i in range(len(events))]
    events.to_parquet(tmp_path / "events.parquet")
    items = pd.DataFrame({"item_id": [f"i{i}" for i in range(12)], "title": ["red milk"] * 12})
    plain = load_platform(events, items, {"basket": "order_no"}, seed=3)
    source = files(tmp_path / "events.parquet", columns={"basket": "order_no"})
    ingest(store, source, None, now=now, rows=100)
    made = load_store(store, items, seed=3)
    assert made.sequences.fingerprint() == plain.sequences.fingerprint()
    assert made.catalogue.fingerprint == plain.catalogue.fingerprint
    assert (made.events_report.users, made.events_report.items) == (
        plain.events_report.users,
        plain.events_report.items,
    )
    assert made.events_report.kept == plain.events_report.kept


def test_removing_a_shopper_changes_no_other_sequence(tmp_path, now):
    rng = np.random.default_rng(1)
    events = frame([(f"u{i % 9}", f"i{rng.integers(0, 5)}", 1_600_000_000 + i) for i in range(90)])
    items = pd.DataFrame({"item_id": [f"i{i}" for i in range(5)], "title": ["red milk"] * 5})
    made = []
    for name, part in (("all", events), ("less", events[events["user_id"] != "u4"])):
        part.to_parquet(tmp_path / f"{name}.parquet")
        store = open_store(tmp_path / name, shards=3)
        ingest(store, files(tmp_path / f"{name}.parquet"), None, now=now)
        made.append(load_store(store, items, seed=0).sequences)
    assert made[0].without("u4").fingerprint() == made[1].fingerprint()


def test_weights_choose_kinds_and_are_kept(tmp_path, store, now, events_of):
    rows = [
        ("anna", "a", 1, "view"),
        ("anna", "b", 2, "purchase"),
        ("ben", "c", 3, "return"),
        ("ben", "d", 4, None),
    ]
    pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "kind"]).to_parquet(tmp_path / "e.parquet")
    weights = {"view": 0.25, "purchase": 1.0, "return": 0.0}
    source = files(tmp_path / "e.parquet", columns={"event": "kind"}, weights=weights)
    report = ingest(store, source, None, now=now).reports[0]
    assert dict(report.dropped) == {"other_event": 2}
    assert [(row[1], row[4], row[6]) for row in events_of(store)] == [
        ("a", "view", 0.25),
        ("b", "purchase", 1.0),
    ]


def test_rows_that_are_left_out_are_counted_and_shown(tmp_path, store, now):
    rows = [("anna", "a", "5"), ("", "a", "5"), ("ben", "", "5"), ("ben", "a", "soon"), ("ben", "a", "-5")]
    frame([*rows, ("ben", "a", str(int(now + 200_000)))]).to_csv(tmp_path / "e.csv", index=False)
    report = ingest(store, files(tmp_path / "e.csv"), None, now=now).reports[0]
    reasons = ("missing_user_id", "missing_item_id", "bad_time", "negative_time", "future_time")
    assert dict(report.dropped) == dict.fromkeys(reasons, 1)
    assert (report.read, report.kept) == (6, 1)
    assert "'soon'" in "\n".join(report.lines())


class Crash(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", range(6))
def test_a_crash_before_any_durable_step_loses_and_doubles_nothing(
    tmp_path, store, now, events_of, monkeypatch, step
):
    frame([("anna", "a", 5), ("ben", "b", 6), ("cleo", "c", 7)]).to_csv(tmp_path / "e.csv", index=False)
    ingest(store, files(tmp_path / "e.csv"), None, now=now)
    before = events_of(store)
    rows = [(f"u{i}", "a", i) for i in range(20)]
    frame(rows).to_csv(tmp_path / "f.csv", index=False)
    source = files(tmp_path / "e.csv") | {"more": FilesSource(type="files", path=tmp_path / "f.csv")}
    left = iter(range(step))

    def crashing(real):
        def call(*given, **named):
            if next(left, None) is None:
                raise Crash
            return real(*given, **named)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(EventStore, "write", crashing(EventStore.write))
        patch.setattr(
            "clients.data.store.replace", crashing(__import__("federation.files", fromlist=["x"]).replace)
        )
        patch.setattr(EventStore, "clear", crashing(EventStore.clear))
        try:
            ingest(store, source, None, now=now)
        except Crash:
            assert events_of(store) in (before, sorted([*before, *_stored(rows)], key=repr))
    ingest(store, source, None, now=now)
    assert events_of(store) == sorted([*before, *_stored(rows)], key=repr)
    assert len(list(store.path.glob("*.parquet"))) == 2, "nothing of the crash stays"


def _stored(rows):
    return [(user, item, float(time), None, None, None, 1.0) for user, item, time in rows]


PROCESS = """
import sys
from pathlib import Path
from clients.data.ingest import ingest
from clients.data.sources import FilesSource
from clients.data.store import open_store
print("ready", flush=True)
ingest(open_store(Path(sys.argv[1]), shards=2), {"shop": FilesSource(type="files", path=sys.argv[2])}, None,
       now=1.7e9, rows=500)
"""


@pytest.mark.slow
def test_kill_9_in_the_middle_then_once_more_is_as_if_nothing_happened(tmp_path, now, events_of):
    rows = [(f"u{i % 700}", f"i{i % 90}", 1_600_000_000 + i) for i in range(20_000)]
    frame(rows).to_csv(tmp_path / "e.csv", index=False)
    store = open_store(tmp_path / "store", shards=2)
    for wait in (0.05, 0.4):
        with subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(store.path), str(tmp_path / "e.csv")],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(wait)
            os.kill(process.pid, signal.SIGKILL)
        assert len(events_of(store)) in (0, 20_000)
    ingest(store, files(tmp_path / "e.csv"), None, now=now)
    assert events_of(store) == sorted(_stored(rows), key=repr)


def test_an_erased_shopper_is_gone_and_stays_out(tmp_path, store, now, events_of):
    rows = [("anna", "a", 5), ("unmistakable", "b", 6), ("unmistakable", "a", 7), ("cleo", "c", 8)]
    frame(rows).to_csv(tmp_path / "e.csv", index=False)
    ingest(store, files(tmp_path / "e.csv"), None, now=now)
    assert store.erase("unmistakable") == 2
    assert store.erased("unmistakable")
    assert not store.erased("anna")
    assert [row[0] for row in events_of(store)] == ["anna", "cleo"]
    report = ingest(store, files(tmp_path / "e.csv"), None, now=now, full=True).reports[0]
    assert dict(report.dropped) == {"erased": 2}
    assert [row[0] for row in events_of(store)] == ["anna", "cleo"]
    assert not [f for f in store.path.iterdir() if b"unmistakable" in f.read_bytes()]
    assert store.erase("unmistakable") == 0
    assert store.erase("nobody") == 0


def test_nothing_of_an_erased_shopper_is_in_a_shard_that_others_are_in(tmp_path, now):
    """Each distinct id is kept once in a shard's file: an erased one must not stay there."""
    frame([("unmistakable", "only-theirs", 5), ("anna", "a", 6)]).to_csv(tmp_path / "e.csv", index=False)
    store = open_store(tmp_path / "store", shards=1)
    ingest(store, files(tmp_path / "e.csv"), None, now=now)
    store.erase("unmistakable")
    (shard,) = store.path.glob("*.parquet")
    read = pq.read_table(shard, read_dictionary=["user_id", "item_id"])
    assert [read[name].chunk(0).dictionary.to_pylist() for name in ("user_id", "item_id")] == [
        ["anna"],
        ["a"],
    ]
    frame([("unmistakable", "only-theirs", 5), ("ben", "b", 7)]).to_csv(tmp_path / "e.csv", index=False)
    done = ingest(store, files(tmp_path / "e.csv"), None, now=now)
    assert (dict(done.reports[0].dropped), done.reports[0].kept, done.added) == ({"erased": 1}, 1, 1)
    (shard,) = store.path.glob("*.parquet")
    read = pq.read_table(shard, read_dictionary=["user_id", "item_id"])
    assert sorted(read["user_id"].unify_dictionaries().chunk(0).dictionary.to_pylist()) == ["anna", "ben"]


def test_shards_stay_where_they_are_in_every_version():
    """Whoever opens a store with another pandas must find its shoppers: hashes written down here."""
    store, ids = EventStore(Path("nowhere"), b"k" * 32), pa.array(["anna", "ben", "ü"], pa.large_string())
    assert store.shards_of(Manifest(sharding="siphash"), ids).tolist() == [42, 49, 7]
    assert store.shards_of(Manifest(), ids).tolist() == [14, 21, 1]


def test_a_store_of_the_older_sharding_goes_on(tmp_path, now, events_of):
    frame([(f"u{i}", "a", i) for i in range(50)]).to_csv(tmp_path / "e.csv", index=False)
    store = open_store(tmp_path / "store", shards=4)
    text = store.manifest_file.read_text().replace("siphash", "blake2b")
    store.manifest_file.write_text(text)
    assert ingest(store, files(tmp_path / "e.csv"), None, now=now).added == 50
    assert ingest(store, files(tmp_path / "e.csv"), None, now=now, full=True).added == 0
    assert store.erase("u7") == 1
    assert len(events_of(store)) == 49


def test_a_weight_that_was_changed_takes_the_old_ones_place(tmp_path, store, now, events_of):
    rows = [
        ("anna", "a", 1, "view"),
        ("anna", "a", 1, "view"),
        ("ben", "b", 2, "view"),
        ("ben", "b", 2, "cart"),
    ]
    pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "kind"]).to_parquet(tmp_path / "e.parquet")
    for view in (0.25, 0.5, 0.5, 1.0):
        source = files(
            tmp_path / "e.parquet", columns={"event": "kind"}, weights={"view": view, "cart": 0.75}
        )
        done = ingest(store, source, None, now=now, full=True)
        assert (done.reports[0].kept, done.added) == (4, 3 if view == 0.25 else 0)
        assert [row[6] for row in events_of(store)] == [view, 0.75, view]


def test_two_do_not_change_a_store_at_once(tmp_path, store, now):
    frame([("anna", "a", 5)]).to_csv(tmp_path / "e.csv", index=False)
    with store.changing(), pytest.raises(BusyError, match="holds"):
        ingest(store, files(tmp_path / "e.csv"), None, now=now)


def test_times_and_positions_are_not_mixed(tmp_path, store, now):
    frame([("anna", "a", 5)]).to_csv(tmp_path / "e.csv", index=False)
    frame([("anna", "a", 5)]).rename(columns={"timestamp": "pos"}).to_csv(tmp_path / "p.csv", index=False)
    ingest(store, files(tmp_path / "e.csv"), None, now=now)
    with pytest.raises(DataError, match="orders events by position, what is in the store by time"):
        ingest(store, files(tmp_path / "p.csv"), None, now=now)


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("manifest.json", b"{", "cannot be read"),
        ("manifest.json", b'{"version": 2}', "version 2"),
        ("key", None, "is missing"),
    ],
)
def test_a_damaged_store_is_refused_and_never_begun_anew(tmp_path, store, now, name, data, told):
    frame([("anna", "a", 5)]).to_csv(tmp_path / "e.csv", index=False)
    ingest(store, files(tmp_path / "e.csv"), None, now=now)
    if data is None:
        (store.path / name).unlink()
    else:
        (store.path / name).write_bytes(data)
    with pytest.raises(StoreError, match=told):
        ingest(open_store(store.path), files(tmp_path / "e.csv"), None, now=now, full=True)


def test_a_damaged_shard_is_named(tmp_path, store, now):
    frame([("anna", "a", 5)]).to_csv(tmp_path / "e.csv", index=False)
    ingest(store, files(tmp_path / "e.csv"), None, now=now)
    (shard,) = store.path.glob("*.parquet")
    shard.write_bytes(b"PAR1 no more")
    with pytest.raises(StoreError, match=shard.name):
        list(store.tables())
