"""From a platform's split to what the loss sees: one example per shopper, gathered in padded chunks.

Shapes: U shoppers, B shoppers of a chunk, L history length, T target moments, I items, N negatives.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.split import Split
from shared_model.device import to_device
from shared_model.loss import Negatives, ShopperExample
from shared_model.model import (
    PRIOR_ISOLATION,
    ModelSpec,
    block_products,
    event_vectors,
    initial_shared,
    scores,
)

_WEIGHTS = (PRIOR_ISOLATION, 0.0, 3 * PRIOR_ISOLATION, 9 * PRIOR_ISOLATION)
"""Of isolation, γ: what each quarter of a shopper's candidates is nearest by."""


@dataclass(frozen=True)
class TrainingData:
    """A platform's training examples, one per shopper, as rows of its catalogue.

    items : (U, L) int64, the last L training events, oldest first, −1 where padded.
    groups : (U, L) int64, the basket of each event, counted back from the end; 0 where padded.
    seen : (U+1,) and (E,) CSR of all distinct items of each shopper's training history, however long.
    features, norms, isolation : (I, F) float32, (I, E) block norms and (I,) `shared_model.isolation` of the catalogue,
        public; on the device that trains. All else is on the CPU, and moved chunk by chunk.
    targets : T, how many of the last events serve as targets.
    spec : the model that is trained.
    weights : (U, L) float32, how much each event counts as a target; None where all count 1.
    """

    items: torch.Tensor
    groups: torch.Tensor
    seen: tuple[NDArray[np.int64], NDArray[np.int64]]
    features: torch.Tensor
    norms: torch.Tensor
    isolation: torch.Tensor
    targets: int
    spec: ModelSpec
    weights: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.items)

    def negative_rows(self, count: int, rng: np.random.Generator) -> torch.Tensor:
        """Draw (N,) rows uniformly from the public catalogue, independently of every shopper."""
        return torch.from_numpy(rng.integers(0, len(self.features), size=count))

    @torch.no_grad()
    def nearest(self, users: NDArray[np.int64], count: int) -> torch.Tensor:
        """Return (B, N) rows: the items that each shopper's own events speak for most, without those they have met.

        All events alike, and under several weights of isolation in turn (`_WEIGHTS`): an item that only a larger weight
        would lift must be there, or a larger weight would cost nothing. A function of the shopper's own history and of
        public things. N is `count`, or the catalogue's size if that is smaller.
        """
        items = to_device(self.items[torch.from_numpy(users)], self.features.device)
        real, rows = items >= 0, items.clamp(min=0)
        untrained = {n: to_device(t, self.features.device) for n, t in initial_shared(self.spec).items()}
        events = event_vectors(untrained, self.spec, self.features[rows], self.norms[rows])
        mean = (events * real.unsqueeze(-1)).sum(1) / real.sum(1, keepdim=True).clamp(min=1)  # (B, F)
        near = scores(self.spec, mean, self.features, self.norms).nan_to_num(0.0)  # (B, I)
        near.masked_fill_(to_device(self._seen_matrix(users), near.device), -torch.inf)
        total, found = min(count, near.shape[1]), torch.empty(len(users), 0, dtype=torch.int64)
        for number, weight in enumerate(_WEIGHTS, start=1):
            each = total * number // len(_WEIGHTS) - found.shape[1]
            best = (near + weight * self.isolation).topk(each, dim=1).indices
            near.scatter_(1, best, -torch.inf)
            found = torch.cat([found, best.cpu()], 1)
        return found

    def negatives(self, rows: torch.Tensor) -> Negatives:
        """Gather what the loss needs of (N,) negative rows, or of (B, N) of each shopper's own."""
        rows = to_device(rows, self.features.device)
        features = self.features[rows] if self.spec.width else self.features.new_empty(*rows.shape, 0)
        return Negatives(features, self.norms[rows], self.isolation[rows])

    def chunk(self, users: NDArray[np.int64], negatives: torch.Tensor) -> ShopperExample:
        """Gather the examples of (B,) shoppers for (N,) negative rows, or (B, N) of each shopper's own.

        Each example depends on its own shopper and on public things only.
        """
        rows = torch.from_numpy(users)
        items, groups = self.items[rows], self.groups[rows]  # (B, L)
        real = items >= 0
        target_items, target_groups = items[:, -self.targets :], groups[:, -self.targets :]  # (B, T)
        # Groups count back from the end, so an event of an earlier basket has a larger number.
        ages = (groups.unsqueeze(1) - target_groups.unsqueeze(2)).to(self.features.dtype)  # (B, T, L)
        counts = (ages > 0) & real.unsqueeze(1)
        ages = torch.where(counts, ages, torch.inf)
        repeated = (counts & (items.unsqueeze(1) == target_items.unsqueeze(2))).any(-1)
        mask = (target_items >= 0) & counts.any(-1) & ~repeated
        own = negatives if negatives.dim() == 2 else negatives.expand(len(users), -1)
        negative_mask = ~self._seen_matrix(users).gather(1, own)
        device = self.features.device
        real, mask = to_device(real, device), to_device(mask, device)
        rows_of, targets_of = (to_device(x.clamp(min=0), device) for x in (items, target_items))
        history = self.features[rows_of] * real.unsqueeze(-1)  # (B, L, F)
        targets = self.features[targets_of] * mask.unsqueeze(-1)  # (B, T, F)
        # The shapes of these products are public: a row's last bits do not depend on who else is in the chunk.
        candidates = self.features[to_device(negatives, device)]  # (N, F) or (B, N, F)
        return ShopperExample(
            history=self._for_residual(history),
            history_norms=self.norms[rows_of],
            ages=to_device(ages, device),
            targets=self._for_residual(targets),
            target_norms=self.norms[targets_of],
            target_isolation=self.isolation[targets_of],
            target_mask=self._weighed(mask, rows),
            negative_mask=to_device(negative_mask, device),
            target_products=block_products(self.spec, history, targets),
            negative_products=block_products(self.spec, history, candidates),
        )

    def _for_residual(self, features: torch.Tensor) -> torch.Tensor:
        """Return (…, F) features for a model with a residual; without one, all that counts of them is products."""
        return features if self.spec.width else features[..., :0]

    def _weighed(self, mask: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return (B, T) float32: each target's weight, 0 where there is none. Clipping bounds the shopper anyway."""
        counts = mask.to(torch.float32)
        if self.weights is None:
            return counts
        return counts * to_device(self.weights[rows, -self.targets :], counts.device)

    def _seen_matrix(self, users: NDArray[np.int64]) -> torch.Tensor:
        """Return (B, I) bool: which items each shopper has met."""
        indptr, indices = self.seen
        seen = torch.zeros((len(users), len(self.features)), dtype=torch.bool)
        for row, user in enumerate(users):
            seen[row, indices[indptr[user] : indptr[user + 1]]] = True
        return seen


def training_data(
    split: Split,
    features: torch.Tensor,
    norms: torch.Tensor,
    isolation: torch.Tensor,
    spec: ModelSpec,
    targets: int,
) -> TrainingData:
    """Return the training examples of a split: nothing at or after the validation basket enters."""
    items, ages = split.padded("train", spec.history_length)
    weights = split.padded_weights("train", spec.history_length)
    return TrainingData(
        items=torch.from_numpy(items),
        groups=torch.from_numpy(ages),
        seen=split.seen("train"),
        features=features,
        norms=norms,
        isolation=isolation,
        targets=min(targets, spec.history_length),
        spec=spec,
        weights=None if weights is None else torch.from_numpy(weights),
    )
