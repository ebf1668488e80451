"""Membership inference on real users: scores of an attacker who knows everybody's rows, and what they amount to.

K sums, each over users drawn by fair coins. An attack is judged by its true positives at a very low rate of false
ones (Carlini et al. 2022, arXiv:2112.03570). These numbers describe one attack. They are no lower bound on ε: users
of one run are not independent. Shapes: ``K`` runs, ``n`` users, ``D`` coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from privacy.audit.bounds import check_confidence, clopper_pearson
from privacy.checks import real
from privacy.errors import PlanError

Interval = tuple[float, float]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Rate:
    """True positives at a false positive rate.

    Args:
        target_fpr: what was asked for; with fewer than 1/target_fpr others no false positive is allowed.
        fpr: what was reached with the threshold chosen, at most ``target_fpr``.
        tpr: share of members above that threshold.
        tpr_interval: the wider, on each side, of Clopper–Pearson over pairs and the bootstrap over users.
    """

    target_fpr: float
    fpr: float
    tpr: float
    tpr_interval: Interval


@dataclass(frozen=True)
class MembershipInference:
    """How well scores tell members from others; intervals each hold at ``confidence``.

    Args:
        auc: chance that a member scores above another user, ties counting half; 0.5 is guessing.
        auc_interval: bootstrap over users.
        rates: at each target false positive rate.
        members: (user, run) pairs in which the user was in.
        others: pairs in which it was not.
    """

    auc: float
    auc_interval: Interval
    rates: tuple[Rate, ...]
    members: int
    others: int
    users: int
    runs: int
    confidence: float


def linear_scores(rows: sparse.sparray, sums: Floats, noise: float) -> Floats:
    """(K, n) posterior means of membership, by the best linear attacker, from K noised sums over some of n users.

    Args:
        rows: (n, D) what each user adds to a sum, which the attacker knows.
        sums: (K, D) Σ over the members of their rows, plus noise.
        noise: its standard deviation in each coordinate, above 0.

    x̂ = ½ + (RRᵀ + 4σ²I)⁻¹ R (y − ½ Rᵀ1): fair coins have variance ¼. Without noise, σ → 0, it solves for who is in.
    """
    n = rows.shape[0]
    if sums.ndim != 2 or sums.shape[1] != rows.shape[1] or not np.isfinite(sums).all():
        raise PlanError(
            f"sums need a finite number per run and coordinate: {sums.shape} for rows {rows.shape}"
        )
    real("noise", noise, above=0.0, at_most=1e12, hint="give the standard deviation of the noise")
    ridge = (rows @ rows.T).toarray() + 4.0 * noise**2 * np.eye(n)
    half = rows.T @ np.full(n, 0.5)
    return 0.5 + np.linalg.solve(ridge, rows @ (sums - half).T).T


def membership_inference(
    scores: Floats,
    members: Bools,
    *,
    target_fprs: Sequence[float] = (0.001, 0.01),
    confidence: float = 0.95,
    rng: np.random.Generator,
    resamples: int = 1000,
) -> MembershipInference:
    """AUC and TPR at low FPRs of (K, n) scores, higher meaning more likely a member; NaN is left out.

    The pairs of one user are not independent, so users are resampled with all of their pairs (cluster
    bootstrap). A rate of 0 or 1 is the same in every resample: Clopper–Pearson keeps its interval honest.

    Raises:
        PlanError: no members or no others, wrong shapes, or a value out of range.
    """
    if scores.shape != members.shape or scores.ndim != 2:
        raise PlanError(f"scores need one number per run and user, shapes {scores.shape} and {members.shape}")
    hint = "give a small rate such as 0.001"
    targets = [real("target_fpr", rate, above=0.0, at_most=0.5, hint=hint) for rate in target_fprs]
    half = (1.0 - check_confidence(confidence)) / 2.0
    known = ~np.isnan(scores)
    inside = members[known]
    users = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)[known]
    if not (0 < inside.sum() < len(inside)):
        raise PlanError("membership inference needs users with and users without: give more runs or users")
    values, place = np.unique(-scores[known], return_inverse=True)  # from the highest score down

    def measure(weights: Floats) -> Floats:
        """(1 + 2·targets,) AUC, TPRs, FPRs for a weight of each pair."""
        hits, false = (np.bincount(place, weights * which, len(values)) for which in (inside, ~inside))
        above, wrong = (np.cumsum(counts) / max(counts.sum(), 1e-300) for counts in (hits, false))
        auc = float((np.diff(wrong, prepend=0.0) * (above - np.diff(above, prepend=0.0) / 2.0)).sum())
        last = [int(np.searchsorted(wrong, rate * (1 + 1e-9) + 1e-15, "right")) for rate in targets]
        return np.array(
            [auc, *(above[i - 1] if i else 0.0 for i in last), *(wrong[i - 1] if i else 0.0 for i in last)]
        )

    point = measure(np.ones(len(users)))
    n = scores.shape[1]
    drawn = (np.bincount(rng.integers(0, n, n), minlength=n)[users] for _ in range(resamples))
    low, high = np.quantile([measure(weights.astype(float)) for weights in drawn], [half, 1.0 - half], axis=0)
    count = int(inside.sum())
    rates = []
    for i, rate in enumerate(targets, start=1):
        exact = clopper_pearson(round(point[i] * count), count, confidence)
        interval = (min(exact[0], float(low[i])), max(exact[1], float(high[i])))
        rates.append(Rate(rate, float(point[i + len(targets)]), float(point[i]), interval))
    return MembershipInference(
        auc=float(point[0]),
        auc_interval=(float(low[0]), float(high[0])),
        rates=tuple(rates),
        members=count,
        others=len(inside) - count,
        users=int((known.any(axis=0)).sum()),
        runs=len(scores),
        confidence=confidence,
    )
