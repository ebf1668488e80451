"""The exchange spec: the one place that says which tensors travel, with their shapes and dtypes.

Every tensor belongs to exactly one group. The *shared* group is listed here and travels; features are frozen
and computed by everyone; whatever else a platform trains is local and never leaves. `validate` is called
where a message is built and again where it is received, so neither a careless client nor a broken or
hostile peer can move anything else.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from shared_model.errors import ExchangeError, NotFiniteError

SharedTensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape and dtype of one shared tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True)
class ExchangeSpec:
    """The shared tensors, in a fixed order. Two parties can exchange models if their fingerprints are equal."""

    tensors: tuple[TensorSpec, ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of names, shapes and dtypes."""
        return hashlib.sha256(json.dumps([asdict(t) for t in self.tensors]).encode()).hexdigest()

    @property
    def parameters(self) -> int:
        """Number of shared scalars."""
        return sum(int(np.prod(t.shape)) for t in self.tensors)

    def validate(self, tensors: Mapping[str, NDArray], where: str) -> None:
        """Raise ExchangeError unless `tensors` is exactly what the spec says, and finite.

        | tensors                        | outcome                     |
        |--------------------------------|-----------------------------|
        | a name too many or too few     | refused, the names said     |
        | other shape or dtype           | refused, both said          |
        | NaN or inf anywhere            | refused                     |
        | all as the spec says           | returns                     |
        """
        expected = {t.name: t for t in self.tensors}
        unknown, missing = sorted(set(tensors) - set(expected)), sorted(set(expected) - set(tensors))
        if unknown or missing:
            raise ExchangeError(
                f"{where}: the shared tensors must be {sorted(expected)}; unknown {unknown}, missing {missing}."
            )
        for name, spec in expected.items():
            array = tensors[name]
            if tuple(array.shape) != spec.shape or str(array.dtype) != spec.dtype:
                raise ExchangeError(
                    f"{where}: tensor {name!r} must be {spec.dtype} {spec.shape}, "
                    f"not {array.dtype} {tuple(array.shape)}."
                )
            if not np.isfinite(array).all():
                raise NotFiniteError(f"{where}: tensor {name!r} holds NaN or inf.")

    def to_numpy(self, tensors: Mapping[str, torch.Tensor], where: str) -> dict[str, NDArray]:
        """Return the shared tensors as arrays in the spec's order, validated."""
        arrays = {name: t.detach().cpu().numpy() for name, t in tensors.items()}
        self.validate(arrays, where)
        return {t.name: arrays[t.name] for t in self.tensors}

    def to_torch(self, arrays: Mapping[str, NDArray], where: str) -> SharedTensors:
        """Return validated copies of received arrays as tensors."""
        self.validate(arrays, where)
        return {t.name: torch.from_numpy(np.array(arrays[t.name])) for t in self.tensors}


def fingerprint(arrays: Mapping[str, NDArray]) -> str:
    """SHA-256 over names, shapes, dtypes and bytes: identifies one version of the shared tensors."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
