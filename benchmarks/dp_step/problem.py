"""The task that every method is given: the model's real shapes, made-up shoppers and items.

Shapes: U shoppers, I items, F feature width, L history length, T targets.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.functional import normalize

from clients.examples import TrainingData
from clients.training import LocalRecipe
from privacy.plan import PrivacyPlan
from shared_model.exchange import SharedTensors
from shared_model.isolation import isolation
from shared_model.model import ModelSpec, block_norms, initial_shared

ENCODERS = (384, 384)
HISTORY, TARGETS, NEGATIVES, WIDTH = 20, 16, 128, 16
ITEMS = 20_000
STEPS = 400
"""Steps of the run that one step is taken from; it decides whether "auto" compiles."""


@dataclass(frozen=True)
class Problem:
    """Everything a step needs. All `users` shoppers are in the step's batch."""

    spec: ModelSpec
    data: TrainingData
    shared: SharedTensors
    recipe: LocalRecipe
    plan: PrivacyPlan
    seed: int

    def public_rng(self) -> np.random.Generator:
        """Return the generator of the step's negatives: the same for every method."""
        return np.random.default_rng([self.seed, 1])

    def without_residual(self) -> "Problem":
        """Return the task of the default model, whose few scalars are trained by differences of ranks."""
        spec = replace(self.spec, width=0)
        shared = {t.name: self.shared[t.name] for t in spec.exchange.tensors}
        return replace(self, spec=spec, data=replace(self.data, spec=spec), shared=shared)

    def describe(self) -> dict[str, int]:
        """Return the shapes."""
        return {
            "users": len(self.data),
            "items": len(self.data.features),
            "feature_width": self.spec.feature_width,
            "encoders": len(self.spec.encoder_dimensions),
            "history_length": self.spec.history_length,
            "targets": self.data.targets,
            "negatives": self.recipe.negatives,
            "width": self.spec.width,
            "parameters": self.spec.exchange.parameters,
            "steps_of_the_run": self.plan.steps,
        }


def make_problem(users: int, seed: int) -> Problem:
    """Return the task for U shoppers with 3 to L events each, one event a basket."""
    rng = np.random.default_rng([seed, 0])
    spec = ModelSpec(ENCODERS, WIDTH, HISTORY)
    lengths = rng.integers(3, HISTORY + 1, size=users)
    padded = np.arange(HISTORY) < HISTORY - lengths[:, None]  # (U, L)
    items = np.where(padded, -1, rng.integers(0, ITEMS, size=(users, HISTORY)))
    groups = np.where(padded, 0, np.arange(HISTORY, 0, -1))
    seen = [np.unique(row[row >= 0]) for row in items]
    normals = torch.from_numpy(rng.standard_normal((ITEMS, spec.feature_width), dtype=np.float32))
    features = torch.cat([normalize(block, dim=-1) for block in normals.split(ENCODERS, -1)], -1)
    norms = block_norms(spec, features)
    data = TrainingData(
        items=torch.from_numpy(items),
        groups=torch.from_numpy(groups),
        seen=(np.cumsum([0, *map(len, seen)]), np.concatenate(seen)),
        features=features,
        norms=norms,
        isolation=isolation(spec, features, norms),
        targets=TARGETS,
        spec=spec,
    )
    shared = {
        name: tensor + 0.05 * torch.from_numpy(rng.standard_normal(tuple(tensor.shape), dtype=np.float32))
        for name, tensor in initial_shared(spec).items()
    }
    plan = PrivacyPlan.calibrated(
        epsilon=8.0, delta=1e-6, clip_norm=1.0, sample_rate=1.0, population_size=users, steps=STEPS
    )
    recipe = LocalRecipe(
        steps=1, sample_rate=1.0, learning_rate=1e-3, scalar_learning_rate=1e-2, negatives=NEGATIVES
    )
    return Problem(spec, data, shared, recipe, plan, seed)
