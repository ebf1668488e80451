"""What serving sets in its process, and what that must not keep."""

import gc
import weakref

from clients.serving import steady
from clients.serving.asks import RecommendAsk, Who
from clients.serving.current import Current
from clients.serving.engine import recommend
from clients.serving.load import load_snapshot


def test_lists_that_are_little_work_have_one_thread_and_the_collector_leaves_out_what_stays(
    make, monkeypatch
):
    done = []
    monkeypatch.setattr("torch.set_num_threads", done.append)
    monkeypatch.setattr("gc.freeze", lambda: done.append("frozen"))
    steady.steady(make().snapshot)
    assert done == [1, "frozen"]
    monkeypatch.setattr(steady, "FEW", 10)
    steady.steady(make().snapshot)
    assert done == [1, "frozen", "frozen"]
    steady.steady(make(items=400, index="approximate").snapshot)
    assert done == [1, "frozen", "frozen", 1, "frozen"]


def test_a_snapshot_that_is_exchanged_is_freed_without_the_collector(member):
    """A frozen one that only the collector could free would stay for ever."""
    load_snapshot(member)
    gc.disable()
    try:
        current = Current(load_snapshot(member))
        recommend(current.snapshot, [RecommendAsk(Who("u01"))])
        arm = next(iter(current.snapshot.arms.values()))
        held = [weakref.ref(x) for x in (current.snapshot, current.snapshot.shelf, arm.scoring.features)]
        del arm
        current.swap(load_snapshot(member))
        assert [one() for one in held] == [None, None, None]
    finally:
        gc.enable()
