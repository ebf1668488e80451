"""Differential privacy that can be believed: plan, noise, accounting and a ledger of record.

Knows nothing of recommenders. ``privacy.plan`` says what a run may cost, ``privacy.optimizer`` and
``privacy.noise`` carry it out, ``privacy.ledger`` sets the budget aside before and records it after, and
``privacy.accounting`` computes ε from what was recorded.
"""
