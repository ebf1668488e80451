"""The methods of the comparison: what is trained, where its result is kept, how it is ranked.

Each trained method leaves its shared tensors in a file, so a run that was interrupted does not train it again.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from clients.evaluation import Scorer, choose_blend, choose_local, choose_popularity, evaluate
from clients.examples import TrainingData, training_data
from clients.platform import Platform
from clients.recommender import ZERO_SHOT, ZERO_SHOT_PRIOR, LocalLayer, Popularity, Recommender
from clients.training import LocalRecipe, train_plain
from shared_model.errors import CheckpointError
from shared_model.exchange import SharedTensors
from shared_model.model import initial_shared
from simulations.quality import Quality, quality
from simulations.scenario import Scenario


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


def recipe_of(scenario: Scenario) -> LocalRecipe:
    """Return the recipe of training in one place: as many steps as the whole federation makes."""
    federation, model = scenario.federation, scenario.model
    return LocalRecipe(
        steps=federation.rounds * federation.local_steps,
        sample_rate=scenario.privacy.sample_rate,
        learning_rate=model.learning_rate,
        scalar_learning_rate=model.scalar_learning_rate,
        negatives=model.negatives,
    )


def train_in_one_place(file: Path, platforms: Sequence[Platform], scenario: Scenario) -> SharedTensors:
    """Train on the pooled data of `platforms` without noise, or read what an earlier attempt left in `file`."""
    spec = platforms[0].spec
    if file.exists():
        return read_shared(file)
    pools = [pool_of(platform, scenario) for platform in platforms]
    rng = np.random.default_rng([scenario.scenario.seed, len(pools)])
    trained = train_plain(initial_shared(spec), spec, pools, recipe_of(scenario), rng)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    save_file(trained, temporary)
    temporary.replace(file)
    return trained


def pool_of(platform: Platform, scenario: Scenario) -> TrainingData:
    """Return a platform's training examples."""
    return training_data(
        platform.split, platform.features, platform.norms, platform.spec, scenario.model.targets
    )


def read_shared(file: Path) -> SharedTensors:
    """Read shared tensors; raise CheckpointError naming the file."""
    try:
        return load_file(file)
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{file}: the model cannot be read: {error}. Delete it to train it again."
        ) from None


@dataclass(frozen=True, eq=False)
class Judge:
    """Ranks methods on one platform's test shoppers."""

    platform: Platform
    member: bool
    prior: LocalLayer
    alone: LocalLayer
    seed: int

    @classmethod
    def of(cls, platform: Platform, *, member: bool, seed: int) -> "Judge":
        """Return a judge; a member chooses its local layer on validation shoppers, a newcomer has none yet."""
        if not member:
            return cls(platform, member, ZERO_SHOT_PRIOR, ZERO_SHOT_PRIOR, seed)
        return cls(platform, member, choose_popularity(platform), choose_local(platform), seed)

    def popularity(self) -> Outcome:
        """Return how the popularity list does."""
        return self._judge(Popularity(self.platform), None)

    def of_prior(self) -> Outcome:
        """Return how the training-free prior does."""
        return self._judge(self.prior_recommender(), self.prior)

    def untrained(self) -> Outcome:
        """Return how a member does alone without any training: the prior and its own local layer."""
        return self._judge(self.untrained_recommender(), self.alone)

    def of_model(self, shared: SharedTensors) -> Outcome:
        """Return how shared tensors do."""
        recommender = self.recommender(shared)
        return self._judge(recommender, recommender.local)

    def prior_recommender(self) -> Recommender:
        """Return what ranks by text and popularity alone."""
        return Recommender(self.platform, initial_shared(self.platform.spec), self.prior)

    def untrained_recommender(self) -> Recommender:
        """Return what ranks by the prior and the platform's own local layer."""
        return Recommender(self.platform, initial_shared(self.platform.spec), self.alone)

    def recommender(self, shared: SharedTensors) -> Recommender:
        """Return what serves: blended by a member on its validation shoppers, as it is by a newcomer."""
        local = choose_blend(self.platform, shared, self.alone) if self.member else ZERO_SHOT
        return Recommender(self.platform, shared, local)

    def _judge(self, scorer: Scorer, local: LocalLayer | None) -> Outcome:
        with torch.no_grad():
            ranking = evaluate(self.platform, scorer, "test", self.platform.test_users)
        return Outcome(quality(self.platform, ranking, np.random.default_rng(self.seed)), local)
