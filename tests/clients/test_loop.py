"""The loop: a database's rows → ingest → training → feedback → the next ingest, under one population and ledger."""

import pytest
import sqlalchemy as sa

from clients.data.ingest import ingest
from clients.data.sources import FeedbackSource, SqlSource
from clients.data.store import open_store
from clients.feedback import FeedbackStore, Impression, Interaction, Kind
from clients.fresh import Fresh, fresh_events
from clients.participate import participate, plan_for
from clients.platform import HashableSite, prepare_platform
from privacy.accounting import epsilon

NOW = 1_700_000_000.0


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request, tmp_path, events):
    """A platform's database with a table of orders, and room for feedback."""
    kind = request.param
    url = f"sqlite:///{tmp_path / 'shop.db'}" if kind == "sqlite" else request.getfixturevalue(kind)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    metadata = sa.MetaData()
    columns = (
        sa.Column("customer", sa.String(20)),
        sa.Column("sku", sa.String(20)),
        sa.Column("at", sa.BigInteger),
    )
    orders = sa.Table("loop_orders", metadata, *columns)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    frame = events().rename(columns={"user_id": "customer", "item_id": "sku", "timestamp": "at"})
    with engine.begin() as connection:
        connection.execute(sa.insert(orders), frame.to_dict("records"))
    yield url
    metadata.drop_all(engine)


def test_what_shoppers_did_trains_next_and_is_charged_to_the_same_ledger(
    url, tmp_path, make_site, ask, start, ledger_of
):
    columns = {"user": "customer", "item": "sku", "order": "at"}
    sources = {
        "orders": SqlSource(type="sql", url=url, table="loop_orders", columns=columns),
        "feedback": FeedbackSource(type="feedback", where=url),
    }
    site = make_site(cap=20.0).model_copy(
        update={"events": None, "sources": sources, "store": tmp_path / "store"}
    )
    feedback, store = FeedbackStore(url), open_store(site.store, shards=4)
    ingest(store, sources, None, now=NOW)
    stored = store.manifest().added
    assert fresh_events(site) == Fresh(stored, None)
    first = ask.model_copy(update={"run_id": "first"})
    before = participate(site, first, start(first))
    assert fresh_events(site) == Fresh(0, "first")
    known = prepare_platform(HashableSite(site), first.encoder_names, 6)

    lists = [Impression("loop-1", "loop-r", "u01", ("i05", "i07"), NOW - 60, model_version="1", arm="new")]
    done = [Interaction("loop-2", "u01", "i07", Kind.PURCHASE, NOW - 50, request_id="loop-r", value=3.0)]
    assert feedback.record([*lists, *done]).accepted == 2
    assert ingest(store, sources, None, now=NOW).added == 1
    assert fresh_events(site) == Fresh(1, "first"), "this is what asks for the second run"
    feedback.erase("u01")
    feedback.close()

    second = ask.model_copy(update={"run_id": "second"})
    again = prepare_platform(HashableSite(site), second.encoder_names, 6)
    u = again.split.sequences.user_ids.index("u01")
    items, _ = again.split.sequences.user(u)
    assert again.catalogue.item_ids[items[-1]] == "i07"
    assert len(again.split.sequences.items) == len(known.split.sequences.items) + 1
    after = participate(site, second, start(second))
    assert fresh_events(site) == Fresh(0, "second")

    event = plan_for(site, second).event_of(0)
    ledger = ledger_of(site)
    assert ledger.budget().population == site.population
    assert before.receipt.committed == pytest.approx(epsilon([event], site.delta), rel=1e-6)
    assert after.receipt.committed == pytest.approx(epsilon([event, event], site.delta), rel=1e-6)
