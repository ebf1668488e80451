"""The model written as layers, which Opacus' hooks need: the nearest formulation that they compute correctly.

Shapes: B shoppers, L history length, T targets, N negatives, F feature width, E encoders.

What had to change, and why; scores, loss and gradients stay the same (the benchmark compares them):

- Encoder weights act on histories, targets and negatives. Ghost clipping refuses a layer that is called twice, so
  all block norms pass through one call and come back as one tensor.
- The negatives' block norms belong to no shopper. Hooks are wrong in silence for such a table, so every shopper gets
  a copy of it (B, N, E).
- Decay, scale and encoder weights are parameters outside of any known layer: Opacus falls back to functorch there.
- The scale multiplies scores instead of queries, which is cheaper here.
"""

import torch
from torch import nn
from torch.nn.functional import normalize

from shared_model.exchange import SharedTensors
from shared_model.loss import Negatives, ShopperExample
from shared_model.model import PRIOR_DECAY, PRIOR_SCALE, ModelSpec


class _Fusion(nn.Module):
    def __init__(self, log_weights: torch.Tensor) -> None:
        super().__init__()
        self.log_weights = nn.Parameter(log_weights.clone())

    def forward(self, norms: torch.Tensor) -> torch.Tensor:
        """(B, M, E) block norms → (B, M + E): 1/‖w ⊙ x‖ of each item, and the weights."""
        weights = self.log_weights.exp()
        squared = (weights.square() * norms.square()).sum(-1)
        inverse = torch.where(squared > 0, squared.clamp(min=1e-12).rsqrt(), 0.0)
        return torch.cat([inverse, weights.expand(len(norms), -1)], 1)


class _Recency(nn.Module):
    def __init__(self, log_decay: torch.Tensor) -> None:
        super().__init__()
        self.log_decay = nn.Parameter(log_decay.clone())

    def forward(self, ages: torch.Tensor) -> torch.Tensor:
        counts = ~torch.isinf(ages)
        return torch.exp(-PRIOR_DECAY * self.log_decay.exp() * torch.where(counts, ages, 0.0)) * counts


class _Scale(nn.Module):
    def __init__(self, log_scale: torch.Tensor) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(log_scale.clone())

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        return PRIOR_SCALE * self.log_scale.exp() * scores


def _linear(matrix: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(matrix.shape[0], matrix.shape[1], bias=False)
    layer.weight = nn.Parameter(matrix.T.contiguous())
    return layer


class LayeredLoss(nn.Module):
    """The loss of each shopper, (B,)."""

    def __init__(self, shared: SharedTensors, spec: ModelSpec) -> None:
        super().__init__()
        self.blocks = list(spec.encoder_dimensions)
        self.fusion = _Fusion(shared["log_encoder_weights"])
        self.recency = _Recency(shared["log_decay"])
        self.scale = _Scale(shared["log_scale"])
        self.residual_in = _linear(shared["residual_in"])
        self.residual_out = _linear(shared["residual_out"])

    def forward(self, example: ShopperExample, negatives: Negatives) -> torch.Tensor:
        """Return what `shopper_loss` returns for B shoppers."""
        count, length, targets = len(example.history), example.history.shape[1], example.targets.shape[1]
        norms = [example.history_norms, example.target_norms, negatives.norms.expand(count, -1, -1)]
        fused = self.fusion(torch.cat(norms, 1))
        history_scale, target_scale, negative_scale, weights = fused.split(
            [length, targets, len(negatives.norms), len(self.blocks)], 1
        )
        spread = torch.cat(
            [w.expand(-1, n) for w, n in zip(weights.split(1, 1), self.blocks, strict=True)], 1
        )
        spread = spread.unsqueeze(1)  # (B, 1, F)
        recency = self.recency(example.ages) * history_scale.unsqueeze(1)  # (B, T, L)
        prior = normalize((recency @ example.history) * spread, dim=-1)
        user = normalize(prior + self.residual_out(self.residual_in(prior)), dim=-1)
        query = spread * user  # (B, T, F)
        positive = (query * example.targets).sum(-1) * target_scale
        negative = query @ negatives.features.T * negative_scale.unsqueeze(1)
        logits = self.scale(torch.cat([positive.unsqueeze(-1), negative], -1))
        wanted = logits[..., 0]
        allowed = torch.cat([torch.ones_like(example.negative_mask[:, :1]), example.negative_mask], 1)
        logits = logits.masked_fill(~allowed.unsqueeze(1), -torch.inf)
        per_target = (logits.logsumexp(-1) - wanted) * example.target_mask
        return per_target.sum(-1) / example.target_mask.sum(-1).clamp(min=1)


def shared_names(model: nn.Module) -> dict[str, str]:
    """Return the parameter names of a (wrapped) LayeredLoss → names of the shared tensors."""
    known = {
        "fusion.log_weights": "log_encoder_weights",
        "recency.log_decay": "log_decay",
        "scale.log_scale": "log_scale",
        "residual_in.weight": "residual_in",
        "residual_out.weight": "residual_out",
    }
    return {name: known[name.removeprefix("_module.")] for name, _ in model.named_parameters()}
