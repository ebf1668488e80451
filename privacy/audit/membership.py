"""Membership inference on real users: likelihood-ratio scores and what they amount to.

Carlini et al., *Membership Inference Attacks From First Principles*, 2022 (arXiv:2112.03570): an attack is
judged by its true positives at a very low rate of false ones. These numbers describe an attack; they are no
lower bound on ε, because users of one run are neither independent nor drawn by coins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from privacy.audit.bounds import check_confidence, clopper_pearson
from privacy.checks import real
from privacy.errors import PlanError

Interval = tuple[float, float]


@dataclass(frozen=True)
class MembershipInference:
    """How well scores tell members from others; intervals each hold at ``confidence``.

    Args:
        auc: chance that a member scores above another user, ties counting half; 0.5 is guessing.
        auc_interval: normal interval with DeLong's variance.
        tpr: share of members above the threshold.
        tpr_interval: Clopper–Pearson, for the threshold as it is.
        fpr: share of the others above it; at most ``target_fpr``.
        fpr_interval: Clopper–Pearson.
        target_fpr: what was asked for. With fewer than 1/target_fpr others, no false positive is allowed.
        threshold: scores strictly above it are called members.
    """

    auc: float
    auc_interval: Interval
    tpr: float
    tpr_interval: Interval
    fpr: float
    fpr_interval: Interval
    target_fpr: float
    threshold: float
    members: int
    others: int
    confidence: float


def lira(
    scores_in: NDArray[np.float64],
    scores_out: NDArray[np.float64],
    *,
    target_fpr: float = 0.001,
    confidence: float = 0.95,
) -> MembershipInference:
    """AUC and TPR at a low FPR of membership scores; higher means more likely a member.

    Args:
        scores_in: (n,) scores of members, such as ``likelihood_ratio`` gives.
        scores_out: (k,) scores of users who were not trained on.
        target_fpr: false positive rate, in (0, ½].
        confidence: of each interval.

    Raises:
        PlanError: fewer than two scores, NaN, or a value out of range.
    """
    inside, outside = _scores("scores_in", scores_in), _scores("scores_out", scores_out)
    rate = real("target_fpr", target_fpr, above=0.0, at_most=0.5, hint="give a small rate such as 0.001")
    check_confidence(confidence)
    # At most floor(rate·k) others lie strictly above the next highest of them.
    threshold = float(np.sort(outside)[::-1][math.floor(rate * len(outside) + 1e-9)])
    hits, false = int((inside > threshold).sum()), int((outside > threshold).sum())
    auc, spread = _auc(inside, outside)
    reach = float(stats.norm.isf((1.0 - confidence) / 2.0)) * spread
    return MembershipInference(
        auc=auc,
        auc_interval=(max(0.0, auc - reach), min(1.0, auc + reach)),
        tpr=hits / len(inside),
        tpr_interval=clopper_pearson(hits, len(inside), confidence),
        fpr=false / len(outside),
        fpr_interval=clopper_pearson(false, len(outside), confidence),
        target_fpr=rate,
        threshold=threshold,
        members=len(inside),
        others=len(outside),
        confidence=confidence,
    )


def likelihood_ratio(
    observed: NDArray[np.float64], shadows_in: NDArray[np.float64], shadows_out: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n,) log ratios of each user's statistic under models with and without that user.

    Args:
        observed: (n,) a statistic of each user under the model attacked, such as the logit of its loss.
        shadows_in: (S, n) the same under shadow models trained with the user.
        shadows_out: (S', n) under shadow models trained without.
    """
    if min(len(shadows_in), len(shadows_out)) < 2:
        raise PlanError("a likelihood ratio needs two shadow models with and two without each user")
    # One spread for all users: with few shadow models, a spread of its own per user is too uncertain.
    apart = [float(np.sqrt(s.var(axis=0, ddof=1).mean())) + 1e-12 for s in (shadows_in, shadows_out)]
    inside = stats.norm.logpdf(observed, shadows_in.mean(axis=0), apart[0])
    outside = stats.norm.logpdf(observed, shadows_out.mean(axis=0), apart[1])
    return np.asarray(inside - outside, dtype=np.float64)


def _scores(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < 2 or bool(np.isnan(array).any()):
        raise PlanError(f"{name} needs two or more scores without NaN, has shape {array.shape}")
    return array


def _auc(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> tuple[float, float]:
    """AUC and its standard deviation (DeLong et al. 1988)."""
    won = _share_below(inside, outside)
    lost = 1.0 - _share_below(outside, inside)
    variance = float(won.var(ddof=1)) / len(won) + float(lost.var(ddof=1)) / len(lost)
    return float(won.mean()), math.sqrt(variance)


def _share_below(of: NDArray[np.float64], among: NDArray[np.float64]) -> NDArray[np.float64]:
    ordered = np.sort(among)
    below = np.searchsorted(ordered, of, "left") + np.searchsorted(ordered, of, "right")
    return below / (2.0 * len(among))
