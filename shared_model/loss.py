"""The training loss of one shopper: a function of that shopper and of public things only.

Shapes: T target moments, L history length, N negatives, F feature width, E encoders.

Negatives are drawn once per step from the public catalogue, independently of the shoppers in the batch, so no
gradient depends on who else was sampled (in-batch negatives would multiply the sensitivity by the batch). A
negative that the shopper has already met is masked: it can never be a target when seen items are filtered.
The mean is taken over the shopper's own target moments.
"""

from dataclasses import dataclass

import torch

from shared_model.exchange import SharedTensors
from shared_model.model import ModelSpec, item_scales, queries, scores


@dataclass(frozen=True)
class ShopperExample:
    """One shopper as the loss sees them (unbatched shapes; a leading B is added by vmap or by batching).

    history : (L, F) features of the last training events, oldest first, zero where padded.
    history_norms : (L, E) their block norms.
    ages : (T, L) as in `queries`: moment t looks back on what came before target t only.
    targets : (T, F) features of the target items.
    target_norms : (T, E) their block norms.
    target_mask : (T,) 1 where there is a target, else 0.
    negative_mask : (N,) True where the shared negative counts for this shopper.
    """

    history: torch.Tensor
    history_norms: torch.Tensor
    ages: torch.Tensor
    targets: torch.Tensor
    target_norms: torch.Tensor
    target_mask: torch.Tensor
    negative_mask: torch.Tensor


@dataclass(frozen=True)
class Negatives:
    """The step's shared negatives: (N, F) features and (N, E) block norms. Public."""

    features: torch.Tensor
    norms: torch.Tensor


def shopper_loss(
    shared: SharedTensors, spec: ModelSpec, example: ShopperExample, negatives: Negatives
) -> torch.Tensor:
    """Return the sampled-softmax cross-entropy, averaged over the shopper's own targets.

    Leading batch dimensions of `example` are kept: with B shoppers the result is (B,). A shopper without
    targets has loss 0 and gradient 0.
    """
    query = queries(shared, spec, example.history, example.history_norms, example.ages)  # (…, T, F)
    target_scales = item_scales(shared, spec, example.target_norms)  # (…, T)
    positive = (query * example.targets).sum(-1) * target_scales  # (…, T)
    negative = scores(shared, spec, query, negatives.features, negatives.norms)  # (…, T, N)
    negative = negative.masked_fill(~example.negative_mask.unsqueeze(-2), -torch.inf)
    logits = torch.cat([positive.unsqueeze(-1), negative], dim=-1)  # (…, T, 1+N)
    per_target = torch.logsumexp(logits, dim=-1) - positive
    count = example.target_mask.sum(-1)
    return (per_target * example.target_mask).sum(-1) / count.clamp(min=1)
