"""What the recorded events cost together.

ε of record is a PLD (privacy loss distribution) value under add-or-remove-one-user adjacency
(``epsilon``, ``Accountant``). ``cross_checks`` puts Opacus' RDP and PRV values beside it. Opacus' GDP
accountant understates ε and is never used.
"""

from privacy.accounting.accountant import (
    Accountant,
    check_delta,
    delta_at,
    epsilon,
    group_epsilon,
    replace_one_epsilon,
    tally,
)
from privacy.accounting.calibration import calibrate_noise
from privacy.accounting.cross import CrossCheck, cross_checks

__all__ = [
    "Accountant",
    "CrossCheck",
    "calibrate_noise",
    "check_delta",
    "cross_checks",
    "delta_at",
    "epsilon",
    "group_epsilon",
    "replace_one_epsilon",
    "tally",
]
