"""The methods of the comparison: what is trained, where its result is kept, how it is ranked.

Each trained method leaves its shared tensors in a file, so a run that was interrupted does not train it again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from clients.evaluation import (
    Model,
    Ranking,
    choose_blends,
    choose_local,
    choose_popularity,
    evaluate,
    evaluate_models,
)
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
        platform.split,
        platform.features,
        platform.norms,
        platform.isolation,
        platform.spec,
        scenario.model.targets,
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

    def outcomes(self, models: Mapping[str, SharedTensors]) -> dict[str, Outcome]:
        """Return how `popularity`, `prior`, a member's `prior_local` and each of `models` do.

        `prior_local` is what a member does alone without any training: the prior and its own local layer. All but
        popularity share the passes over the catalogue.
        """
        untrained = initial_shared(self.platform.spec)
        asked: dict[str, Model] = {"prior": (untrained, self.prior)}
        if self.member:
            asked["prior_local"] = (untrained, self.alone)
        asked |= {name: (models[name], local) for name, local in self._layers(models).items()}
        users = self.platform.test_users
        with torch.no_grad():
            popularity = evaluate(self.platform, Popularity(self.platform), "test", users)
            rankings = evaluate_models(self.platform, asked, "test", users)
        found = {"popularity": self._outcome(popularity, None)}
        return found | {name: self._outcome(ranking, asked[name][1]) for name, ranking in rankings.items()}

    def prior_recommender(self) -> Recommender:
        """Return what ranks by text and popularity alone."""
        return Recommender(self.platform, initial_shared(self.platform.spec), self.prior)

    def untrained_recommender(self) -> Recommender:
        """Return what ranks by the prior and the platform's own local layer."""
        return Recommender(self.platform, initial_shared(self.platform.spec), self.alone)

    def recommender(self, shared: SharedTensors) -> Recommender:
        """Return what serves: blended by a member on its validation shoppers, as it is by a newcomer."""
        return Recommender(self.platform, shared, self._layers({"": shared})[""])

    def _layers(self, models: Mapping[str, SharedTensors]) -> dict[str, LocalLayer]:
        if self.member:
            return choose_blends(self.platform, models, self.alone)
        return dict.fromkeys(models, ZERO_SHOT)

    def _outcome(self, ranking: Ranking, local: LocalLayer | None) -> Outcome:
        return Outcome(quality(self.platform, ranking, np.random.default_rng(self.seed)), local)
