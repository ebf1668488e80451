"""The model: a training-free prior, and a few shared numbers on it that start at its values.

Shapes: B users, L history length, T moments, I items, F feature width, D residual width, E encoders.

    x̂ = w ⊙ x / ‖w ⊙ x‖                                        a fused item, a unit vector
    c(l, i) = ⟨x̂_l, x̂_i⟩ + ⟨x̂_l·A, R·x̂_i⟩ + γ·isolation_i      the similarity of an event and an item
    score(u, i) = s/τ · log( Σ_l v_l exp(τ·c(l, i)) / Σ_l v_l ),   v_l = exp(−λ·age_l)

x are frozen unit features per encoder and w weighs the encoders' blocks. The sharpness τ says how much one close event
counts for more than many distant ones: for τ → 0 the score is s times the recency-weighted mean of the similarities
(`queries`, one vector a shopper), for τ → ∞ the largest of them. isolation_i says how far an item stands from the rest
of its public catalogue (`shared_model.isolation`); a pool passes it on whole, so it adds s·γ·isolation_i to the score
of everyone who has a history. Shared and trained: log γ, a factor that starts at exp(0) = 1, and, where the residual's
width D is not 0, A (F, D) and R (D, F), the latter zero at first: the untrained model *is* the prior. w, λ and τ are
public constants; a platform may change λ and τ for itself (`log_decay`, `log_sharpness`: tensors that never travel).
The residual is a low-rank bilinear map (LoRA, Hu et al. 2022) on the side of the history, so an item index outlives
every model version.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from shared_model.encoders import EncoderIdentity
from shared_model.errors import EncoderError
from shared_model.exchange import ExchangeSpec, SharedTensors, TensorSpec

PRIOR_DECAY = 0.5
PRIOR_SHARPNESS = 3.0
MAX_SHARPNESS = 40.0
"""Beyond, the pool is the maximum anyhow, and exponentials leave the range of float32."""
PRIOR_ISOLATION = 1 / 6
SCALE = 12.0
"""s: what similarities are multiplied with, so that they can be added to the local layer's parts."""


@dataclass(frozen=True)
class ModelSpec:
    """The public shape of a model; equal on every platform of a federation.

    Attributes
    ----------
    encoder_dimensions : F of each encoder, in the order of concatenation.
    width : D, the rank of the residual; 0 for none.
    history_length : L, the events of a shopper that form the user vector, ≥ 1.
    prior_weights : > 0, the weight w of each encoder's block; () for 1 each.
    """

    encoder_dimensions: tuple[int, ...]
    width: int = 0
    history_length: int = 20
    prior_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.prior_weights) not in {0, len(self.encoder_dimensions)}:
            raise EncoderError(
                f"The prior weights {self.prior_weights} cannot be used: give one for each of the "
                f"{len(self.encoder_dimensions)} encoders, or none."
            )

    @classmethod
    def of(cls, identities: Sequence[EncoderIdentity], width: int, history_length: int) -> Self:
        """Return the shape of a model on these encoders."""
        return cls(
            tuple(i.dimension for i in identities),
            width,
            history_length,
            tuple(i.prior_weight for i in identities),
        )

    @property
    def feature_width(self) -> int:
        """F, the concatenated width."""
        return sum(self.encoder_dimensions)

    @property
    def exchange(self) -> ExchangeSpec:
        """The tensors that travel."""
        residual = (
            TensorSpec("residual_in", (self.feature_width, self.width)),
            TensorSpec("residual_out", (self.width, self.feature_width)),
        )
        return ExchangeSpec(
            (
                TensorSpec("log_isolation", (1,)),
                *(residual if self.width else ()),
            )
        )


