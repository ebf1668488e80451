"""Which device is taken, and what is said where it is not there."""

import pytest
import torch

from shared_model.device import available_devices, resolve_device, to_device
from shared_model.errors import DeviceError


@pytest.fixture
def machine(monkeypatch):
    """Return what makes this machine one with the named accelerators."""

    def has(*names):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in names)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in names)

    return has


@pytest.mark.parametrize(
    ("there", "auto"), [((), "cpu"), (("mps",), "mps"), (("cuda",), "cuda"), (("mps", "cuda"), "cuda")]
)
def test_auto_takes_the_fastest_that_is_there(machine, there, auto):
    machine(*there)
    assert resolve_device("auto") == torch.device(auto)
    assert resolve_device("cpu") == torch.device("cpu")
    assert set(available_devices()) == {*there, "cpu"}


def test_a_device_that_is_not_there_is_refused_with_the_ones_that_are(machine):
    machine("mps")
    with pytest.raises(DeviceError) as error:
        resolve_device("cuda")
    assert str(error.value) == (
        'compute.device = "cuda": there is no such device here; available: mps, cpu. '
        'Choose one of them, or "auto" for the fastest.'
    )
    assert (error.value.exit_code, error.value.code) == (2, "device")
    assert resolve_device("mps") == torch.device("mps")


def test_cuda_is_reached_through_pinned_memory(monkeypatch):
    """There need be no CUDA here: what is asked of the tensor is what counts."""
    asked = []

    class Pinned:
        def to(self, device, non_blocking=False):
            asked.append((device, non_blocking))
            return self

    tensor, pinned = torch.ones(2), Pinned()
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda _: pinned)
    assert to_device(tensor, torch.device("cuda")) is pinned
    assert asked == [(torch.device("cuda"), True)]
    assert to_device(tensor, torch.device("cpu")) is tensor
    assert to_device(tensor, torch.device("meta")).device.type == "meta"
