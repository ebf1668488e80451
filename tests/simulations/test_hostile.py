"""One of five members lies: it is refused by name, and the table is as if it were not there; what passes is bounded."""

import numpy as np
import pytest

import server.replies
from server.events import read_events
from server.refusals import refusals
from shared_model.encoders import HashedWordsEncoder
from shared_model.features import ENCODERS
from shared_model.reach import reach_of
from shared_model.vocabulary_file import load_vocabulary
from tests.simulations import hostile


@pytest.fixture(scope="module")
def shops(tmp_path_factory):
    """Return five sites and their vocabulary, and the table of the four honest ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENCODERS, "sixteen", lambda: HashedWordsEncoder(dimension=16, buckets=2**10))
        folder = tmp_path_factory.mktemp("hostile")
        sites = hostile.sites_in(folder)
        vocabulary = load_vocabulary(folder / "vocabulary.safetensors")
        honest = hostile.federate(folder / "honest", sites[:-1], vocabulary)
        assert honest["popularity"].sum() > 100
        assert honest["edges"].sum() > 100
        yield sites, vocabulary, honest


class Stale:
    """In the second round what was said of the first."""

    def __init__(self):
        self.round, self.first = 0, None

    def __call__(self, honest):
        self.round += 1
        self.first = self.first or honest
        return self.first

    @property
    def stale(self):
        return self.round == 2


LIES = {
    "exchange.not-finite": lambda honest: {n: np.full_like(a, np.nan) for n, a in honest.items()},
    "exchange.reach": lambda honest: {n: 20 * a for n, a in honest.items()},
    "exchange": lambda honest: {n: a[:-1] for n, a in honest.items()},
    "reply.receipt": lambda honest: {n: a[::-1] for n, a in honest.items()},
}


@pytest.mark.parametrize("code", LIES)
def test_a_lie_is_refused_by_name_and_code_and_the_table_is_that_of_the_honest(shops, tmp_path, code):
    sites, vocabulary, honest = shops
    table = hostile.federate(tmp_path / "run", sites, vocabulary, LIES[code])
    found = refusals(read_events(tmp_path / "run"))
    assert [(r["platform"], r["code"], r["rounds"]) for r in found] == [("echo", code, [1, 2])]
    for name, array in honest.items():
        np.testing.assert_array_equal(table[name], array, err_msg=name)


@pytest.mark.parametrize("most", [1e30, np.finfo(np.float32).max])
def test_the_largest_numbers_are_refused_too(shops, tmp_path, most):
    sites, vocabulary, honest = shops
    lie = lambda sums: {n: np.full_like(a, most) for n, a in sums.items()}  # noqa: E731
    table = hostile.federate(tmp_path / "run", sites, vocabulary, lie)
    assert [r["code"] for r in refusals(read_events(tmp_path / "run"))] == ["exchange.reach"]
    np.testing.assert_array_equal(table["edges"], honest["edges"])


def test_an_old_sum_is_refused(shops, tmp_path):
    sites, vocabulary, _ = shops
    hostile.federate(tmp_path / "run", sites, vocabulary, Stale())
    found = refusals(read_events(tmp_path / "run"))
    assert [(r["platform"], r["code"], r["rounds"]) for r in found] == [("echo", "reply.stale", [2])]


class Favourite:
    """One product, as far as `share` of what a member of the declared size may say; its receipt is for that."""

    signs = True

    def __init__(self, share):
        self.share = share

    def __call__(self, honest):
        (name,) = honest
        sent = np.zeros_like(honest[name])
        sent[0] = self.share * reach_of(hostile.SHOPPERS, 0.0, sent.size)
        return {name: sent}


def test_what_passes_moves_the_table_by_no_more_than_the_declared_size_allows(shops, tmp_path):
    sites, vocabulary, honest = shops
    table = hostile.federate(tmp_path / "in", sites, vocabulary, Favourite(0.999), rounds=1)
    assert refusals(read_events(tmp_path / "in")) == [], "no check can know it"
    moved = np.linalg.norm(table["popularity"] - honest["popularity"])
    assert 0 < moved <= 2 * hostile.SHOPPERS
    table = hostile.federate(tmp_path / "beyond", sites, vocabulary, Favourite(1.001), rounds=1)
    assert [r["code"] for r in refusals(read_events(tmp_path / "beyond"))] == ["exchange.reach"]
    np.testing.assert_array_equal(table["popularity"], honest["popularity"])


def test_without_the_reach_one_member_would_outshout_all(shops, tmp_path, monkeypatch):
    sites, vocabulary, honest = shops
    monkeypatch.setattr(server.replies, "require_reach", lambda *_: None)
    table = hostile.federate(tmp_path / "run", sites, vocabulary, Favourite(100), rounds=1)
    assert table["popularity"][0] > honest["popularity"].sum()
