"""DP events: what is charged, written down exactly as it was run.

An event says which mechanism touched the shoppers and how often. Sensitivity is part of the mechanism: the
noise multiplier is the standard deviation of the noise divided by the most that one shopper can change the
released sum (the clip norm for gradients), so it has no unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from privacy.checks import real, whole
from privacy.errors import PlanError

if TYPE_CHECKING:
    import dp_accounting

MIN_NOISE_MULTIPLIER = 0.1
"""Below this one unsampled release costs ε > 90 at δ = 1e-6: not a privacy mechanism."""
MAX_NOISE_MULTIPLIER = 1e6
MIN_SAMPLE_RATE = 1e-9
MAX_STEPS = 10_000_000


def _noise_multiplier(value: object) -> float:
    return real(
        "noise_multiplier",
        value,
        above=MIN_NOISE_MULTIPLIER * (1 - 1e-12),
        at_most=MAX_NOISE_MULTIPLIER,
        hint="give the noise's standard deviation divided by the sensitivity, typically 0.5 to 5",
    )


def _steps(name: str, value: object) -> int:
    return whole(name, value, at_least=1, at_most=MAX_STEPS, hint="give how often the mechanism runs")


@dataclass(frozen=True)
class PoissonGaussian:
    """``steps`` DP-SGD steps: Poisson-sampled users, clipped sum, Gaussian noise.

    Args:
        sample_rate: q, in (0, 1]; every user is in every batch with probability q, independently.
        noise_multiplier: σ ≥ 0.1; noise of standard deviation σ·C on a sum clipped to C per user.
        steps: how many such steps, ≥ 1. An empty batch is a step too.

    Raises:
        PlanError: a value is NaN, infinite, a bool, of the wrong type or out of range.
    """

    kind: ClassVar[str] = "poisson-gaussian"
    sample_rate: float
    noise_multiplier: float
    steps: int

    def __post_init__(self) -> None:
        hint = "give the probability that a user joins one batch"
        rate = real("sample_rate", self.sample_rate, above=MIN_SAMPLE_RATE / 2, at_most=1.0, hint=hint)
        object.__setattr__(self, "sample_rate", rate)
        object.__setattr__(self, "noise_multiplier", _noise_multiplier(self.noise_multiplier))
        _steps("steps", self.steps)

    @property
    def count(self) -> int:
        """How often the unit mechanism runs."""
        return self.steps

    def with_count(self, count: int) -> PoissonGaussian:
        """The same mechanism, run ``count`` times."""
        return replace(self, steps=count)

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON values; ``event_from_json`` reads it back exactly."""
        return {
            "kind": self.kind,
            "sample_rate": self.sample_rate,
            "noise_multiplier": self.noise_multiplier,
            "steps": self.steps,
        }

    def to_dp_event(self) -> dp_accounting.DpEvent:
        """The event in dp-accounting's words."""
        import dp_accounting

        unit = dp_accounting.PoissonSampledDpEvent(
            self.sample_rate, dp_accounting.GaussianDpEvent(self.noise_multiplier)
        )
        return dp_accounting.SelfComposedDpEvent(unit, self.steps)


@dataclass(frozen=True)
class Gaussian:
    """``count`` noised releases over all users, such as evaluation metrics.

    Args:
        noise_multiplier: σ ≥ 0.1; noise of standard deviation σ times the L2 sensitivity to one user.
        count: how many such releases, ≥ 1. A vector released at once, with its joint sensitivity, is one.

    Raises:
        PlanError: a value is NaN, infinite, a bool, of the wrong type or out of range.
    """

    kind: ClassVar[str] = "gaussian"
    noise_multiplier: float
    count: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "noise_multiplier", _noise_multiplier(self.noise_multiplier))
        _steps("count", self.count)

    @property
    def sample_rate(self) -> float:
        """Every user takes part: 1."""
        return 1.0

    def with_count(self, count: int) -> Gaussian:
        """The same mechanism, run ``count`` times."""
        return replace(self, count=count)

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON values; ``event_from_json`` reads it back exactly."""
        return {"kind": self.kind, "noise_multiplier": self.noise_multiplier, "count": self.count}

    def to_dp_event(self) -> dp_accounting.DpEvent:
        """The event in dp-accounting's words."""
        import dp_accounting

        return dp_accounting.SelfComposedDpEvent(
            dp_accounting.GaussianDpEvent(self.noise_multiplier), self.count
        )


Event = PoissonGaussian | Gaussian
"""Everything that can be charged. A new mechanism is a new dataclass here."""


def event_from_json(document: Mapping[str, Any]) -> Event:
    """Read what ``to_json`` wrote.

    Raises:
        PlanError: unknown kind, missing or surplus field, or a value out of range.
    """
    kinds: dict[str, type[PoissonGaussian] | type[Gaussian]] = {
        c.kind: c for c in (PoissonGaussian, Gaussian)
    }
    fields = dict(document)
    cls = kinds.get(str(fields.pop("kind", None)))
    if cls is None:
        raise PlanError(f"event kind {document.get('kind')!r} is unknown: expected one of {sorted(kinds)}")
    try:
        return cls(**fields)
    except TypeError as error:
        raise PlanError(f"event {dict(document)!r} does not fit {cls.__name__}: {error}") from error
