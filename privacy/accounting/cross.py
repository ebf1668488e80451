"""Other accountants' values beside ε of record, and whether they fit it.

All of them bound the same quantity from above, so none proves another wrong by being larger; what must not
happen is that a *looser* method claims less, or that two tight ones differ. Opacus' GDP accountant is an
approximation that falls below the truth and is never asked.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from privacy.accounting.accountant import Tally, check_delta
from privacy.accounting.loss import GRID

PRV_ERROR = 0.01
"""The ε error that Opacus' PRV accountant is asked to keep and adds to its answer."""
MAX_PRV_POINTS = 2_000_000
"""A larger PRV grid takes tens of seconds and was seen to end in inf."""
MAX_PLD_UNITS = 3
"""dp-accounting's own accountant composes different mechanisms slowly."""
_ORDERS = [*(1 + x / 10 for x in range(1, 100)), *range(11, 64), *range(64, 513, 16)]

Counts = Counter[tuple[float, float]]


@dataclass(frozen=True)
class CrossCheck:
    """One other accountant's answer.

    Args:
        name: whose value it is.
        epsilon: the value, or None when it could not be had.
        agrees: False only for a disagreement beyond tolerance; report it, never hide it.
        note: why, in words.
    """

    name: str
    epsilon: float | None
    agrees: bool
    note: str


def cross_checks(counts: Tally, delta: float, record: float) -> tuple[CrossCheck, ...]:
    """Opacus' RDP and PRV and dp-accounting's own PLD accountant beside ε of record.

    Args:
        counts: how often each unit mechanism ran.
        delta: δ.
        record: ε of record, as it is shown.
    """
    wanted, delta = Counter({unit: count for unit, count in counts.items() if count > 0}), check_delta(delta)
    return (
        _check("Opacus RDP", _rdp, wanted, delta, lambda other: _looser(other, record)),
        _check(
            "Opacus PRV", partial(_prv, record=record), wanted, delta, lambda other: _close(other, record)
        ),
        _check("dp-accounting PLD", _pld, wanted, delta, lambda other: _same(other, record)),
    )


class _SkippedError(Exception):
    """The other accountant was not asked, for the reason given."""


def _check(
    name: str,
    ask: Callable[[Counts, float], float],
    counts: Counts,
    delta: float,
    judge: Callable[[float], str | None],
) -> CrossCheck:
    if not counts:
        return CrossCheck(name, 0.0, True, "nothing was released")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other = ask(counts, delta)
    except _SkippedError as skipped:
        return CrossCheck(name, None, True, f"not asked: {skipped}")
    except Exception as error:  # whatever another library does, ε of record stands and the failure is shown
        return CrossCheck(name, None, False, f"failed: {type(error).__name__}")
    if not (math.isfinite(other) and other >= 0.0):
        return CrossCheck(name, None, False, f"gave {other!r}")
    complaint = judge(other)
    return CrossCheck(name, other, complaint is None, complaint or "agrees")


def _looser(other: float, record: float) -> str | None:
    """RDP never beats an exact composition; usually it is 5 to 90 % above."""
    if not other >= record * 0.99 - 1e-3:
        return f"RDP, a looser bound, claims {other:.4g}, less than ε of record {record:.4g}"
    if not other <= 3.0 * record + 1.0:
        return f"RDP gives {other:.4g}, far above ε of record {record:.4g}"
    return None


def _close(other: float, record: float) -> str | None:
    """PRV and ε of record differ by PRV's stated error, the grid's and two per cent at most."""
    if not abs(other - record) <= 2 * PRV_ERROR + 0.02 * record + 1e-3:
        return f"gives {other:.4g}, ε of record is {record:.4g}"
    return None


def _same(other: float, record: float) -> str | None:
    """The same method on the same grid."""
    if not abs(other - record) <= 1e-4 * record + 1e-5:
        return f"gives {other:.6g}, ε of record is {record:.6g}"
    return None


def _rdp(counts: Counts, delta: float) -> float:
    from opacus.accountants.analysis import rdp as opacus_rdp  # here: a ledger need not wait for torch

    curves = [
        opacus_rdp.compute_rdp(q=q, noise_multiplier=noise, steps=steps, orders=_ORDERS)
        for (q, noise), steps in counts.items()
    ]
    return float(opacus_rdp.get_privacy_spent(orders=_ORDERS, rdp=sum(curves), delta=delta)[0])


def _prv(counts: Counts, delta: float, record: float) -> float:
    mesh = PRV_ERROR / math.sqrt(sum(counts.values()) * math.log(12_000 / delta) / 2)

    def check_points(reach: float) -> None:
        points = 2 * (reach + 3.0) / mesh * len(counts)
        if not points <= MAX_PRV_POINTS:
            raise _SkippedError(f"PRV would need {points:.0e} grid points")

    check_points(record)  # it reaches further than ε, and for many mechanisms that is enough to know
    check_points(_rdp(counts, delta / 1000))
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(noise, q, count) for (q, noise), count in counts.items()]
    return float(accountant.get_epsilon(delta, eps_error=PRV_ERROR))


def _pld(counts: Counts, delta: float) -> float:
    if len(counts) > MAX_PLD_UNITS:
        raise _SkippedError(f"{len(counts)} distinct mechanisms would take it long")
    import dp_accounting.pld

    accountant = dp_accounting.pld.PLDAccountant(value_discretization_interval=GRID)
    for (q, noise), count in counts.items():
        unit = dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(noise))
        accountant.compose(unit, count)
    return float(accountant.get_epsilon(delta))
