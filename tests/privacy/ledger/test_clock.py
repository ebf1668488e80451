"""Time never runs backwards in a ledger, on any database."""

from datetime import UTC, datetime, timedelta

import pytest

from privacy.errors import LedgerClockError
from privacy.ledger import Ledger

START = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def at(database, population, key):
    """The ledger as a process sees it whose clock is off by so much; made at START."""
    Ledger.create(database, population=population, epsilon_cap=4.0, delta=1e-6, key=key, clock=lambda: START)

    def reopen(**off):
        return Ledger.open(database, population=population, key=key, clock=lambda: START + timedelta(**off))

    return reopen


def test_time_running_backwards_is_refused_with_the_entry_named(at, reserve):
    late = at(seconds=-2)
    with pytest.raises(LedgerClockError, match=r"entry 0 .* 2030-01-01T00:00:00"):
        reserve(late, "r/1")
    assert late.budget().committed == 0.0
    assert late.verify().ok


def test_a_correction_under_a_second_is_absorbed(at, reserve):
    reserve(at(hours=1), "r/1")
    slightly = at(minutes=59, seconds=59, milliseconds=100)
    reserve(slightly, "r/2")
    assert slightly.verify().ok
    times = [entry.time for entry in slightly.history()]
    assert times == sorted(times)
