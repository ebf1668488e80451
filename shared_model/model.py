"""The model: a training-free prior, and a small shared residual on it that starts as the identity.

Shapes: B users, L history length, T moments, I items, F feature width, D residual width, E encoders.

    p = norm( w ⊙ Σ_l exp(−λ·age_l) · x_l / n_l )    the prior's user vector, a recency-weighted mean
    q = s · w ⊙ norm( p + (p·A)·R )                   the query
    score(u, i) = ⟨q, x_i⟩ / n_i

x are frozen unit features per encoder, w weighs the encoders' blocks, and n_i = ‖w ⊙ x_i‖ makes the fused item
a unit vector, so an untrained score is s times a cosine. Shared and trained: A (F, D), R (D, F), log λ, log s
and log w. R starts at zero and the scalars at a factor exp(0) = 1, so the untrained model *is* the prior, bit
for bit. The residual is a low-rank bilinear map (LoRA, Hu et al. 2022) that acts on the query alone: item
vectors never change, so an item index outlives every model version, and no table of items passes through a
trained layer.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch.nn.functional import normalize

from shared_model.encoders import EncoderIdentity
from shared_model.errors import EncoderError
from shared_model.exchange import ExchangeSpec, SharedTensors, TensorSpec

PRIOR_DECAY = 0.31
PRIOR_SCALE = 12.0


@dataclass(frozen=True)
class ModelSpec:
    """The public shape of a model; equal on every platform of a federation.

    Attributes
    ----------
    encoder_dimensions : F of each encoder, in the order of concatenation.
    width : D, the rank of the residual, ≥ 1.
    history_length : L, the events of a shopper that form the user vector, ≥ 1.
    prior_weights : > 0, the weight w of each encoder's block before training; () for 1 each.
    """

    encoder_dimensions: tuple[int, ...]
    width: int = 16
    history_length: int = 50
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
        return ExchangeSpec(
            (
                TensorSpec("log_decay", (1,)),
                TensorSpec("log_scale", (1,)),
                TensorSpec("log_encoder_weights", (len(self.encoder_dimensions),)),
                TensorSpec("residual_in", (self.feature_width, self.width)),
                TensorSpec("residual_out", (self.width, self.feature_width)),
            )
        )


def initial_shared(spec: ModelSpec) -> SharedTensors:
    """Return the shared tensors of the untrained model, which is the prior; the same on every machine.

    `residual_in` is a random projection of ±1/√F (from SHAKE-256), everything else zero.
    """
    shared = {t.name: torch.zeros(t.shape) for t in spec.exchange.tensors}
    count = spec.feature_width * spec.width
    stream = hashlib.shake_256(b"fedcart residual 1").digest((count + 7) // 8)
    bits = np.unpackbits(np.frombuffer(stream, dtype=np.uint8), count=count)
    signs = (bits.astype(np.float32) * 2 - 1) / np.sqrt(np.float32(spec.feature_width))
    shared["residual_in"] = torch.from_numpy(signs.reshape(spec.feature_width, spec.width))
    return shared


def block_norms(spec: ModelSpec, features: torch.Tensor) -> torch.Tensor:
    """Return (…, E): the length of each encoder's block of (…, F) features: 1, or 0 for an empty text."""
    return torch.stack([block.norm(dim=-1) for block in features.split(spec.encoder_dimensions, -1)], -1)


def _encoder_weights(shared: SharedTensors, spec: ModelSpec) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weight of each encoder (E,), and the same spread over its block (F,)."""
    weights = shared["log_encoder_weights"].exp()
    if spec.prior_weights:
        each = zip(weights.split(1), spec.prior_weights, strict=True)
        weights = torch.cat([weight * prior for weight, prior in each])
    # Not `repeat_interleave`: compiled by TorchInductor 2.13, its per-shopper gradients are summed over shoppers.
    blocks = zip(weights.split(1), spec.encoder_dimensions, strict=True)
    return weights, torch.cat([weight.expand(width) for weight, width in blocks])


def _inverse_fused_norm(weights: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
    """Return (…,) 1/‖w ⊙ x‖ from (…, E) block norms; 0 for an item without any known word."""
    squared = (weights.square() * norms.square()).sum(-1)
    return torch.where(squared > 0, squared.clamp(min=1e-12).rsqrt(), 0.0)


def queries(
    shared: SharedTensors,
    spec: ModelSpec,
    history: torch.Tensor,
    history_norms: torch.Tensor,
    ages: torch.Tensor,
) -> torch.Tensor:
    """Return q (…, T, F) for a history looked back on at T moments.

    Parameters
    ----------
    history : (…, L, F) features of the events.
    history_norms : (…, L, E) their `block_norms`.
    ages : (…, T, L) how long ago each event was at each moment, in baskets, ≥ 1; inf where an event does not
        count (padding, or not earlier). A moment without an event gives a zero query.
    """
    per_encoder, weights = _encoder_weights(shared, spec)
    counts = ~torch.isinf(ages)
    decay = PRIOR_DECAY * shared["log_decay"].exp()
    recency = torch.exp(-decay * torch.where(counts, ages, 0.0)) * counts  # (…, T, L)
    recency = recency * _inverse_fused_norm(per_encoder, history_norms).unsqueeze(-2)
    prior = normalize((recency @ history) * weights, dim=-1)  # (…, T, F)
    user = normalize(prior + (prior @ shared["residual_in"]) @ shared["residual_out"], dim=-1)
    return PRIOR_SCALE * shared["log_scale"].exp() * weights * user


def item_scales(shared: SharedTensors, spec: ModelSpec, norms: torch.Tensor) -> torch.Tensor:
    """Return 1/n (…,) from (…, E) `block_norms`: what a dot product with an item is multiplied by."""
    return _inverse_fused_norm(_encoder_weights(shared, spec)[0], norms)


def scores(
    shared: SharedTensors,
    spec: ModelSpec,
    query: torch.Tensor,
    features: torch.Tensor,
    norms: torch.Tensor,
) -> torch.Tensor:
    """Return (…, I) scores of (…, F) queries against (I, F) items with (I, E) `block_norms`.

    Queries are multiplied in the precision of `features`; the scores have the precision that the queries had.
    """
    products = (query.to(features.dtype) @ features.T).to(query.dtype)
    return products * item_scales(shared, spec, norms)
