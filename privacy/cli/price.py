"""`audit plan`: what a run would cost, by every accountant, and what it would do to a ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from privacy.accounting import (
    calibrate_noise,
    check_delta,
    delta_at,
    epsilon,
    group_epsilon,
    replace_one_epsilon,
    tally,
)
from privacy.checks import real, whole
from privacy.cli.cross import complaints, cross_cell, cross_documents
from privacy.cli.output import number
from privacy.errors import AccountingError, PlanError
from privacy.events import Event, PoissonGaussian

EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0)
GROUPS = (2, 3, 4, 5)


def planned_event(
    *, target: float | None, noise: float | None, delta: float, sample_rate: float, steps: int
) -> PoissonGaussian:
    """The run's event, from a target ε or a noise multiplier.

    Raises:
        PlanError: both or neither are given, or a value is out of range.
    """
    check_delta(delta)
    if (target is None) == (noise is None):
        raise PlanError("give one of --epsilon and --noise-multiplier: the other one follows from it")
    if noise is None:
        PoissonGaussian(sample_rate, 1.0, steps)
        asked = real("epsilon", target, above=0.0, at_most=1000.0, hint="give the ε the run may cost")
        noise = calibrate_noise(asked, delta, sample_rate, steps)
    return PoissonGaussian(sample_rate, noise, steps)


def price(
    event: PoissonGaussian, delta: float, population_size: int | None, *, quick: bool = False
) -> dict[str, Any]:
    """Everything that is worth knowing of a run before it is made; ``quick`` leaves out the cross-checks."""
    record = epsilon([event], delta)
    warnings = []
    if population_size is not None:
        whole("population_size", population_size, at_least=1, at_most=10**12, hint="give a rounded number")
        if delta * population_size >= 1.0:
            warnings.append(
                f"delta = {delta:g} is not below one over {population_size} shoppers: it would allow a release "
                "that publishes some of them in full"
            )
    checks = [] if quick else cross_documents(tally([event]), delta, record)
    warnings += complaints(checks)
    return {
        "noise_multiplier": event.noise_multiplier,
        "sample_rate": event.sample_rate,
        "steps": event.steps,
        "epsilon": record,
        "delta": delta,
        "expected_batch": None if population_size is None else event.sample_rate * population_size,
        "cross_checks": checks,
        **beyond([event], delta),
        "warnings": warnings,
    }


def beyond(events: Sequence[Event], delta: float) -> dict[str, Any]:
    """What ``events`` cost at other ε, to groups, and if one shopper were exchanged for another."""
    return {
        "delta_at": [{"epsilon": e, "delta": delta_at(events, e)} for e in EPSILONS],
        "groups": [
            {"size": size, "epsilon": _bounded(partial(group_epsilon, events, delta, size))}
            for size in GROUPS
        ],
        "replace_one_epsilon": _bounded(lambda: replace_one_epsilon(events, delta)),
    }


def _bounded(ask: Callable[[], float]) -> float | None:
    try:
        return ask()
    except AccountingError:
        return None


def ledger_line(effect: Mapping[str, Any]) -> str:
    """What the run would do to one ledger, in words."""
    line = (
        f"population {effect['population']} goes from {effect['before']:.2f} to {number(effect['after'], 2)} "
        f"of {effect['cap']:.2f}"
    )
    return line if effect["allowed"] else f"{line}: it would be refused"


def plan_rows(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The table for people."""
    rows = [
        ("noise multiplier σ", f"{document['noise_multiplier']:g}"),
        ("sample rate q", f"{document['sample_rate']:g}"),
        ("steps", f"{document['steps']}"),
        (f"ε of record at δ = {document['delta']:g}", number(document["epsilon"], 4)),
    ]
    if document["expected_batch"] is not None:
        rows.append(("expected shoppers per step", f"{document['expected_batch']:g}"))
    rows += [(f"cross-check {check['name']}", cross_cell(check)) for check in document["cross_checks"]]
    return rows + beyond_rows(document)


def beyond_rows(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What ``beyond`` found, for people."""
    rows = [(f"δ at ε = {at['epsilon']:g}", f"{at['delta']:.3g}") for at in document["delta_at"]]
    rows += [
        (f"ε for a group of {g['size']} shoppers", _or_unbounded(g["epsilon"])) for g in document["groups"]
    ]
    return [*rows, ("ε if one shopper were exchanged", _or_unbounded(document["replace_one_epsilon"]))]


def _or_unbounded(value: float | None) -> str:
    return "unbounded" if value is None else number(value, 4)
