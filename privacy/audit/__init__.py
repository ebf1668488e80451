"""Empirical audits: attack a mechanism, and bound from below the ε that it can have.

An audit finds violations or finds none; it never verifies a claim. ``run_selftest`` shows which defects
it is able to find.
"""

from privacy.audit.bounds import (
    Bound,
    best_bound,
    clopper_pearson,
    clopper_pearson_bound,
    gaussian_bound,
    one_run_bound,
)
from privacy.audit.canaries import Canaries
from privacy.audit.mechanism import Mechanism, Release, TrainingMechanism, run
from privacy.audit.membership import MembershipInference, likelihood_ratio, lira
from privacy.audit.outcome import AuditOutcome, markdown, table
from privacy.audit.selftest import audit, run_selftest

__all__ = [
    "AuditOutcome",
    "Bound",
    "Canaries",
    "Mechanism",
    "MembershipInference",
    "Release",
    "TrainingMechanism",
    "audit",
    "best_bound",
    "clopper_pearson",
    "clopper_pearson_bound",
    "gaussian_bound",
    "likelihood_ratio",
    "lira",
    "markdown",
    "one_run_bound",
    "run",
    "run_selftest",
    "table",
]
