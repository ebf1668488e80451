"""A ledger's place that cannot be used is refused with a message, and a password is never repeated."""

from pathlib import Path

import pytest

from privacy.errors import LedgerUnreadableError
from privacy.ledger import Ledger


@pytest.mark.parametrize(
    "place",
    [
        "postgresql://someone:hunter2@host:notaport/db",
        "://someone:hunter2@host/db",
        "nosuchdatabase://someone:hunter2@host/db",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(place):
    with pytest.raises(LedgerUnreadableError) as refused:
        Ledger.open(place, population="shop")
    assert "hunter2" not in str(refused.value)


def test_a_path_that_cannot_exist_is_refused(tmp_path):
    with pytest.raises(LedgerUnreadableError):
        Ledger.open(tmp_path / ("x" * 5000), population="shop")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(LedgerUnreadableError):
        Ledger.open(Path(file / "ledger.sqlite"), population="shop")
