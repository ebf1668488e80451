"""Random models, histories and catalogues in float64."""

import pytest
import torch

from shared_model.model import ModelSpec, initial_shared


class Draws:
    """Seeded draws for one model shape; the last item of a catalogue has no text."""

    def __init__(self, dimensions, width=3, history_length=6, seed=0):
        self.spec = ModelSpec(tuple(dimensions), width, history_length)
        self._generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape):
        return torch.randn(*shape, generator=self._generator, dtype=torch.float64)

    def shared(self, scale=0.3):
        """Trained-looking tensors: every one moved away from its start."""
        start = initial_shared(self.spec)
        return {name: t.double() + scale * self.normal(*t.shape) for name, t in start.items()}

    def items(self, count):
        """(I, F) with unit blocks; one item lacks its first block, the last lacks all."""
        blocks = [
            torch.nn.functional.normalize(self.normal(count, width), dim=-1)
            for width in self.spec.encoder_dimensions
        ]
        blocks[0][0] = 0
        rows = torch.cat(blocks, 1)
        rows[-1] = 0
        return rows


@pytest.fixture(params=[(8,), (8, 16)], ids=["one encoder", "two encoders"])
def draws(request):
    return Draws(request.param)
