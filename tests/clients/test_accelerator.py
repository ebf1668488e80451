"""Training and evaluation on a device other than the CPU.

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
from clients.evaluation import choose_blend, choose_local, evaluate
from clients.gradients import per_shopper_gradients
from clients.platform import HashableSite, prepare_platform
from clients.recommender import LocalLayer, Popularity, Recommender
from clients.training import LocalRecipe, train_plain, train_private
from privacy.noise import ReproducibleNoise
from privacy.plan import PrivacyPlan
from shared_model.device import available_devices
from shared_model.metrics import intra_list_diversity
from shared_model.model import initial_shared

ACCELERATORS = available_devices()[:-1]
RECIPE = LocalRecipe(2, 1.0, 0.1, 0.05, negatives=6, proximal=0.1)
PLAN = PrivacyPlan(1000.0, 1e-6, 0.5, 1.0, 20, 2, 1.0)
LOCAL = LocalLayer(0.5, 0.3, 1.0)


class Simulated(TorchDispatchMode):
    """Makes `meta` tensors behave like those of an accelerator, and keeps what was moved back to the CPU.

    Training needs float64 (on MPS, which has none, rows are clipped on the CPU); nothing else may use it.
    """

    def __init__(self, *, float64=False):
        super().__init__()
        self.float64 = float64
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
        if not self.float64 and any(
            isinstance(t, torch.Tensor) and t.is_meta and t.dtype == torch.float64
            for t in tree_leaves(result)
        ):
            raise RuntimeError(f"{name}: the device has no float64")
        return result


def on(holder, device):
    """Move a platform's or its training data's public tensors."""
    moved = {name: getattr(holder, name).to(device) for name in ("features", "norms", "isolation")}
    return dataclasses.replace(holder, **moved)


@pytest.fixture
def platform(make_site):
    site = HashableSite(make_site("toys", cap=None))
    return prepare_platform(site, ("tiny",), 2, 6)


@pytest.fixture
def single(setting, events):
    """Return a setting in float32: MPS has no other."""
    setting.shared = {name: t.float() for name, t in setting.shared.items()}
    setting.data = setting.of(events(), dtype=torch.float32).data
    return setting


def private(setting, data, noise):
    rng = np.random.default_rng(1)
    return train_private(setting.shared, setting.spec, data, RECIPE, PLAN, noise, rng, "never")


def test_training_stays_on_the_device(single):
    data = on(single.data, "meta")
    shapes = {name: tuple(t.shape) for name, t in single.shared.items()}
    with Simulated(float64=True) as device:
        after = private(single, data, ReproducibleNoise(1))
    assert device.multiplied == {"meta"}
    # sums leave once a step to meet the noise, the result once at the end; no gradient of a shopper does
    assert sorted(device.read_back) == sorted([*shapes.values()] * (RECIPE.steps + 1))
    assert {name: tuple(t.shape) for name, t in after.items()} == shapes
    assert all(t.device.type == "cpu" for t in after.values())
    with Simulated(float64=True) as device:
        after = train_plain(single.shared, single.spec, [data], RECIPE, np.random.default_rng(1))
    assert device.multiplied == {"meta"}
    assert sorted(device.read_back) == sorted(shapes.values())
    assert all(t.device.type == "cpu" for t in after.values())


def test_noise_is_drawn_on_the_cpu_whatever_the_device(single):
    class Counting(ReproducibleNoise):
        drawn = 0

        def normal(self, n):
            Counting.drawn += n
            return super().normal(n)

    state = torch.get_rng_state()
    with Simulated(float64=True):
        private(single, on(single.data, "meta"), Counting(1))
    assert Counting.drawn == RECIPE.steps * sum(t.numel() for t in single.shared.values())
    assert torch.equal(torch.get_rng_state(), state)


def test_scoring_stays_on_the_device(platform):
    shared, users = initial_shared(platform.spec), platform.test_users
    shared["residual_out"] += 0.1
    there = on(platform, "meta")
    with Simulated() as device:
        ranking = evaluate(there, Recommender(there, shared, LOCAL), "test", users)
        evaluate(there, Popularity(there), "test", users)
    assert device.multiplied == {"meta"}
    assert ranking.top.shape == (len(users), 10)
    # ranks and top lists come back, never the scores of all items
    assert (len(users), 10) in device.read_back
    assert all(len(platform.catalogue) not in shape for shape in device.read_back)
    with Simulated():
        intra_list_diversity(ranking.top, there.features)
    with Simulated() as device:
        assert choose_blend(there, shared, LOCAL) == LOCAL  # all ranks read as 1: nothing is better
        choose_local(there)
    assert all(len(platform.catalogue) not in shape for shape in device.read_back)


def test_the_simulated_device_notices_what_was_not_moved(platform, monkeypatch):
    monkeypatch.setattr(recommender, "to_device", lambda tensor, device: tensor)
    there = on(platform, "meta")
    with Simulated(), pytest.raises(RuntimeError, match="mixes devices"):
        Recommender(there, initial_shared(there.spec), LOCAL).scores("test", there.test_users)


def test_scoring_in_bfloat16_moves_scores_by_its_rounding_and_training_not_at_all(make_site):
    site = make_site("toys", cap=None)
    rough = site.model_copy(update={"compute": site.compute.model_copy(update={"scoring": "bfloat16"})})
    exact, coarse = (prepare_platform(HashableSite(s), ("tiny",), 2, 6) for s in (site, rough))
    assert coarse.table.dtype == torch.bfloat16
    assert torch.equal(coarse.features, exact.features)  # what training reads
    assert exact.table is exact.features
    scores = [
        Recommender(p, initial_shared(p.spec), LocalLayer(0.0, 0.0)).scores("test", p.test_users)
        for p in (exact, coarse)
    ]
    assert scores[1].dtype == torch.float32
    torch.testing.assert_close(scores[1], scores[0], atol=12 * 2**-7, rtol=0)
    assert not torch.equal(scores[1], scores[0])


@pytest.mark.gpu
@pytest.mark.skipif(not ACCELERATORS, reason="this machine has no accelerator")
@pytest.mark.parametrize("name", ACCELERATORS)
def test_an_accelerator_computes_what_the_cpu_does(single, platform, name):
    users, rows = np.arange(len(single.data)), torch.tensor([0, 7, 11, 33])
    both = []
    for data in (single.data, on(single.data, name)):
        shared = {n: t.to(data.features.device) for n, t in single.shared.items()}
        example, weights = data.chunk(users, rows), torch.ones(len(users), device=data.features.device)
        both.append(per_shopper_gradients(shared, single.spec, example, data.negatives(rows), weights))
    for tensor, expected in both[0].items():
        torch.testing.assert_close(both[1][tensor].cpu(), expected, atol=1e-4, rtol=1e-3)
    here = private(single, single.data, ReproducibleNoise(1))
    there = private(single, on(single.data, name), ReproducibleNoise(1))
    for tensor, expected in here.items():
        torch.testing.assert_close(there[tensor], expected, atol=1e-3, rtol=1e-3)
    moved = on(platform, name)
    shared, test = initial_shared(platform.spec), platform.test_users
    ranks = [evaluate(p, Recommender(p, shared, LOCAL), "test", test).ranks for p in (platform, moved)]
    assert np.mean(ranks[0] == ranks[1]) > 0.9
