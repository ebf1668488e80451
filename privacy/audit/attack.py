"""From an attacker's scores to a verdict on a claimed ε."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from privacy.audit.bounds import FRACTIONS, best_bound
from privacy.audit.canaries import Canaries
from privacy.audit.outcome import AuditOutcome
from privacy.release import ReleasePlan


def assess(
    name: str,
    scores: Mapping[str, NDArray[np.float64]],
    canaries: Canaries,
    plan: ReleasePlan,
    *,
    runs: int,
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
        runs: in how many independent runs; each canary is in one, so the claim is of one run.
        confidence: of the lower bounds together.
        fractions: shares of canaries named IN, and as many OUT.
        honest: what a self-test expects.
        seconds: how long the mechanism ran.
    """
    prove = partial(
        best_bound,
        included=canaries.included,
        delta=plan.delta,
        confidence=confidence,
        fractions=fractions,
    )
    perfect = canaries.included.astype(np.float64)
    return AuditOutcome(
        mechanism=name,
        honest=honest,
        claimed=plan.cost(),
        delta=plan.delta,
        bound=prove(scores),
        ceiling=prove(dict.fromkeys(scores, perfect)).epsilon,
        confidence=confidence,
        canaries=len(canaries.included),
        runs=runs,
        seconds=seconds,
    )
