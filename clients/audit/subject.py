"""What is audited: one platform's shoppers, and how the model would be trained on them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from clients.examples import TrainingData, training_data
from clients.gradients import compiles
from clients.platform import Platform
from clients.site import Compile
from clients.training import LocalRecipe, Shoppers
from privacy.plan import PrivacyPlan
from shared_model.errors import BadInputError
from shared_model.model import ModelSpec

Progress = Callable[[str], None]
"""Is told what was just done, in words."""


@dataclass(frozen=True)
class Subject:
    """A training under audit.

    name : the platform's.
    data : its training examples.
    recipe : between two exchanges: `recipe.steps` steps.
    plan : of the whole run: `plan.steps` steps, made in as many rounds as they need.
    seed : of the public draws, such as negatives.
    compile : whether per-shopper gradients are compiled, as the platform's training does it.
    """

    name: str
    spec: ModelSpec
    data: TrainingData
    recipe: LocalRecipe
    plan: PrivacyPlan
    seed: int
    compile: Compile

    @property
    def shoppers(self) -> Shoppers:
        """The population that really trains."""
        device = self.data.features.device
        compiled = compiles(self.compile, self.plan, self.spec, self.data.targets, device)
        return Shoppers(self.spec, self.data, self.recipe.negatives, compiled)

    @property
    def parameters(self) -> int:
        """Number of shared parameters."""
        return self.spec.exchange.parameters

    def rounds(
        self, steps: int, local_steps: int | None = None
    ) -> Iterator[tuple[LocalRecipe, np.random.Generator]]:
        """Yield each round's recipe and public generator until `steps` steps are made; the last may be shorter."""
        local = local_steps or self.recipe.steps
        for number, start in enumerate(range(0, steps, local)):
            rng = np.random.default_rng([self.seed, number])
            yield replace(self.recipe, steps=min(local, steps - start)), rng


def subject_of(
    platform: Platform, recipe: LocalRecipe, plan: PrivacyPlan, *, targets: int, seed: int, compile: Compile
) -> Subject:
    """Return a platform's training under a recipe and a plan; raise BadInputError without two shoppers."""
    if len(platform) < 2:
        raise BadInputError(f"{platform.name}: {len(platform)} usable shoppers; an audit needs two.")
    data = training_data(
        platform.split, platform.features, platform.norms, platform.isolation, platform.spec, targets
    )
    return Subject(platform.name, platform.spec, data, recipe, plan, seed, compile)
