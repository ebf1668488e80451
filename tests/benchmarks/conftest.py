"""Made-up shops that the tests of the transfer benchmark share."""

import pytest

from benchmarks.transfer.platforms import Platforms
from benchmarks.transfer.quick import quick_study, write_shops


@pytest.fixture(scope="module")
def platforms(tmp_path_factory) -> Platforms:
    folder = tmp_path_factory.mktemp("shops")
    return Platforms(quick_study(), write_shops(folder, quick_study()))


@pytest.fixture
def alpha(platforms):
    return platforms.loaded["alpha"]
