"""The methods, as small objects with one interface: fit once per seed, then serve any audience.

A new recipe needs no code here: a recipe file changes what is trained, and `simulations.methods.Judge` decides how
shared tensors are served. A new kind of model is one more object like these, listed in `run.lineup`.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.provenance import code_of
from benchmarks.transfer.cells import key_of, locked, read_json, write_json
from benchmarks.transfer.platforms import Audience, Platforms, fingerprint
from clients.evaluation import Scorer, evaluate
from clients.platform import Platform, prepare_platform
from clients.recommender import Popularity, Recommender
from clients.training import train_plain
from server.app import MODEL
from shared_model.errors import BadInputError
from shared_model.exchange import SharedTensors
from shared_model.metrics import ndcg_at
from shared_model.model import initial_shared
from simulations.budgets import budgets
from simulations.folder import RunFolder
from simulations.methods import Judge, pool_of, read_shared, recipe_of, train_in_one_place
from simulations.run import federate, load
from simulations.scenario import Scenario, ScenarioSection

Say = Callable[[str], None]
TUNING_SHOPPERS = 5000
"""At most so many validation shoppers choose among a grid."""


@dataclass(frozen=True)
class Served:
    """What ranks for an audience, and how it came about."""

    scorer: Scorer
    notes: dict[str, Any]


Serve = Callable[[Audience], Served]


class UnavailableError(BadInputError):
    """A method cannot run on this machine; the message says what it needs."""


class Method(Protocol):
    """One method of the comparison."""

    @property
    def name(self) -> str:
        """The method's name in cells, reports and `--only`."""
        ...

    def inputs(self) -> dict[str, Any]:
        """Return all that decides the result besides audience and seed, as JSON: part of every cell's key."""
        ...

    def serves(self, audience: Audience) -> bool:
        """Say whether the method has anything to say there."""
        ...

    def varies(self, audience: Audience) -> bool:
        """Say whether another seed can give another result there."""
        ...

    def fit(self, seed: int, folder: Path, say: Say) -> Serve:
        """Train what all audiences share and return what serves each; take up again what is in `folder`."""
        ...


@dataclass(frozen=True)
class PopularityMethod:
    """The same list for everyone."""

    name: str = "popularity"

    def inputs(self) -> dict[str, Any]:
        """Nothing but the audience decides."""
        return {"code": code_of(__name__)}

    def serves(self, audience: Audience) -> bool:
        """Everyone once: a member's own layer changes nothing."""
        return not (audience.member and audience.shots == 0)

    def varies(self, audience: Audience) -> bool:
        """Only the draw of few shoppers."""
        return audience.shots not in {0, None}

    def fit(self, seed: int, folder: Path, say: Say) -> Serve:
        """Nothing to train."""
        return lambda audience: Served(Popularity(audience.served(audience.own(seed))), {})


@dataclass(frozen=True)
class Prior:
    """Item text and a recency-weighted history, no training; shots choose the weight of popularity."""

    platforms: Platforms
    name: str = "prior"

    def inputs(self) -> dict[str, Any]:
        """The model's features decide."""
        return {"model": self.platforms.recipe.model.model_dump(mode="json"), "code": code_of(__name__)}

    def serves(self, audience: Audience) -> bool:
        """Everyone."""
        return True

    def varies(self, audience: Audience) -> bool:
        """Only the draw of few shoppers."""
        return audience.shots not in {0, None}

    def fit(self, seed: int, folder: Path, say: Say) -> Serve:
        """Nothing to train."""

        def serve(audience: Audience) -> Served:
            return _to(audience, judge(audience, seed).prior_recommender())

        return serve


@dataclass(frozen=True)
class PriorLocal:
    """The prior and the platform's own local layer, no training: what joining is measured against."""

    platforms: Platforms
    name: str = "prior_local"

    def inputs(self) -> dict[str, Any]:
        """The model's features decide."""
        return {"model": self.platforms.recipe.model.model_dump(mode="json"), "code": code_of(__name__)}

    def serves(self, audience: Audience) -> bool:
        """Whoever has shoppers to learn from."""
        return audience.shots != 0

    def varies(self, audience: Audience) -> bool:
        """Only the draw of few shoppers."""
        return audience.shots is not None

    def fit(self, seed: int, folder: Path, say: Say) -> Serve:
        """Nothing to train."""

        def serve(audience: Audience) -> Served:
            return _to(audience, judge(audience, seed).untrained_recommender())

        return serve


