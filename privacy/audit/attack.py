"""From what an attacker saw to a verdict on a claimed ε."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from privacy.audit.bounds import FRACTIONS, above_gaussian, best_bound
from privacy.audit.canaries import (
    Canaries,
    likelihood_scores,
    metric_scores,
    movement_scores,
    spread_scores,
)
from privacy.audit.outcome import AuditOutcome
from privacy.plan import PrivacyPlan


@dataclass(frozen=True)
class Transcript:
    """Everything that was released, in the canaries' own directions.

    Args:
        noised: (T, m) each step's noised sum, before the division by the public normaliser.
        released: (R+1, m) the shared parameters at the start and after each exchange.
        metrics: (R, S) metrics published after each exchange, if any: Σ over the members of segment k of
            their parameter; canary i is in segment i mod S.
    """

    noised: NDArray[np.float64]
    released: NDArray[np.float64]
    metrics: NDArray[np.float64] | None = None


def attacks(seen: Transcript, plan: PrivacyPlan) -> dict[str, NDArray[np.float64]]:
    """Name → (m,) scores of every attack that the transcript allows. ``plan`` says what is claimed of it."""
    found = {
        "likelihood": likelihood_scores(
            seen.noised,
            clip_norm=plan.clip_norm,
            sample_rate=plan.sample_rate,
            noise_multiplier=plan.noise_multiplier,
        ),
        "spread": spread_scores(seen.noised),
        "movement": movement_scores(seen.released),
    }
    if seen.metrics is not None:
        found["metric"] = metric_scores(seen.released[1:], seen.metrics)
    return found


def assess(
    name: str,
    scores: Mapping[str, NDArray[np.float64]],
    canaries: Canaries,
    plan: PrivacyPlan,
    *,
    steps: int,
    confidence: float = 0.95,
    fractions: Sequence[float] = FRACTIONS,
    honest: bool | None = None,
    seconds: float = 0.0,
) -> AuditOutcome:
    """Compare the lower bound that the scores give with what ``plan`` claims.

    Args:
        name: how the outcome calls the mechanism.
        scores: attack → (m,) scores, made without knowledge of the coins.
        canaries: the coins.
        plan: the claim: its cost at its δ.
        steps: how many steps really ran.
        confidence: of the lower bounds together.
        fractions: shares of canaries named IN, and as many OUT.
        honest: what a self-test expects.
        seconds: how long the mechanism ran.

    The f-DP bound is left out where the claim's own curve is not above the Gaussian one it assumes.
    """
    claimed = plan.cost()
    prove = partial(
        best_bound,
        included=canaries.included,
        delta=plan.delta,
        confidence=confidence,
        fractions=fractions,
        gaussian=above_gaussian(plan.event, claimed, plan.delta),
    )
    perfect = canaries.included.astype(np.float64)
    return AuditOutcome(
        mechanism=name,
        honest=honest,
        claimed=claimed,
        delta=plan.delta,
        bound=prove(scores),
        ceiling=prove(dict.fromkeys(scores, perfect)).epsilon,
        confidence=confidence,
        canaries=len(canaries.included),
        steps=steps,
        seconds=seconds,
    )
