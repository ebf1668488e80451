"""Random histories and catalogues in float64."""

import pytest
import torch

from shared_model.model import ModelSpec, TextWeights


class Draws:
    """Seeded draws for one shape; the last item of a catalogue has no text."""

    def __init__(self, dimensions, history_length=6, seed=0):
        self.spec = ModelSpec(tuple(dimensions), history_length)
        self._generator = torch.Generator().manual_seed(seed)

    weights = TextWeights(decay=0.8, sharpness=4.2, isolation=0.3)

    def normal(self, *shape):
        return torch.randn(*shape, generator=self._generator, dtype=torch.float64)

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
