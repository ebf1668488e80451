"""Empirical audits: attack a mechanism, and bound from below the ε that it can have.

An audit finds violations or finds none; it never verifies a claim. What it attacks, and the self-test that
plants defects there, belong to whoever trains: ``clients.audit``.
"""

from privacy.audit.attack import assess
from privacy.audit.bounds import (
    Bound,
    best_bound,
    clopper_pearson,
    clopper_pearson_bound,
    gaussian_bound,
    one_run_bound,
)
from privacy.audit.canaries import Canaries, likelihood_scores
from privacy.audit.membership import MembershipInference, Rate, linear_scores, membership_inference
from privacy.audit.outcome import AuditOutcome, markdown

__all__ = [
    "AuditOutcome",
    "Bound",
    "Canaries",
    "MembershipInference",
    "Rate",
    "assess",
    "best_bound",
    "clopper_pearson",
    "clopper_pearson_bound",
    "gaussian_bound",
    "likelihood_scores",
    "linear_scores",
    "markdown",
    "membership_inference",
    "one_run_bound",
]