def initial_shared(spec: ModelSpec) -> SharedTensors:
    """Return the shared tensors of the untrained model, which is the prior; the same on every machine.

    `residual_in` is a random projection of ±1/√F (from SHAKE-256), everything else zero.
    """
    shared = {t.name: torch.zeros(t.shape) for t in spec.exchange.tensors}
    if spec.width:
        count = spec.feature_width * spec.width
        stream = hashlib.shake_256(b"fedcart residual 1").digest((count + 7) // 8)
        bits = np.unpackbits(np.frombuffer(stream, dtype=np.uint8), count=count)
        signs = (bits.astype(np.float32) * 2 - 1) / np.sqrt(np.float32(spec.feature_width))
        shared["residual_in"] = torch.from_numpy(signs.reshape(spec.feature_width, spec.width))
    return shared


def block_norms(spec: ModelSpec, features: torch.Tensor) -> torch.Tensor:
    """Return (…, E): the length of each encoder's block of (…, F) features: 1, or 0 for an empty text."""
    return torch.stack([block.norm(dim=-1) for block in features.split(spec.encoder_dimensions, -1)], -1)


def _encoder_weights(spec: ModelSpec, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weight of each encoder (E,), and the same spread over its block (F,), as and where `like` is."""
    each = torch.tensor(spec.prior_weights or (1.0,) * len(spec.encoder_dimensions)).to(like)
    blocks = zip(each, spec.encoder_dimensions, strict=True)
    return each, torch.cat([weight.expand(width) for weight, width in blocks])


def _inverse_fused_norm(weights: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
    """Return (…,) 1/‖w ⊙ x‖ from (…, E) block norms; 0 for an item without any known word."""
    squared = (weights.square() * norms.square()).sum(-1)
    return torch.where(squared > 0, squared.clamp(min=1e-12).rsqrt(), 0.0)


def block_products(spec: ModelSpec, history: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """Return (…, E, L, I): the dot products of (…, L, F) events and (…, I, F) items, block by block; no parameter."""
    blocks = zip(
        history.split(spec.encoder_dimensions, -1), items.split(spec.encoder_dimensions, -1), strict=True
    )
    return torch.stack([events @ candidates.mT for events, candidates in blocks], -3)


@dataclass(frozen=True)
class Items:
    """Some items, or the events of a history as items: (…, I, F) features and (…, I, E) their `block_norms`."""

    features: torch.Tensor
    norms: torch.Tensor


def similarities(
    shared: SharedTensors, spec: ModelSpec, products: torch.Tensor, history: Items, items: Items
) -> torch.Tensor:
    """Return c (…, L, I), without isolation, from (…, E, L, I) `block_products`; differentiable in every shared tensor.

    Features play a part with a residual only, and may be anything without one. An item without text is similar to
    nothing: 0.
    """
    per_encoder, _ = _encoder_weights(spec, products)
    similar = (per_encoder.square().view(-1, 1, 1) * products).sum(-3)
    if spec.width:
        left = _projected(spec, per_encoder, history.features, shared["residual_in"])
        right = _projected(spec, per_encoder, items.features, shared["residual_out"].T)
        similar = similar + left @ right.mT
    left_scale = _inverse_fused_norm(per_encoder, history.norms)
    return similar * left_scale.unsqueeze(-1) * _inverse_fused_norm(per_encoder, items.norms).unsqueeze(-2)


def _projected(
    spec: ModelSpec, per_encoder: torch.Tensor, features: torch.Tensor, matrix: torch.Tensor
) -> torch.Tensor:
    """Return (w ⊙ features) · matrix, (…, D), block by block: no weight's gradient is then as wide as the features."""
    blocks = features.split(spec.encoder_dimensions, -1)
    parts = zip(per_encoder.split(1), blocks, matrix.split(spec.encoder_dimensions, 0), strict=True)
    return torch.stack([weight * (block @ part) for weight, block, part in parts]).sum(0)


def sharpness_of(shared: SharedTensors) -> torch.Tensor:
    """Return τ: the platform's own where it has one, else the public one."""
    return (PRIOR_SHARPNESS * _factor(shared, "log_sharpness")).clamp(max=MAX_SHARPNESS)


def _factor(tensors: SharedTensors, name: str) -> torch.Tensor:
    """Return exp of a local scalar; 1 where there is none."""
    return tensors[name].exp() if name in tensors else torch.ones(1)


def recency(shared: SharedTensors, ages: torch.Tensor) -> torch.Tensor:
    """Return (…, T, L): the share v_l / Σ v of each event at a moment; all 0 at a moment without an event.

    ages : (…, T, L) how long ago each event was at each moment, in baskets, ≥ 1; inf where an event does not
    count (padding, or not earlier).
    """
    if not ages.shape[-1]:
        return ages
    counts = ~torch.isinf(ages)
    decay = PRIOR_DECAY * _factor(shared, "log_decay").to(ages)
    # The youngest event weighs 1, so that no decay, however large, leaves a moment without weight.
    youngest = torch.where(counts, ages, torch.inf).amin(-1, keepdim=True)
    weights = torch.exp(-decay * torch.where(counts, ages - youngest, 0.0)) * counts
    return weights / weights.sum(-1, keepdim=True).clamp(min=1.0)


def pooled(shared: SharedTensors, similar: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Return (…, T, I) scores: (…, L, I) `similarities` pooled by (…, T, L) shares (`recency`).

    A moment without an event scores 0 everywhere.
    """
    sharpness = sharpness_of(shared).to(similar)
    if not similar.shape[-2]:
        return similar.new_zeros(*shares.shape[:-1], similar.shape[-1])
    sharp = sharpness * similar
    top = sharp.detach().amax(-2, keepdim=True)  # an item's largest, so that no exponential overflows
    total = _weighted(shares.to(sharp.dtype), (sharp - top).exp())
    some = shares.sum(-1, keepdim=True) > 0
    logarithm = torch.where(some, total.clamp(min=torch.finfo(total.dtype).tiny), 1.0).log()
    return SCALE / sharpness * torch.where(some, top + logarithm, 0.0)


def _weighted(shares: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return shares @ values. Many shoppers at once, without gradients, have few events each of all that any has."""
    several = shares.dim() == 2 and len(shares) > 1
    if several and shares.device.type == "cpu" and not torch.is_grad_enabled():
        return torch.sparse.mm(shares.to_sparse(), values)
    return shares @ values


def event_vectors(
    shared: SharedTensors, spec: ModelSpec, history: torch.Tensor, history_norms: torch.Tensor
) -> torch.Tensor:
    """Return (…, L, F): one vector an event, whose `scores` against items are the similarities c, without isolation.

    history : (…, L, F) features of the events. history_norms : (…, L, E) their `block_norms`.
    """
    _, weights = _encoder_weights(spec, history)
    fused = scaled_items(spec, history, history_norms)
    if spec.width:
        fused = fused + (fused @ shared["residual_in"]) @ shared["residual_out"]
    return weights * fused


def queries(shares: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Return (…, T, F): one vector a moment, whose `scores` are the model's in the limit τ → 0, without isolation.

    One product of it with an item index finds the items that are worth a precise score. shares : (…, T, L) `recency`.
    vectors : (…, L, F) `event_vectors`. The query of a moment without an event is zero.
    """
    return SCALE * shares @ vectors


def scaled_items(spec: ModelSpec, features: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
    """Return (…, F): x̂, the fused unit vectors of (…, F) features with (…, E) `block_norms`; 0 without any known word."""
    per_encoder, weights = _encoder_weights(spec, features)
    return features * weights * _inverse_fused_norm(per_encoder, norms).unsqueeze(-1)


def standing_apart(shared: SharedTensors, isolation: torch.Tensor) -> torch.Tensor:
    """Return γ·isolation, (…,): what every event's similarity to an item gains."""
    return PRIOR_ISOLATION * shared["log_isolation"].exp() * isolation


def item_scales(spec: ModelSpec, norms: torch.Tensor) -> torch.Tensor:
    """Return 1/n (…,) from (…, E) `block_norms`: what a dot product with an item is multiplied by."""
    return _inverse_fused_norm(_encoder_weights(spec, norms)[0], norms)


def scores(
    spec: ModelSpec,
    query: torch.Tensor,
    features: torch.Tensor,
    norms: torch.Tensor,
) -> torch.Tensor:
    """Return (…, I) scores of (…, F) queries against (I, F) items with (I, E) `block_norms`.

    Queries are multiplied in the precision of `features`; the scores have the precision that the queries had.
    """
    products = (query.to(features.dtype) @ features.T).to(query.dtype)
    return products * item_scales(spec, norms)
