"""One-run audit of a platform's releases: canaries join by fair coins, the attacker looks at what is released.

A stage is released by `clients.training.release_stage`, as in every private round, and the temper of edges is made of the
noised popularity by `ProductTable.fixed_temper`, as the server makes it. The attacker is the one of the definition: it
knows the real shoppers and takes their part off; of the canaries it knows all but the coins.

| case                                              | what happens                                            |
|---------------------------------------------------|---------------------------------------------------------|
| fewer disjoint edges than canaries                | several runs, each with new coins, of `MOST_RUNS` at most |
| no edge, or too few                               | PlanError                                               |
| a plan for popularity alone                       | canaries are seen by their products alone               |
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clients.audit.canaries import owned_edges, with_canaries
from clients.audit.subject import Progress, Subject
from clients.training import ShopperEvents, Sum, exact_sum, release_stage
from privacy.audit import AuditOutcome, Canaries, assess, likelihood_scores
from privacy.checks import whole
from privacy.noise import NoiseSource, ReproducibleNoise, SecureNoise
from shared_model.stages import Stage, TableShape, part_of
from shared_model.table import TYPICAL_PRODUCTS, ProductTable

Floats = NDArray[np.float64]
MOST_RUNS = 200
FEWEST = 20
"""Canaries."""


def noised_temper(released: ProductTable, events: ShopperEvents) -> ProductTable:
    """Return the released table with its temper fixed, as the server fixes it; no event is looked at."""
    return released.fixed_temper()


@dataclass(frozen=True)
class Training:
    """How a run under audit goes: as it is, or with a defect in one of the things that it is given."""

    subject: Subject
    noise: NoiseSource
    total: Sum = exact_sum
    temper: Callable[[ProductTable, ShopperEvents], ProductTable] = noised_temper
    count: Callable[[ShopperEvents, int], Floats] | None = None

    def release(self, events: ShopperEvents) -> tuple[dict[Stage, Floats], NDArray[np.float32]]:
        """Return what a run over these shoppers releases, (V,) and (E,), and the temper (V,) of its edges."""
        plan, vocabulary = self.subject.plan, self.subject.vocabulary
        shape, edges = TableShape(len(vocabulary), len(vocabulary.edges)), vocabulary.edges
        temper, released = np.ones(shape.products, np.float32), {}
        for stage in self.subject.stages:
            given = {"temper": temper}
            out = release_stage(stage, events, edges, given, shape.products, plan, self.noise, self.total)
            released[stage] = out.astype(np.float64)
            if stage is Stage.POPULARITY:
                table = part_of(shape, stage, {stage.value: out}, plan.noise_of(stage.number) ** 2)
                temper = self.temper(replace(table, runs=1), events).temper.astype(np.float32)
        return released, temper

    def attacks(self, included: NDArray[np.bool_], owned: NDArray[np.int64]) -> dict[str, Floats]:
        """Make one run with the canaries of the edges `owned` (m,) that are `included`; return attack → (m,) scores."""
        plan, vocabulary, shoppers = self.subject.plan, self.subject.vocabulary, self.subject.events
        edges, products = vocabulary.edges, len(vocabulary)
        pairs, known = edges[owned].astype(np.int64), {}
        everyone = with_canaries(shoppers, pairs[included])
        released, temper = self.release(everyone)
        for stage in released:
            known[stage] = self.total(stage, shoppers, edges, {"temper": temper}, products)
        left = {stage: total - known[stage] for stage, total in released.items()}
        sigmas = [plan.noise_of(stage.number) for stage in left]
        along = {Stage.POPULARITY: lambda x: x[pairs].sum(axis=1) / 2**0.5, Stage.EDGES: lambda x: x[owned]}
        seen = np.stack([along[stage](x) for stage, x in left.items()])
        found = {"likelihood": likelihood_scores(seen, sigmas)}
        popularity = along[Stage.POPULARITY]
        if Stage.EDGES in left:
            clean = np.setdiff1d(np.arange(min(products, len(edges))), owned)  # there, edges are noise alone
            without = np.zeros(products)
            without[clean] = left[Stage.POPULARITY][clean] - sigmas[0] / sigmas[1] * left[Stage.EDGES][clean]
            without[clean] -= 0.5**1.5  # half of what a canary adds: 0 is no opinion
            found["repeated noise"] = popularity(without)
            found["temper"] = popularity(temper / TYPICAL_PRODUCTS**0.5 - known[Stage.POPULARITY])
        if self.count is not None:
            found["count"] = popularity(self.count(everyone, products) - self.count(shoppers, products))
        return found

    def run(self, canaries: Canaries, owned: NDArray[np.int64], say: Progress) -> dict[str, Floats]:
        """Return attack → (m,) scores of m canaries, in as many runs as the edges `owned` need."""
        runs, found = runs_of(len(canaries.included), owned), []
        for number, coins in enumerate(np.array_split(canaries.included, runs), start=1):
            found.append(self.attacks(coins, owned[: len(coins)]))
            say(f"run {number} of {runs}")
        return {name: np.concatenate([scores[name] for scores in found]) for name in found[0]}


def runs_of(m: int, owned: NDArray[np.int64]) -> int:
    """Return how many runs m canaries need."""
    return -(-m // len(owned))


def edges_to_own(subject: Subject, canaries: int | None, most: int) -> tuple[int, NDArray[np.int64]]:
    """Return how many canaries there are and the edges that those of one run own; raise PlanError.

    canaries : how many; None is `most`, or fewer where the vocabulary has no room.
    """
    wanted, edges = most if canaries is None else canaries, subject.vocabulary.edges
    owned = owned_edges(edges, max(wanted, 0), np.random.default_rng(subject.seed))
    room = MOST_RUNS * len(owned)
    m = wanted if canaries is not None else min(wanted, room)
    hint = (
        f"{FEWEST} or more; each owns an edge of the vocabulary, in one of {MOST_RUNS} runs at most, and of "
        f"{len(edges):,} edges {len(owned):,} share no product"
    )
    return whole("canaries", m, at_least=FEWEST, at_most=room, hint=hint), owned


def sources(seed: int | None, name: str) -> tuple[NoiseSource, NoiseSource]:
    """Return independent sources of coins and of a mechanism's randomness; from the operating system without a seed."""
    if seed is None:
        return SecureNoise(), SecureNoise()
    return ReproducibleNoise(seed, "audit coins", name), ReproducibleNoise(seed, "audit noise", name)


def audit_training(
    training: Training,
    canaries: Canaries,
    owned: NDArray[np.int64],
    *,
    name: str,
    confidence: float,
    say: Progress,
    honest: bool | None = None,
) -> AuditOutcome:
    """Attack a training with canaries and return what is proved of the ε that `training.subject.plan` claims.

    The attacker sees both noised sums, which is what the accountant allows, and the temper. Raises PlanError.
    """
    started = time.perf_counter()
    return assess(
        name,
        training.run(canaries, owned, say),
        canaries,
        training.subject.plan,
        runs=runs_of(len(canaries.included), owned),
        confidence=confidence,
        honest=honest,
        seconds=time.perf_counter() - started,
    )
