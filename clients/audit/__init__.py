"""Attacks on a platform's own training: canary shoppers, membership of real shoppers, planted defects.

Everything here trains throw-away models: no ledger is opened, nothing is charged, nothing leaves the platform.
"""

from clients.audit.membership import ModelMembership, attack_membership
from clients.audit.report import Report, SelfTest
from clients.audit.selftest import run_selftest
from clients.audit.subject import Progress, Subject, subject_of
from clients.audit.training import audit_training

__all__ = [
    "ModelMembership",
    "Progress",
    "Report",
    "SelfTest",
    "Subject",
    "attack_membership",
    "audit_training",
    "run_selftest",
    "subject_of",
]
