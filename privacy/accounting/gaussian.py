"""One Poisson-sampled Gaussian release as dp-accounting discretises it, without its Python loops.

dp-accounting finds, for every grid point ε, the outcome x where the privacy loss equals ε, one by one. The
inverse below is the same formula over arrays; tail bounds, distribution functions and the pessimistic
connect-the-dots rule (Doroshenko et al. 2022) stay dp-accounting's own. Tests hold the two equal.
"""

from __future__ import annotations

import math

import numpy as np
from dp_accounting.pld import pld_pmf
from dp_accounting.pld.privacy_loss_mechanism import AdjacencyType, GaussianPrivacyLoss

REMOVE = AdjacencyType.REMOVE
ADD = AdjacencyType.ADD


def gaussian_pmf(
    sample_rate: float, noise_multiplier: float, adjacency: AdjacencyType, grid: float
) -> pld_pmf.PLDPmf:
    """The discretised privacy loss of one release, against removing or adding one user.

    Args:
        sample_rate: q in (0, 1].
        noise_multiplier: σ.
        adjacency: ``REMOVE`` or ``ADD``.
        grid: interval between losses.
    """
    loss = GaussianPrivacyLoss(noise_multiplier, sampling_prob=sample_rate, adjacency_type=adjacency)
    bounds = loss.connect_dots_bounds()
    lower, upper = math.floor(bounds.epsilon_lower / grid), math.ceil(bounds.epsilon_upper / grid)
    deltas = gaussian_deltas(loss, np.arange(lower, upper + 1) * grid)
    return pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(grid, lower, upper, deltas)


def gaussian_deltas(loss: GaussianPrivacyLoss, epsilons: np.ndarray) -> np.ndarray:
    """δ(ε) of one release at every ε: what ``loss.get_delta_for_epsilon`` gives, as one array operation."""
    q = loss.sampling_prob
    sign = 1.0 if loss.adjacency_type == REMOVE else -1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        # Loss without sampling: ±ln(1 + (e^{±ε} − 1)/q); −inf where sampling can never give so low a loss.
        ratio = np.expm1(sign * epsilons) / q
        sampled = sign * np.where(ratio > -1.0, np.log1p(np.maximum(ratio, -1.0)), -np.inf)
        unsampled = epsilons if q == 1.0 else sampled
        outcome = -sign * 0.5 - unsampled * loss._standard_deviation**2
        deltas = loss.mu_upper_cdf(outcome) - np.exp(epsilons + loss.mu_lower_log_cdf(outcome))
    return np.clip(deltas, 0.0, 1.0)
