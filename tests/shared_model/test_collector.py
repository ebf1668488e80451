"""The collector is off inside, and what it was before outside."""

import gc

import pytest

from shared_model.collector import collector_off


def test_the_collector_is_off_inside_and_on_again_after_an_error():
    inside = []

    def fail():
        with collector_off():
            inside.append(gc.isenabled())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert inside == [False]
    assert gc.isenabled()


def test_nested_blocks_end_with_the_outermost():
    with collector_off():
        with collector_off():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
