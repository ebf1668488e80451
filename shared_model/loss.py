"""The training loss of one shopper: a function of that shopper and of public things only.

Shapes: T target moments, L history length, N negatives, F feature width, E encoders.

Negatives are drawn once per step from the public catalogue, independently of the shoppers in the batch, or are the
shopper's own (`clients.examples`), so no gradient depends on who else was sampled (in-batch negatives would multiply the
sensitivity by the batch). A negative that the shopper has already met is masked: it can never be a target when seen items
are filtered.
The mean is taken over the shopper's own target moments, by their weights; targets that weigh less than 1 together count
as much as they weigh.
"""

from dataclasses import dataclass

import torch

from shared_model.exchange import SharedTensors
from shared_model.model import Items, ModelSpec, pooled, recency, similarities, standing_apart

TOP = 10
"""What counts as seen: the utility of a target below is 0."""


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
    """A step's shared negatives: (N, F) features, or (N, 0) without a residual, (N, E) block norms and (N,) isolation.

    With a leading B where each shopper has negatives of their own.
    """

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
    similar = similar + standing_apart(shared, negatives.isolation).unsqueeze(-2)
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
    shared: SharedTensors, spec: ModelSpec, example: ShopperExample, candidates: Negatives
) -> torch.Tensor:
    """Return how high the shopper's own targets rank, in [0, 1]: the mean of NDCG@TOP over them.

    That is 1 / log2(1 + rank) for one relevant item, and 0 beyond TOP (Järvelin & Kekäläinen 2002). A target's rank is
    among the candidates that the shopper has not met, 1 + those that do not score below it; it is the rank in the whole
    catalogue as long as the catalogue's best are candidates. Batch dimensions as in `shopper_loss`; 0 without targets. It
    has no gradient.
    """
    positive, negative = target_scores(shared, spec, example, candidates)
    above = (negative >= positive.unsqueeze(-1)) & example.negative_mask.unsqueeze(-2)  # (…, T, N)
    ranks = 1 + above.to(positive.dtype).sum(-1)
    worth = torch.where(ranks <= TOP, 1 / torch.log2(1 + ranks), 0.0)
    count = example.target_mask.sum(-1)
    return (example.target_mask * worth).sum(-1) / count.clamp(min=1)