@dataclass(frozen=True)
class LocalOnly:
    """The same model, trained by each platform alone without noise; validation shoppers choose among a grid."""

    platforms: Platforms
    name: str = "local_only"

    def inputs(self) -> dict[str, Any]:
        """The recipe decides."""
        return {
            "recipe": self.platforms.recipe.model_dump(mode="json", exclude={"name"}),
            "code": code_of(__name__),
        }

    def serves(self, audience: Audience) -> bool:
        """Whoever has shoppers to train on."""
        return audience.shots != 0

    def varies(self, audience: Audience) -> bool:
        """Training draws."""
        return True

    def fit(self, seed: int, folder: Path, say: Say) -> Serve:
        """Each audience trains for itself, from the untrained model."""

        def serve(audience: Audience) -> Served:
            start = initial_shared(audience.platform.spec)
            return tuned(self, audience, start, seed, folder, say)

        return serve


@dataclass(frozen=True)
class Federated:
    """The members' federation, run by the Flower apps; private where `epsilon` is not None. As it is or blended."""

    platforms: Platforms
    epsilon: float | None

    @property
    def name(self) -> str:
        """`federated`, or `federated_private@ε`."""
        return "federated" if self.epsilon is None else f"federated_private@{self.epsilon:g}"

    def inputs(self) -> dict[str, Any]:
        """The recipe and the members' data decide."""
        return _of_members(self.platforms) | {"epsilon": self.epsilon}

    def serves(self, audience: Audience) -> bool:
        """Everyone."""
        return True

    def varies(self, audience: Audience) -> bool:
        """Training draws."""
        return True

    def fit(self, seed: int, folder: Path, say: Say) -> Serve:
        """Run the federation's rounds, or what is missing of them."""
        shared, notes = self.train(seed, folder, say)

        def serve(audience: Audience) -> Served:
            return _to(audience, judge(audience, seed).recommender(shared), notes)

        return serve

    def train(self, seed: int, folder: Path, say: Say) -> tuple[SharedTensors, dict[str, Any]]:
        """Return the shared tensors and what each member's ledger holds."""
        run = RunFolder((folder / key_of([self.inputs(), seed])[:16]).resolve())
        notes = read_json(run.path / "spent.json")
        if notes is None:
            run.path.mkdir(parents=True, exist_ok=True)
            try:
                simulation = load(run, scenario_of(self.platforms, self.epsilon, seed), lambda text: None)
                federate(simulation, run.path, simulation.sites, simulation.settings)
            finally:
                prepare_platform.cache_clear()  # each run has sites of its own, which nobody asks for again
            held = budgets(simulation.sites) if simulation.private else {}
            notes = {"epsilon": {n: b.committed for n, b in held.items()}} if held else {}
            write_json(run.path / "spent.json", notes)
        return read_shared(run.path / MODEL), notes


@dataclass(frozen=True)
class Centralised:
    """The members' data pooled, no noise: what federation and privacy are measured against. For research only."""

    platforms: Platforms
    name: str = "centralised"

    def inputs(self) -> dict[str, Any]:
        """The recipe and the members' data decide."""
        return _of_members(self.platforms)

    def serves(self, audience: Audience) -> bool:
        """Everyone."""
        return True

    def varies(self, audience: Audience) -> bool:
        """Training draws."""
        return True

    def fit(self, seed: int, folder: Path, say: Say) -> Serve:
        """Train on the pooled data, as many steps as the federation makes."""
        file = folder / f"{key_of([self.inputs(), seed])[:16]}.safetensors"
        shared = train_in_one_place(file, self.platforms.members, scenario_of(self.platforms, None, seed))

        def serve(audience: Audience) -> Served:
            return _to(audience, judge(audience, seed).recommender(shared))

        return serve


@dataclass(frozen=True)
class FineTuned:
    """A federation's model, trained on by each platform on its own data without noise: what a member serves."""

    base: Federated

    @property
    def name(self) -> str:
        """The base's name with `+local`."""
        return f"{self.base.name}+local"

    def inputs(self) -> dict[str, Any]:
        """As the base, and the recipe's local grid."""
        return self.base.inputs() | {"local": self.base.platforms.recipe.local.model_dump(mode="json")}

    def serves(self, audience: Audience) -> bool:
        """Whoever has shoppers to train on."""
        return audience.shots != 0

    def varies(self, audience: Audience) -> bool:
        """Training draws."""
        return True

    def fit(self, seed: int, folder: Path, say: Say) -> Serve:
        """Take the base's model, which is trained if it is not there yet."""
        base = folder.parent / self.base.name
        with locked(base):
            shared, notes = self.base.train(seed, base, say)

        def serve(audience: Audience) -> Served:
            served = tuned(self, audience, shared, seed, folder, say)
            return Served(served.scorer, notes | served.notes)

        return serve


