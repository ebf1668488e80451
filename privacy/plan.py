"""The privacy plan of one training run: clipping, sampling, noise and accounting, coupled.

Guarantee
---------
Let a run make ``steps`` updates. Each update includes every shopper independently with probability
``sample_rate``, clips each included shopper's gradient to L2 norm ``clip_norm`` (C), sums, adds Gaussian
noise of standard deviation ``noise_multiplier``·C to every coordinate, and divides by the public
``normaliser``. Then everything computed from the updates is (ε, δ)-differentially private for the
addition or removal of one shopper with all of their events, where ε is ``plan.cost()`` at ``delta``
(Abadi et al. 2016; accounted by privacy loss distributions). It holds if the loss of one shopper does
not depend on another, if empty batches are noised and counted, and if no other data-dependent number leaves.

=====================================  =============================================
case                                   what happens
=====================================  =============================================
empty Poisson batch                    the zero sum is noised, divided, counted
gradient norm 0                        unchanged, contributes 0
gradient norm ≤ C                      unchanged but for less than C · 2^-28 a coordinate
gradient of NaN or inf                 contributes 0
sample_rate = 1                        no amplification; every shopper in every batch
any parameter NaN, inf, ≤ 0, bool      PlanError, exit code 2
sample_rate > 1, delta > 0.1           PlanError
steps not a whole number ≥ 1           PlanError
noise costs more than epsilon          PlanError: the stated ε would be untrue
population_size·delta ≥ 1              allowed; ``weak_delta`` is true and the doctor warns
population_size wrong                  the update is scaled wrongly; the guarantee is untouched
=====================================  =============================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from privacy.accounting import calibrate_noise, check_delta, epsilon
from privacy.checks import real, whole
from privacy.errors import PlanError
from privacy.events import PoissonGaussian


@dataclass(frozen=True)
class PrivacyPlan:
    """Public parameters of a run. Everything here may be published; nothing is derived from data.

    Args:
        epsilon: the most the whole run may cost, > 0 and ≤ 1000.
        delta: in [1e-10, 0.1]; choose well below 1/population.
        clip_norm: C > 0, L2 bound of one shopper's contribution to one update.
        sample_rate: q in (0, 1].
        population_size: the *declared*, public, rounded number of shoppers; never a count of the data.
        steps: number of updates, ≥ 1.
        noise_multiplier: σ ≥ 0.1, standard deviation of the noise over C.

    Raises:
        PlanError: a value is unusable, or ``steps`` at this noise cost more than ``epsilon``.
    """

    epsilon: float
    delta: float
    clip_norm: float
    sample_rate: float
    population_size: int
    steps: int
    noise_multiplier: float

    def __post_init__(self) -> None:
        hint = "give the most the run may cost, typically 1 to 8"
        object.__setattr__(
            self, "epsilon", real("epsilon", self.epsilon, above=0.0, at_most=1000.0, hint=hint)
        )
        object.__setattr__(self, "delta", check_delta(self.delta))
        hint = "give the L2 bound of one shopper's gradient"
        clip = real("clip_norm", self.clip_norm, above=1e-12, at_most=1e12, hint=hint)
        object.__setattr__(self, "clip_norm", clip)
        hint = "declare a public, rounded number of shoppers"
        whole("population_size", self.population_size, at_least=1, at_most=10**12, hint=hint)
        event = PoissonGaussian(self.sample_rate, self.noise_multiplier, self.steps)
        object.__setattr__(self, "sample_rate", event.sample_rate)
        object.__setattr__(self, "noise_multiplier", event.noise_multiplier)
        cost = self.cost()
        if not cost <= self.epsilon:
            raise PlanError(
                f"noise_multiplier = {self.noise_multiplier:g} for {self.steps} steps at sample rate "
                f"{self.sample_rate:g} costs epsilon {cost:.4g}, more than the stated {self.epsilon:g}: "
                "use PrivacyPlan.calibrated, or state the true epsilon"
            )

    @classmethod
    def calibrated(
        cls,
        *,
        epsilon: float,
        delta: float,
        clip_norm: float,
        sample_rate: float,
        population_size: int,
        steps: int,
    ) -> PrivacyPlan:
        """The plan with the least noise (4 significant digits) whose cost is within ``epsilon``."""
        sigma = calibrate_noise(epsilon, delta, sample_rate, steps)
        return cls(epsilon, delta, clip_norm, sample_rate, population_size, steps, sigma)

    @property
    def normaliser(self) -> float:
        """The public expected batch size q·N that every noised sum is divided by."""
        return self.sample_rate * self.population_size

    @property
    def event(self) -> PoissonGaussian:
        """The DP event of the whole run."""
        return self.event_of(self.steps)

    @property
    def weak_delta(self) -> bool:
        """Whether δ is not below one over the declared population."""
        return self.delta * self.population_size >= 1.0

    def event_of(self, steps: int) -> PoissonGaussian:
        """The DP event of ``steps`` updates under this plan, such as one round's."""
        return PoissonGaussian(self.sample_rate, self.noise_multiplier, steps)

    def cost(self) -> float:
        """ε of record of the whole run at ``delta``."""
        return epsilon([self.event], self.delta)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a configuration or a model card."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> PrivacyPlan:
        """Read what ``to_dict`` wrote.

        Raises:
            PlanError: a field is missing, surplus or unusable.
        """
        expected = {field.name for field in fields(cls)}
        if set(document) != expected:
            missing, surplus = sorted(expected - set(document)), sorted(set(document) - expected)
            raise PlanError(f"plan fields do not match: missing {missing}, unknown {surplus}")
        return cls(**document)
