"""One-run audit of a platform's training: canaries join by fair coins, the attacker looks at what is released.

The model is trained by `train_population`, which is all of `train_private` but the choice of the population.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from clients.audit.canaries import WithCanaries, at_places, draw_places
from clients.audit.subject import Progress, Subject
from clients.training import Population, train_population
from privacy.audit import AuditOutcome, Canaries, Transcript, assess, attacks
from privacy.noise import NoiseSource, ReproducibleNoise, SecureNoise
from privacy.plan import PrivacyPlan
from shared_model.exchange import SharedTensors
from shared_model.model import initial_shared

Metric = Callable[[Canaries, NDArray[np.float64]], NDArray[np.float64]]
"""(coins, (m,) the canaries' parameters) → (S,) what is published beside the model after an exchange."""


def sources(seed: int | None, name: str) -> tuple[NoiseSource, NoiseSource]:
    """Return independent sources of coins and of a mechanism's randomness; from the operating system without a seed."""
    if seed is None:
        return SecureNoise(), SecureNoise()
    return ReproducibleNoise(seed, "audit coins", name), ReproducibleNoise(seed, "audit noise", name)


@dataclass(frozen=True)
class Training:
    """How a training under audit runs: as it is, or with a defect in one of the things that it is given."""

    subject: Subject
    plan: PrivacyPlan
    noise: NoiseSource
    population: Callable[[Population], Population] = lambda population: population
    metric: Metric | None = None
    local_steps: int | None = None

    def run(self, canaries: Canaries, places: NDArray[np.int64], steps: int, say: Progress) -> Transcript:
        """Train for `steps` steps with the canaries among the shoppers, and return what was released."""
        shared = initial_shared(self.subject.spec)
        population = self.population(WithCanaries(self.subject.shoppers, canaries, places))
        noised: list[NDArray[np.float64]] = []
        released, metrics = [at_places(shared, places)], []

        def watch(gradient: SharedTensors) -> None:
            noised.append(at_places(gradient, places) * self.plan.normaliser)

        for recipe, rng in self.subject.rounds(steps, self.local_steps):
            shared = train_population(shared, population, recipe, self.plan, self.noise, rng, watch)
            released.append(at_places(shared, places))
            if self.metric is not None:
                metrics.append(self.metric(canaries, released[-1]))
            say(f"step {len(noised)} of {steps}")
        return Transcript(np.stack(noised), np.stack(released), np.stack(metrics) if metrics else None)


def audit_training(
    subject: Subject, m: int, *, seed: int | None, confidence: float, say: Progress
) -> tuple[AuditOutcome, AuditOutcome]:
    """Attack a training as it is; return what two adversaries prove, each at `confidence`.

    The first sees the noised sum of every step, which is what the accountant allows. The second sees the model
    before and after the run, as whoever gets it does.

    Raises PlanError for a number of canaries or a confidence that cannot be used.
    """
    places = draw_places(subject.parameters, m, np.random.default_rng(subject.seed))
    coins, noise = sources(seed, "as it is")
    canaries, started = Canaries.draw(m, coins), time.perf_counter()
    training = Training(subject, subject.plan, noise)
    seen = training.run(canaries, places, subject.plan.steps, lambda what: say(f"canaries: {what}"))
    judge = partial(
        assess,
        canaries=canaries,
        plan=subject.plan,
        steps=subject.plan.steps,
        confidence=confidence,
        seconds=time.perf_counter() - started,
    )
    found = attacks(seen, subject.plan)
    return judge("every step is seen", found), judge(
        "only the model is seen", {"movement": found["movement"]}
    )
