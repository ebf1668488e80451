"""Events refuse what cannot be accounted for, and survive JSON exactly."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.errors import PlanError
from privacy.events import Gaussian, PoissonGaussian, event_from_json

NOT_POSITIVE_REALS = [math.nan, math.inf, -math.inf, 0, 0.0, -1.0, 5e-324, True, None, "1", 1 + 0j]
NOT_COUNTS = [0, -1, 1.0, math.nan, True, None, "3", 10**12]


@pytest.mark.parametrize("bad", [*NOT_POSITIVE_REALS, 1.0000001])
def test_bad_sample_rates_are_refused(bad):
    with pytest.raises(PlanError, match="sample_rate"):
        PoissonGaussian(bad, 1.0, 1)


@pytest.mark.parametrize("bad", [*NOT_POSITIVE_REALS, 0.0999, 1e7])
def test_bad_noise_multipliers_are_refused(bad):
    with pytest.raises(PlanError, match="noise_multiplier"):
        PoissonGaussian(0.1, bad, 1)
    with pytest.raises(PlanError, match="noise_multiplier"):
        Gaussian(bad, 1)


@pytest.mark.parametrize("bad", NOT_COUNTS)
def test_bad_counts_are_refused(bad):
    with pytest.raises(PlanError, match="steps"):
        PoissonGaussian(0.1, 1.0, bad)
    with pytest.raises(PlanError, match="count"):
        Gaussian(1.0, bad)


events = st.one_of(
    st.builds(PoissonGaussian, st.floats(1e-9, 1.0), st.floats(0.1, 1e6), st.integers(1, 10**7)),
    st.builds(Gaussian, st.floats(0.1, 1e6), st.integers(1, 10**7)),
)


@given(events)
def test_events_survive_json_exactly(event):
    assert event_from_json(json.loads(json.dumps(event.to_json()))) == event


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"kind": "laplace", "count": 1},
        {"kind": "gaussian", "count": 1},
        {"kind": "gaussian", "noise_multiplier": 1.0, "count": 1, "extra": 0},
        {"kind": "poisson-gaussian", "sample_rate": None, "noise_multiplier": 1.0, "steps": 1},
        {"kind": ["gaussian"], "noise_multiplier": 1.0, "count": 1},
    ],
)
def test_foreign_documents_are_refused(document):
    with pytest.raises(PlanError):
        event_from_json(document)


def test_the_message_names_value_and_remedy():
    with pytest.raises(PlanError, match=r"sample_rate = 2.*probability that a user joins") as refusal:
        PoissonGaussian(2, 1.0, 1)
    assert refusal.value.exit_code == 2
    assert refusal.value.code == "plan.invalid"
