"""The training loss of one shopper: a function of that shopper and of public things only.

Shapes: T target moments, L history length, N negatives, F feature width, E encoders.

Negatives are drawn once per step from the public catalogue, independently of the shoppers in the batch, so no
gradient depends on who else was sampled (in-batch negatives would multiply the sensitivity by the batch). A
negative that the shopper has already met is masked: it can never be a target when seen items are filtered.
The mean is taken over the shopper's own target moments, by their weights; targets that weigh less than 1 together count
as much as they weigh.
"""

from dataclasses import dataclass

import torch

from shared_model.exchange import SharedTensors
from shared_model.model import Items, ModelSpec, pooled, recency, similarities, standing_apart


@dataclass(frozen=True)
class ShopperExample:
    """One shopper as the loss sees them (unbatched shapes; a leading B is added by vmap or by batching).

    history : (L, F) features of the last training events, oldest first; (L, 0) where the model has no residual.
    history_norms : (L, E) their block norms.
    ages : (T, L) as in `recency`: moment t looks back on what came before target t only.
    targets : (T, F) features of the target items, or (T, 0).
    target_norms : (T, E) their block norms. target_isolation : (T,) their `shared_model.isolation`.
    target_mask : (T,) ≥ 0, how much each target counts: 0 where there is none, else 1 unless its event has a weight.
    negative_mask : (N,) True where the shared negative counts for this shopper.
    target_products, negative_products : (E, L, T) and (E, L, N) `block_products` of history and items.
    """

    history: torch.Tensor
    history_norms: torch.Tensor
    ages: torch.Tensor
    targets: torch.Tensor
    target_norms: torch.Tensor
    target_isolation: torch.Tensor
    target_mask: torch.Tensor
    negative_mask: torch.Tensor
    target_products: torch.Tensor
    negative_products: torch.Tensor


@dataclass(frozen=True)
class Negatives:
    """The step's shared negatives, public: (N, F) features, or (N, 0) without a residual, (N, E) block norms and (N,)
    isolation."""

    features: torch.Tensor
    norms: torch.Tensor
    isolation: torch.Tensor


def target_scores(
    shared: SharedTensors, spec: ModelSpec, example: ShopperExample, negatives: Negatives
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scores of the (…, T) targets and, at the same moments, of the (…, T, N) negatives."""
    history = Items(example.history, example.history_norms)
    shares = recency(shared, example.ages)
    targets = Items(example.targets, example.target_norms)
    similar = similarities(shared, spec, example.target_products, history, targets)
    similar = similar + standing_apart(shared, example.target_isolation).unsqueeze(-2)
    positive = pooled(shared, similar, shares).diagonal(dim1=-2, dim2=-1)
    items = Items(negatives.features, negatives.norms)
    similar = similarities(shared, spec, example.negative_products, history, items)
    similar = similar + standing_apart(shared, negatives.isolation)
    return positive, pooled(shared, similar, shares)


def shopper_loss(
    shared: SharedTensors, spec: ModelSpec, example: ShopperExample, negatives: Negatives
) -> torch.Tensor:
    """Return the sampled-softmax cross-entropy, averaged over the shopper's own targets.

    Leading batch dimensions of `example` are kept: with B shoppers the result is (B,). A shopper without
    targets has loss 0 and gradient 0.
    """
    positive, negative = target_scores(shared, spec, example, negatives)
    negative = negative.masked_fill(~example.negative_mask.unsqueeze(-2), -torch.inf)
    logits = torch.cat([positive.unsqueeze(-1), negative], dim=-1)  # (…, T, 1+N)
    per_target = torch.logsumexp(logits, dim=-1) - positive
    count = example.target_mask.sum(-1)
    return (per_target * example.target_mask).sum(-1) / count.clamp(min=1)


def shopper_utility(
    shared: SharedTensors, spec: ModelSpec, example: ShopperExample, negatives: Negatives, items: int
) -> torch.Tensor:
    """Return how high the shopper's own targets rank, in [0, 1]: the mean of 1 / log2(1 + rank) over them.

    That is NDCG without a cut-off (Järvelin & Kekäläinen 2002) for one relevant item. A target's rank among the I
    `items` of the catalogue is estimated from the N negatives: 1 + I/N times those that the shopper has not met and
    that do not score below it. Batch dimensions as in `shopper_loss`; 0 without targets. It has no gradient.
    """
    positive, negative = target_scores(shared, spec, example, negatives)
    above = (negative >= positive.unsqueeze(-1)) & example.negative_mask.unsqueeze(-2)  # (…, T, N)
    ranks = 1 + items / negative.shape[-1] * above.to(positive.dtype).sum(-1)
    count = example.target_mask.sum(-1)
    return (example.target_mask / torch.log2(1 + ranks)).sum(-1) / count.clamp(min=1)
