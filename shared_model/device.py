"""Where tensors live and in what precision: CUDA, Apple's MPS or the CPU.

| what                                          | where                      | precision                         |
|-----------------------------------------------|----------------------------|-----------------------------------|
| item features, their block norms              | the device, all the time   | float32                           |
| per-shopper gradients                         | the device, in chunks      | float32                           |
| clipping and the sum of gradients             | the device; MPS: the CPU   | float64, sums exact               |
| scores of all items                           | the device, in chunks      | float32, or bfloat16 where chosen |
| noise, and the sum of gradients and noise     | the CPU                    | float64, rounded once             |
| events, masks, ledgers, messages, metrics     | the CPU                    | as they are                       |

Noise comes from a keystream that exists on the CPU alone, in float64, which MPS does not even have. So the
guarantee is the same on every device, and no device's own generator is ever asked. bfloat16 has 8 bits: in a
gradient or a norm they would loosen the clipping bound, so it is for scores only.
"""

import torch

from shared_model.errors import DeviceError


def available_devices() -> tuple[str, ...]:
    """Return the devices of this machine, the fastest first; "cpu" is always the last."""
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return tuple(name for name, there in found.items() if there)


def resolve_device(name: str) -> torch.device:
    """Return the device called `name`, or for "auto" the fastest; raise DeviceError where it is not available."""
    available = available_devices()
    if name == "auto":
        return torch.device(available[0])
    if name not in available:
        raise DeviceError(
            f'compute.device = "{name}": there is no such device here; available: {", ".join(available)}. '
            'Choose one of them, or "auto" for the fastest.'
        )
    return torch.device(name)


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return `tensor` on `device`; to CUDA through pinned memory, so that the copy does not hold up the CPU."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
