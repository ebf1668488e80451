"""The text prior: how well an item fits a shopper's recent events, by what both are, without any training.

Shapes: B users, L history length, T moments, I items, F feature width, E encoders.

    x̂ = w ⊙ x / ‖w ⊙ x‖                                        a fused item, a unit vector
    c(l, i) = ⟨x̂_l, x̂_i⟩ + γ·isolation_i                        the similarity of an event and an item
    score(u, i) = s/τ · log( Σ_l v_l exp(τ·c(l, i)) / Σ_l v_l ),   v_l = exp(−λ·age_l)

x are frozen unit features per encoder and w weighs the encoders' blocks. The sharpness τ says how much one close event
counts for more than many distant ones: for τ → 0 the score is s times the recency-weighted mean of the similarities
(`queries`, one vector a shopper), for τ → ∞ the largest of them. isolation_i says how far an item stands from the rest
of its public catalogue (`shared_model.isolation`); a pool passes it on whole, so it adds s·γ·isolation_i to the score
of everyone who has a history. w is a public constant; a platform may choose λ, τ and γ for itself (`TextWeights`), and
never sends them. What platforms learn together stands in `shared_model.table`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch

from shared_model.encoders import EncoderIdentity
from shared_model.errors import EncoderError

PRIOR_DECAY = 0.5
PRIOR_SHARPNESS = 3.0
MAX_SHARPNESS = 40.0
"""Beyond, the pool is the maximum anyhow, and exponentials leave the range of float32."""
PRIOR_ISOLATION = 1 / 6
SCALE = 12.0
"""s: what similarities are multiplied with, so that they can be added to what shoppers did."""


@dataclass(frozen=True)
class TextWeights:
    """How a platform pools text: λ ≥ 0, τ > 0 (no more than MAX_SHARPNESS counts) and γ ≥ 0; the prior's by default."""

    decay: float = PRIOR_DECAY
    sharpness: float = PRIOR_SHARPNESS
    isolation: float = PRIOR_ISOLATION

    @property
    def pool_sharpness(self) -> float:
        """τ as it is used."""
        return min(self.sharpness, MAX_SHARPNESS)


@dataclass(frozen=True)
class ModelSpec:
    """The public shape of the prior; equal on every platform of a federation.

    Attributes
    ----------
    encoder_dimensions : F of each encoder, in the order of concatenation.
    history_length : L, the events of a shopper that count, ≥ 1.
    prior_weights : > 0, the weight w of each encoder's block; () for 1 each.
    """

    encoder_dimensions: tuple[int, ...]
    history_length: int = 20
    prior_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.prior_weights) not in {0, len(self.encoder_dimensions)}:
            raise EncoderError(
                f"The prior weights {self.prior_weights} cannot be used: give one for each of the "
                f"{len(self.encoder_dimensions)} encoders, or none."
            )

    @classmethod
    def of(cls, identities: Sequence[EncoderIdentity], history_length: int) -> Self:
        """Return the shape of the prior on these encoders."""
        return cls(
            tuple(i.dimension for i in identities), history_length, tuple(i.prior_weight for i in identities)
        )

    @property
    def feature_width(self) -> int:
        """F, the concatenated width."""
        return sum(self.encoder_dimensions)


def block_norms(spec: ModelSpec, features: torch.Tensor) -> torch.Tensor:
    """Return (…, E): the length of each encoder's block of (…, F) features: 1, or 0 for an empty text."""
    return torch.stack([block.norm(dim=-1) for block in features.split(spec.encoder_dimensions, -1)], -1)


