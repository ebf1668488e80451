"""Attacks on a platform's own releases: canary shoppers, membership of real shoppers, planted defects.

Everything here makes throw-away sums: no ledger is opened, nothing is charged, nothing leaves the platform.
"""

from clients.audit.membership import SumMembership, attack_membership
from clients.audit.report import Report, SelfTest
from clients.audit.selftest import run_selftest
from clients.audit.subject import Progress, Subject
from clients.audit.training import Training, audit_training, edges_to_own, sources

__all__ = [
    "Progress",
    "Report",
    "SelfTest",
    "Subject",
    "SumMembership",
    "Training",
    "attack_membership",
    "audit_training",
    "edges_to_own",
    "run_selftest",
    "sources",
]
