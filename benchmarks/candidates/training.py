"""Losses over sampled items, and two ways to train a network on several platforms: together, or to be fine-tuned.

Negatives are drawn uniformly from the platform's own catalogue, without regard to shoppers, and a shopper's own items are
masked out. Shapes: B shoppers, L events, T targets, N negatives.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy, logsigmoid

from benchmarks.candidates.networks import TextTransformer
from clients.platform import Platform

Loss = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
"""(T, 1) scores of targets, (T, N) of negatives with −inf where masked, and I, the size of the catalogue → a scalar."""
Say = Callable[[str], None]
CALIBRATION = 0.75
INNER_STEPS, OUTER_RATE = 5, 0.5


@dataclass(frozen=True)
class Effort:
    """How much is trained: steps, shoppers and negatives a step, rate of AdamW."""

    steps: int
    batch: int = 128
    negatives: int = 2048
    rate: float = 1e-3


def softmax_loss(targets: torch.Tensor, negatives: torch.Tensor, items: int) -> torch.Tensor:
    """Return sampled softmax cross-entropy."""
    wanted = torch.zeros(len(targets), dtype=torch.long)
    return cross_entropy(torch.cat([targets, negatives], dim=1), wanted)


def gbce_loss(targets: torch.Tensor, negatives: torch.Tensor, items: int) -> torch.Tensor:
    """Return generalised binary cross-entropy (gSASRec, Petrov & Macdonald 2023) with t = 0.75."""
    share = negatives.shape[1] / (items - 1)
    power = share * (CALIBRATION * (1 - 1 / share) + 1 / share)
    return -(power * logsigmoid(targets).sum() + logsigmoid(-negatives).sum()) / len(targets)


def from_the_front(items: NDArray[np.int64]) -> torch.Tensor:
    """Return (B, L) histories that are padded in front (with −1) so that they are padded behind."""
    padding = (items < 0).sum(1, keepdims=True)
    places = (np.arange(items.shape[1]) + padding) % items.shape[1]
    return torch.from_numpy(np.take_along_axis(items, places, axis=1))


def batch_loss(
    network: TextTransformer,
    platform: Platform,
    users: NDArray[np.int64],
    negatives: NDArray[np.int64],
    loss: Loss,
) -> torch.Tensor | None:
    """Return the loss of predicting every event of these shoppers' training histories but the first; None without one."""
    rows = from_the_front(platform.recent("train")[0][users])
    real = rows[:, 1:] >= 0
    if not real.any():
        return None
    distinct, at = torch.unique(rows.clamp(min=0), return_inverse=True)
    items = network.items(platform.features[distinct], platform.name)[at]
    states = network.states(items[:, :-1])[real]
    targets = (states * items[:, 1:][real]).sum(-1, keepdim=True)
    drawn = torch.from_numpy(negatives)
    against = states @ network.items(platform.features[drawn], platform.name).T
    mine = (rows.unsqueeze(2) == drawn).any(1)  # (B, N)
    against = against.masked_fill(mine[real.nonzero()[:, 0]], -torch.inf)
    return loss(targets, against, len(platform.catalogue))


def train_together(
    network: TextTransformer, members: Sequence[Platform], loss: Loss, effort: Effort, seed: int, say: Say
) -> None:
    """Train on one member after the other, a batch each."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=effort.rate, weight_decay=0.01)
    network.train()
    for step in range(effort.steps):
        value = _step(network, optimizer, members[step % len(members)], loss, effort, rng)
        if (step + 1) % max(1, effort.steps // 10) == 0:
            say(f"  step {step + 1} of {effort.steps}: loss {value:.3f}")


def train_to_be_tuned(
    network: TextTransformer, members: Sequence[Platform], loss: Loss, effort: Effort, seed: int, say: Say
) -> None:
    """Reptile (Nichol et al. 2018): move towards where a few steps on one member lead, so that few steps lead far.

    θ ← θ + 0.5 (θ′ − θ), with θ′ after INNER_STEPS batches of one member. Takes as many batches as `train_together`.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network.train()
    rounds = max(1, effort.steps // INNER_STEPS)
    for turn in range(rounds):
        member, inner = members[turn % len(members)], copy.deepcopy(network)
        optimizer = torch.optim.AdamW(inner.parameters(), lr=effort.rate, weight_decay=0.01)
        for _ in range(INNER_STEPS):
            value = _step(inner, optimizer, member, loss, effort, rng)
        with torch.no_grad():
            for mine, theirs in zip(network.parameters(), inner.parameters(), strict=True):
                mine.lerp_(theirs, OUTER_RATE)
        if (turn + 1) % max(1, rounds // 10) == 0:
            say(f"  round {turn + 1} of {rounds}: loss {value:.3f}")


def _step(
    network: TextTransformer,
    optimizer: torch.optim.Optimizer,
    member: Platform,
    loss: Loss,
    effort: Effort,
    rng: np.random.Generator,
) -> float:
    users = rng.choice(len(member), min(effort.batch, len(member)), replace=False)
    items = len(member.catalogue)
    negatives = rng.choice(items, min(effort.negatives, items), replace=False)
    value = batch_loss(network, member, users, negatives, loss)
    if value is None:
        return float("nan")
    optimizer.zero_grad()
    value.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return float(value.detach())
