"""Networks that score items from text alone, so that they can be applied to a catalogue they never saw.

Shapes: B shoppers, L events, I items, F feature width, D model width, K experts.
"""

from collections.abc import Sequence

import torch
from torch import nn

WIDTH, HIDDEN, LAYERS, HEADS, DROPOUT = 128, 256, 2, 2, 0.2


class Experts(nn.Module):
    """Mixture-of-experts adaptor (UniSRec, Hou et al. 2022): K linear maps F → D, weighed by a soft gate."""

    def __init__(self, features: int, count: int = 8) -> None:
        super().__init__()
        self._count = count
        self._maps = nn.Linear(features, count * WIDTH)
        self._gate = nn.Linear(features, count)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return (…, D) of (…, F) features."""
        weights = self._gate(features).softmax(-1).unsqueeze(-1)
        return (weights * self._maps(features).unflatten(-1, (self._count, WIDTH))).sum(-2)


def perceptron(features: int) -> nn.Module:
    """Return the plain adaptor: F → D with one hidden layer."""
    return nn.Sequential(nn.Linear(features, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH))


class DomainGates(nn.Module):
    """A gate of D numbers for each domain on top of what all share; a domain that never trained gets their mean."""

    def __init__(self, domains: Sequence[str]) -> None:
        super().__init__()
        self._gates = nn.ParameterDict({name: nn.Parameter(torch.ones(WIDTH)) for name in domains})

    def forward(self, items: torch.Tensor, domain: str) -> torch.Tensor:
        """Return (…, D)."""
        known = domain in self._gates
        gate = self._gates[domain] if known else torch.stack(list(self._gates.values())).mean(0)
        gated: torch.Tensor = items * gate
        return gated


class TextTransformer(nn.Module):
    """A causal transformer over a history of item texts (Kang & McAuley 2018 with UniSRec's adaptor in place of ids).

    A score is the dot product of what the last event says and an item's adapted text.
    """

    def __init__(self, adaptor: nn.Module, gates: DomainGates | None, length: int) -> None:
        super().__init__()
        self.adaptor, self.gates = adaptor, gates
        self._places = nn.Embedding(length, WIDTH)
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, HIDDEN, DROPOUT, "gelu", batch_first=True, norm_first=True
        )
        self._body = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)

    def items(self, features: torch.Tensor, domain: str) -> torch.Tensor:
        """Return (…, D) of (…, F) features."""
        adapted: torch.Tensor = self.adaptor(features)
        return adapted if self.gates is None else self.gates(adapted, domain)

    def states(self, history: torch.Tensor) -> torch.Tensor:
        """Return (B, L, D) after each event of (B, L, D) histories that begin at place 0 and are padded behind."""
        length = history.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        states: torch.Tensor = self._body(history + self._places.weight[:length], mask=mask, is_causal=True)
        return states
