"""The table of ε in the docs, recomputed by everybody it names."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import dp_accounting
import numpy as np
import pytest
from opacus.accountants.analysis.rdp import compute_rdp

from privacy.accounting import cross_checks, epsilon, tally
from privacy.events import PoissonGaussian

PAGE = Path(__file__).parents[2] / "docs" / "decisions" / "0104-epsilon-table.md"
ROUNDING = 0.00051


def table():
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    names = [cell.strip() for cell in lines[0].strip("|").split("|")]
    return [dict(zip(names, map(str.strip, line.strip("|").split("|")), strict=True)) for line in lines[2:]]


def event_and_delta(row):
    q = float(Fraction(row["q"]))
    return PoissonGaussian(q, float(row["σ"]), int(row["steps"])), float(row["δ"])


@pytest.mark.parametrize("row", table(), ids=lambda row: f"{row['σ']}-{row['steps']}")
def test_every_column_is_what_its_owner_says(row):
    event, delta = event_and_delta(row)
    assert float(row["ε of record"]) == pytest.approx(epsilon([event], delta), abs=ROUNDING)
    for check in cross_checks(tally([event]), delta, epsilon([event], delta)):
        shown = row[check.name]
        if check.epsilon is None:
            assert shown == "–"
        else:
            assert float(shown) == pytest.approx(check.epsilon, abs=ROUNDING)
        assert check.agrees, check
    rdp = dp_accounting.rdp.RdpAccountant()
    rdp.compose(event.to_dp_event())
    assert float(row["dp-accounting RDP"]) == pytest.approx(rdp.get_epsilon(delta), abs=ROUNDING)


@pytest.mark.parametrize(
    "row", [r for r in table() if r["published"] != "–"], ids=lambda row: row["published"]
)
def test_published_values_are_explained_by_the_method_of_their_time(row):
    event, delta = event_and_delta(row)
    orders = np.array([1 + x / 10 for x in range(1, 100)] + list(range(12, 64)))
    curve = compute_rdp(
        q=event.sample_rate, noise_multiplier=event.noise_multiplier, steps=event.steps, orders=orders
    )
    then = float(np.min(curve + math.log(1 / delta) / (orders - 1)))
    assert float(row["published"]) == pytest.approx(then, rel=2e-3, abs=0.006)
    assert float(row["ε of record"]) < then


def test_the_table_is_not_empty():
    assert len(table()) >= 8