def _encoder_weights(spec: ModelSpec, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weight of each encoder (E,), and the same spread over its block (F,), as and where `like` is."""
    each = torch.tensor(spec.prior_weights or (1.0,) * len(spec.encoder_dimensions)).to(like)
    blocks = zip(each, spec.encoder_dimensions, strict=True)
    return each, torch.cat([weight.expand(width) for weight, width in blocks])


def item_scales(spec: ModelSpec, norms: torch.Tensor) -> torch.Tensor:
    """Return 1/‖w ⊙ x‖ (…,) from (…, E) `block_norms`, what a dot product with an item is multiplied by.

    0 for an item without any known word.
    """
    squared = (_encoder_weights(spec, norms)[0].square() * norms.square()).sum(-1)
    return torch.where(squared > 0, squared.clamp(min=1e-12).rsqrt(), 0.0)


def scaled_items(spec: ModelSpec, features: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
    """Return (…, F): x̂, the fused unit vectors of (…, F) features with (…, E) `block_norms`; 0 without any known word."""
    weights = _encoder_weights(spec, features)[1]
    return features * weights * item_scales(spec, norms).unsqueeze(-1)


def event_vectors(spec: ModelSpec, history: torch.Tensor, history_norms: torch.Tensor) -> torch.Tensor:
    """Return (…, L, F): one vector an event, whose `scores` against items are the similarities c, without isolation.

    history : (…, L, F) features of the events. history_norms : (…, L, E) their `block_norms`.
    """
    return _encoder_weights(spec, history)[1] * scaled_items(spec, history, history_norms)


def scores(spec: ModelSpec, query: torch.Tensor, features: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
    """Return (…, I) scores of (…, F) queries against (I, F) items with (I, E) `block_norms`.

    Queries are multiplied in the precision of `features`; the scores have the precision that the queries had.
    """
    products = (query.to(features.dtype) @ features.T).to(query.dtype)
    return products * item_scales(spec, norms)


def recency(weights: TextWeights, ages: torch.Tensor) -> torch.Tensor:
    """Return (…, T, L): the share v_l / Σ v of each event at a moment; all 0 at a moment without an event.

    ages : (…, T, L) how long ago each event was at each moment, in baskets, ≥ 1; inf where an event does not
    count (padding, or not earlier).
    """
    if not ages.shape[-1]:
        return ages
    counts = ~torch.isinf(ages)
    # The youngest event weighs 1, so that no decay, however large, leaves a moment without weight.
    youngest = torch.where(counts, ages, torch.inf).amin(-1, keepdim=True)
    value = torch.exp(-weights.decay * torch.where(counts, ages - youngest, 0.0)) * counts
    return value / value.sum(-1, keepdim=True).clamp(min=1.0)


def pooled(weights: TextWeights, similar: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Return (…, T, I) scores: (…, L, I) similarities pooled by (…, T, L) shares (`recency`).

    A moment without an event scores 0 everywhere.
    """
    if not similar.shape[-2]:
        return similar.new_zeros(*shares.shape[:-1], similar.shape[-1])
    sharp = weights.pool_sharpness * similar
    top = sharp.detach().amax(-2, keepdim=True)  # an item's largest, so that no exponential overflows
    total = _weighted(shares.to(sharp.dtype), (sharp - top).exp())
    some = shares.sum(-1, keepdim=True) > 0
    logarithm = torch.where(some, total.clamp(min=torch.finfo(total.dtype).tiny), 1.0).log()
    return SCALE / weights.pool_sharpness * torch.where(some, top + logarithm, 0.0)


def _weighted(shares: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return shares @ values. Many shoppers at once, without gradients, have few events each of all that any has."""
    several = shares.dim() == 2 and len(shares) > 1
    if several and shares.device.type == "cpu" and not torch.is_grad_enabled():
        return torch.sparse.mm(shares.to_sparse(), values)
    return shares @ values


def queries(shares: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Return (…, T, F): one vector a moment, whose `scores` are the model's in the limit τ → 0, without isolation.

    One product of it with an item index finds the items that are worth a precise score. shares : (…, T, L) `recency`.
    vectors : (…, L, F) `event_vectors`. The query of a moment without an event is zero.
    """
    return SCALE * shares @ vectors
