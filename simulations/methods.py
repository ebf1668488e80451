"""The methods of the comparison: what each ranks with, and how it does on a platform's test shoppers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file

from clients.evaluation import Ranking, choose_joined, choose_local, evaluate, evaluate_layers
from clients.memory import Memory
from clients.platform import Platform
from clients.recommender import PRIOR, LocalLayer, Popularity, Recommender, federation_default
from shared_model.errors import CheckpointError
from shared_model.stages import read_published
from shared_model.table import ProductTable
from simulations.quality import Quality, quality


@dataclass(frozen=True)
class Outcome:
    """How one method did on one platform, and the local layer it was ranked with."""

    quality: Quality
    local: LocalLayer | None

    def to_json(self) -> dict[str, object]:
        """Return the metrics, and the local layer under `local_layer`."""
        result = self.quality.to_json()
        if self.local is not None:
            result["local_layer"] = asdict(self.local)
        return result


def read_table(file: Path) -> ProductTable:
    """Read a published table; raise CheckpointError naming the file."""
    try:
        arrays = load_file(file)
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{file}: the model cannot be read: {error}. Delete it to make it again."
        ) from None
    return read_published(arrays, str(file))


@dataclass(frozen=True, eq=False)
class Judge:
    """Ranks methods on one platform's test shoppers. `alone` is the layer that its own validation shoppers
    chose, `public` has the federation's weights."""

    platform: Platform
    alone: LocalLayer
    public: LocalLayer
    seed: int

    @classmethod
    def of(cls, platform: Platform, declared_total: int, *, seed: int) -> "Judge":
        """Return a judge of a platform, in a federation that declares so many shoppers."""
        return cls(platform, choose_local(platform), federation_default(declared_total), seed)

    def baselines(self) -> dict[str, Outcome]:
        """Return how `popularity`, `prior` (text alone) and `own` (with the platform's own counts) do."""
        with torch.no_grad():
            popularity = evaluate(self.platform, Popularity(self.platform), "test", self._users)
        found = {"popularity": self._outcome(popularity, None)}
        return found | self._ranked({"prior": PRIOR, "own": self.alone}, None)

    def first_day(self, others: Memory) -> Outcome:
        """Return how a newcomer does with what the others know and nothing of its own: no event counts, no choice."""
        return self._ranked({"": self.public}, others)[""]

    def joined(self, others: Memory) -> Outcome:
        """Return how a platform does that adds the others' counts to its own where its validation shoppers want it."""
        return self._ranked({"": choose_joined(self.platform, others, self.alone, self.public)}, others)[""]

    def recommender(self, others: Memory) -> Recommender:
        """Return what serves when `joined`."""
        return Recommender(
            self.platform, choose_joined(self.platform, others, self.alone, self.public), others
        )

    @property
    def _users(self) -> np.ndarray:
        return self.platform.test_users

    def _ranked(self, layers: Mapping[str, LocalLayer], others: Memory | None) -> dict[str, Outcome]:
        with torch.no_grad():
            rankings = evaluate_layers(self.platform, layers, others, "test", self._users)
        return {name: self._outcome(ranking, layers[name]) for name, ranking in rankings.items()}

    def _outcome(self, ranking: Ranking, local: LocalLayer | None) -> Outcome:
        return Outcome(quality(self.platform, ranking, np.random.default_rng(self.seed)), local)