def scenario_of(platforms: Platforms, epsilon: float | None, seed: int) -> Scenario:
    """Return the members' federation as a simulation's scenario."""
    recipe = platforms.recipe
    return Scenario(
        scenario=ScenarioSection(name=platforms.study.name, seed=seed),
        privacy=recipe.privacy.model_copy(update={"epsilon": "none" if epsilon is None else epsilon}),
        federation=recipe.federation,
        model=recipe.model,
        task=recipe.task,
        platform=[platforms.section(entry) for entry in platforms.study.members],
    )


def judge(audience: Audience, seed: int) -> Judge:
    """Return the judge that chooses the audience's local layer, on the shoppers that it may learn from."""
    return _judge(
        audience, seed if audience.shots else 0
    )  # all shoppers, or none, are the same for every seed


@cache
def _judge(audience: Audience, seed: int) -> Judge:
    """Choose once a process: every method asks."""
    return Judge.of(audience.own(seed), member=audience.shots != 0, seed=seed)


def tuned(
    method: LocalOnly | FineTuned, audience: Audience, start: SharedTensors, seed: int, folder: Path, say: Say
) -> Served:
    """Train `start` on the audience's own shoppers.

    The first seed to come chooses among the recipe's grid, and no training at all, by NDCG@10 of the audience's own
    validation shoppers; later seeds train what it chose.
    """
    platforms = method.base.platforms if isinstance(method, FineTuned) else method.platforms
    scenario = scenario_of(platforms, None, seed)
    judging = judge(audience, seed)
    own = judging.platform
    pool = pool_of(own, scenario)

    def trained(changes: dict[str, Any]) -> SharedTensors:
        recipe = replace(recipe_of(scenario), **changes)
        return train_plain(start, own.spec, [pool], recipe, np.random.default_rng([seed, 7]))

    def choose() -> dict[str, Any]:
        best: dict[str, Any] = {
            "changes": None,
            "validation": validation_ndcg(own, judging.recommender(start)),
        }
        for changes in platforms.recipe.local.grid:
            value = validation_ndcg(own, judging.recommender(trained(changes)))
            say(f"    {audience.platform.name} {audience.label} {changes}: validation NDCG@10 {value:.4f}")
            if value > best["validation"]:
                best = {"changes": changes, "validation": value}
        return best

    key = key_of([method.inputs(), fingerprint(audience.platform), audience.shots])
    choice = chosen(folder / f"{audience.platform.name}-{audience.label}.json", key, choose)
    shared = start if choice["changes"] is None else trained(choice["changes"])
    return _to(audience, judging.recommender(shared), {"trained": choice["changes"]})


def validation_ndcg(platform: Platform, scorer: Scorer) -> float:
    """Return the mean NDCG@10 of the platform's validation shoppers, TUNING_SHOPPERS of them drawn; 0 without any.

    Drawn, because shoppers whose ids are close can be of one kind: in one of the data sets they differ threefold.
    """
    users = np.sort(np.random.default_rng(0).permutation(platform.valid_users)[:TUNING_SHOPPERS])
    return float(ndcg_at(evaluate(platform, scorer, "valid", users).ranks, 10).mean()) if len(users) else 0.0


def chosen(file: Path, key: str, choose: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the choice kept in a file, or make and keep it."""
    kept = read_json(file)
    if not isinstance(kept, dict) or kept.get("key") != key:
        kept = {"key": key} | choose()
        write_json(file, kept)
    return kept


def _of_members(platforms: Platforms) -> dict[str, Any]:
    return {
        "recipe": platforms.recipe.model_dump(mode="json", exclude={"name", "local"}),
        "members": {p.name: p.model_dump(mode="json") for p in platforms.study.members},
        "data": {p.name: fingerprint(p) for p in platforms.members},
        "code": code_of(__name__),
    }


def _to(audience: Audience, recommender: Recommender, notes: dict[str, Any] | None = None) -> Served:
    """Let a recommender that learned from a part of the platform serve all of it."""
    layer = {"local_layer": asdict(recommender.local)}
    served = audience.served(recommender.platform)
    return Served(replace(recommender, platform=served), layer | (notes or {}))
