"""A feedback store of each kind."""

import pytest


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def where(request, tmp_path) -> str:
    """A place for a store of each kind in turn, where the server is there."""
    if request.param == "sqlite":
        return str(tmp_path / "feedback.sqlite")
    return str(request.getfixturevalue(request.param))
