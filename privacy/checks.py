"""Range checks that fail closed: NaN, infinities, booleans and wrong types never pass.

Comparisons are written so that the *good* range must be proven (``low < x <= high``); a test of the bad
range (``x <= 0``) would let NaN through.
"""

from __future__ import annotations

import math

from privacy.errors import PlanError


def real(name: str, value: object, *, above: float, at_most: float, hint: str) -> float:
    """Return ``value`` as a float if ``above < value <= at_most``, else raise PlanError with ``hint``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PlanError(f"{name} is {value!r} ({type(value).__name__}), not a number: {hint}")
    if not (math.isfinite(value) and above < value <= at_most):
        raise PlanError(f"{name} = {value!r} is outside ({above:g}, {at_most:g}]: {hint}")
    return float(value)


def whole(name: str, value: object, *, at_least: int, at_most: int, hint: str) -> int:
    """Return ``value`` if it is an int in ``[at_least, at_most]``, else raise PlanError with ``hint``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise PlanError(f"{name} is {value!r} ({type(value).__name__}), not a whole number: {hint}")
    if not at_least <= value <= at_most:
        raise PlanError(f"{name} = {value} is outside [{at_least}, {at_most}]: {hint}")
    return value


def text(name: str, value: object, *, at_most: int = 400) -> str:
    """Return ``value`` if it is a printable, non-empty str of at most ``at_most`` characters."""
    if not isinstance(value, str) or not value.strip() or len(value) > at_most or not value.isprintable():
        raise PlanError(f"{name} = {value!r}: give a printable text of 1 to {at_most} characters")
    return value
