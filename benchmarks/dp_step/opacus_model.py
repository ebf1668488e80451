"""The model written as layers, which Opacus' hooks need: the nearest formulation that they compute correctly.

Shapes: B shoppers, L history length, T targets, N negatives, F feature width, E encoders.

What had to change, and why; scores, loss and gradients stay the same (the benchmark compares them):

- The residual acts on targets and negatives. Ghost clipping refuses a layer that is called twice, so both pass through
  one call.
- The negatives belong to no shopper. Hooks are wrong in silence for such a table, so every shopper gets a copy of
  it (B, N, F).
- Isolation's weight is a parameter outside of any known layer: Opacus falls back to functorch there.
"""

import torch
from torch import nn

from shared_model.exchange import SharedTensors
from shared_model.loss import Negatives, ShopperExample
from shared_model.model import ModelSpec, item_scales, pooled, recency, standing_apart


class _Apart(nn.Module):
    def __init__(self, log_weight: torch.Tensor) -> None:
        super().__init__()
        self.log_weight = nn.Parameter(log_weight.clone())

    def forward(self, isolation: torch.Tensor) -> torch.Tensor:
        return standing_apart({"log_isolation": self.log_weight}, isolation)


def _linear(matrix: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(matrix.shape[0], matrix.shape[1], bias=False)
    layer.weight = nn.Parameter(matrix.T.contiguous())
    return layer


class LayeredLoss(nn.Module):
    """The loss of each shopper, (B,); encoders weigh 1 each."""

    def __init__(self, shared: SharedTensors, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.apart = _Apart(shared["log_isolation"])
        self.residual_in = _linear(shared["residual_in"])
        self.residual_out = _linear(shared["residual_out"].T)

    def forward(self, example: ShopperExample, negatives: Negatives) -> torch.Tensor:
        """Return what `shopper_loss` returns for B shoppers."""
        count, targets = len(example.history), example.targets.shape[1]
        history_scale, target_scale = (
            item_scales(self.spec, norms) for norms in (example.history_norms, example.target_norms)
        )
        negative_scale = item_scales(self.spec, negatives.norms).expand(count, -1)
        candidates = torch.cat(
            [example.targets, negatives.features.expand(count, -1, -1)], 1
        )  # (B, T + N, F)
        products = torch.cat([example.target_products, example.negative_products], -1)  # (B, E, L, T + N)
        similar = products.sum(1) + self.residual_in(example.history) @ self.residual_out(candidates).mT
        scales = torch.cat([target_scale, negative_scale], 1)
        isolation = torch.cat([example.target_isolation, negatives.isolation.expand(count, -1)], 1)
        similar = similar * history_scale.unsqueeze(-1) * scales.unsqueeze(1)
        similar = similar + self.apart(isolation).unsqueeze(1)
        logits = pooled({}, similar, recency({}, example.ages))  # (B, T, T + N)
        wanted, negative = logits[..., :targets].diagonal(dim1=-2, dim2=-1), logits[..., targets:]
        logits = torch.cat([wanted.unsqueeze(-1), negative], -1)
        allowed = torch.cat([torch.ones_like(example.negative_mask[:, :1]), example.negative_mask], 1)
        logits = logits.masked_fill(~allowed.unsqueeze(1), -torch.inf)
        per_target = (logits.logsumexp(-1) - wanted) * example.target_mask
        return per_target.sum(-1) / example.target_mask.sum(-1).clamp(min=1)


def shared_names(model: nn.Module) -> dict[str, str]:
    """Return the parameter names of a (wrapped) LayeredLoss → names of the shared tensors."""
    known = {
        "apart.log_weight": "log_isolation",
        "residual_in.weight": "residual_in",
        "residual_out.weight": "residual_out",
    }
    return {name: known[name.removeprefix("_module.")] for name, _ in model.named_parameters()}
