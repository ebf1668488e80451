"""Empirical audits: attack a mechanism, and bound from below the ε that it can have.

An audit finds violations or finds none; it never verifies a claim. What it attacks, and the self-test that
plants defects there, belong to whoever trains: ``clients.audit``.
"""

from privacy.audit.attack import Transcript, assess, attacks
from privacy.audit.bounds import (
    Bound,
    above_gaussian,
    best_bound,
    clopper_pearson,
    clopper_pearson_bound,
    gaussian_bound,
    one_run_bound,
)
from privacy.audit.canaries import Canaries
from privacy.audit.membership import MembershipInference, Rate, leave_one_out, membership_inference
from privacy.audit.outcome import AuditOutcome, markdown

__all__ = [
    "AuditOutcome",
    "Bound",
    "Canaries",
    "MembershipInference",
    "Rate",
    "Transcript",
    "above_gaussian",
    "assess",
    "attacks",
    "best_bound",
    "clopper_pearson",
    "clopper_pearson_bound",
    "gaussian_bound",
    "leave_one_out",
    "markdown",
    "membership_inference",
    "one_run_bound",
]
