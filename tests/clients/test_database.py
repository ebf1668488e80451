"""URLs of a platform's databases: what cannot be read is refused without being repeated."""

import pytest

from clients.database import database_url, open_engine
from clients.errors import StoreError


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://shop:hun@ter2@db/shop", "://hun@ter2", "nonsense+://shop:hun@ter2@db"]
)
def test_a_url_that_cannot_be_read_is_not_repeated(url):
    with pytest.raises(StoreError) as caught:
        open_engine(url, ours=True)
    assert "ter2" not in str(caught.value)


def test_a_path_is_a_sqlite_file(tmp_path):
    assert database_url(tmp_path / "a@b.sqlite").database == str(tmp_path / "a@b.sqlite")
