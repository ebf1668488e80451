"""Evaluation on a device other than the CPU. A release is made on the CPU, where its noise is.

`Simulated` needs no hardware: it holds shapes, refuses whatever mixes it with the CPU, has no float64 (as MPS), and reads
back as ones. The tests marked `gpu` compare a real device with the CPU.
"""

import dataclasses

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from clients import recommender
from clients.evaluation import choose_joined, choose_local, evaluate
from clients.platform import HashableSite, prepare_platform
from clients.recommender import LocalLayer, Popularity, Recommender, federation_default
from shared_model.device import available_devices
from shared_model.metrics import intra_list_diversity
from tests.clients.scored import others_of

ACCELERATORS = available_devices()[:-1]
LOCAL = LocalLayer(0.3, 1.0)


class Simulated(TorchDispatchMode):
    """Makes `meta` tensors behave like those of an accelerator, and keeps what was moved back to the CPU."""

    def __init__(self):
        super().__init__()
        self.read_back, self.multiplied = [], set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        name = func.overloadpacket.__name__
        if any(t.is_meta for t in tensors):
            if name == "_local_scalar_dense":
                return True
            if name == "nonzero":
                return torch.empty((0, tensors[0].dim()), dtype=torch.int64, device="meta")
            if name in ("_to_copy", "to") and kwargs.get("device") == torch.device("cpu"):
                self.read_back.append(tuple(tensors[0].shape))
                return torch.ones(tensors[0].shape, dtype=kwargs.get("dtype") or tensors[0].dtype)
            if any(not t.is_meta and t.dim() for t in tensors):
                raise RuntimeError(
                    f"{name} mixes devices: {[(t.device.type, tuple(t.shape)) for t in tensors]}"
                )
        if name in ("mm", "bmm"):
            self.multiplied.add(tensors[0].device.type)
        result = func(*args, **kwargs)
        if any(
            isinstance(t, torch.Tensor) and t.is_meta and t.dtype == torch.float64
            for t in tree_leaves(result)
        ):
            raise RuntimeError(f"{name}: the device has no float64")
        return result


def on(holder, device):
    """Move a platform's public tensors."""
    moved = {name: getattr(holder, name).to(device) for name in ("features", "norms", "isolation")}
    return dataclasses.replace(holder, **moved)


@pytest.fixture
def platform(make_site):
    site = HashableSite(make_site("toys", cap=None))
    return prepare_platform(site, ("tiny",), 6)


def test_scoring_stays_on_the_device(platform):
    users = platform.test_users
    there = on(platform, "meta")
    with Simulated() as device:
        ranking = evaluate(there, Recommender(there, LOCAL), "test", users)
        evaluate(there, Popularity(there), "test", users)
    assert device.multiplied == {"meta"}
    assert ranking.top.shape == (len(users), 10)
    # ranks and top lists come back, never the scores of all items
    assert (len(users), 10) in device.read_back
    assert all(len(platform.catalogue) not in shape for shape in device.read_back)
    with Simulated():
        intra_list_diversity(ranking.top, there.features)
    with Simulated() as device:
        choose_joined(there, others_of(platform), LOCAL, federation_default(20_000))
        choose_local(there)
    assert all(len(platform.catalogue) not in shape for shape in device.read_back)


def test_the_simulated_device_notices_what_was_not_moved(platform, monkeypatch):
    monkeypatch.setattr(recommender, "to_device", lambda tensor, device: tensor)
    there = on(platform, "meta")
    with Simulated(), pytest.raises(RuntimeError, match="mixes devices"):
        Recommender(there, LOCAL).scores("test", there.test_users)


def test_scoring_in_bfloat16_moves_scores_by_its_rounding(make_site):
    site = make_site("toys", cap=None)
    rough = site.model_copy(update={"compute": site.compute.model_copy(update={"scoring": "bfloat16"})})
    exact, coarse = (prepare_platform(HashableSite(s), ("tiny",), 6) for s in (site, rough))
    assert coarse.table.dtype == torch.bfloat16
    assert torch.equal(coarse.features, exact.features)
    assert exact.table is exact.features
    scores = [Recommender(p, LocalLayer()).scores("test", p.test_users) for p in (exact, coarse)]
    assert scores[1].dtype == torch.float32
    torch.testing.assert_close(scores[1], scores[0], atol=12 * 2**-7, rtol=0)
    assert not torch.equal(scores[1], scores[0])


@pytest.mark.gpu
@pytest.mark.skipif(not ACCELERATORS, reason="this machine has no accelerator")
@pytest.mark.parametrize("name", ACCELERATORS)
def test_an_accelerator_computes_what_the_cpu_does(platform, name):
    moved, test = on(platform, name), platform.test_users
    ranks = [evaluate(p, Recommender(p, LOCAL), "test", test).ranks for p in (platform, moved)]
    assert np.mean(ranks[0] == ranks[1]) > 0.9
