"""ε of record: closed on failure, the same whatever was asked before."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accounting import Accountant, delta_at, epsilon, replace_one_epsilon, tally
from privacy.accounting import accountant as accountant_module
from privacy.errors import AccountingError, PlanError
from privacy.events import Gaussian, PoissonGaussian

DELTA = 1e-6


def test_nothing_costs_nothing_and_everything_costs_something():
    assert epsilon([], DELTA) == 0.0
    assert replace_one_epsilon([], DELTA) == 0.0
    assert epsilon([PoissonGaussian(1e-9, 1e6, 1)], 1e-10) >= 0.0
    assert epsilon([PoissonGaussian(0.01, 2.0, 1)], DELTA) > 0.0


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([(0.05, 1.0), (0.1, 2.0), (1.0, 9.0)]), st.integers(1, 40)), max_size=5
    )
)
def test_remembered_compositions_equal_fresh_ones_and_only_grow(steps):
    """The incremental cache: same value as from scratch, and ε never falls as events are added."""
    accountant, events, last = Accountant(), [], 0.0
    for (q, noise), count in steps:
        events.append(PoissonGaussian(q, noise, count))
        value = accountant.epsilon(tally(events), DELTA)
        assert value == pytest.approx(epsilon(events, DELTA), rel=1e-8)
        assert value >= last * (1 - 1e-9)
        last = value


@pytest.mark.parametrize(("delta", "apart"), [(1e-5, 1e-9), (1e-6, 1e-8), (1e-8, 1e-6), (1e-10, 1e-4)])
def test_a_long_chain_of_compositions_says_what_one_composition_says(delta, apart):
    """Allowances that pile up with every step would call an honest ledger's numbers wrong in the end."""
    units = [(0.02, 1.1), (0.05, 2.0), (0.01, 0.9)]
    chained, counts = Accountant(), Counter()
    for i in range(120):
        counts[units[i % 3]] += 1
        chained.loss(counts)
    low, high = Accountant().around(counts, delta)
    value = chained.epsilon(counts, delta)
    assert low <= value <= high
    assert value == pytest.approx(Accountant().epsilon(counts, delta), rel=apart)


def test_where_round_off_could_hide_the_answer_there_is_none():
    """Every release may take about 1e-15 from δ: a million of them leave nothing of 1e-10."""
    assert epsilon([Gaussian(1e5, 1_000_000)], DELTA) > 0.0
    with pytest.raises(AccountingError):
        epsilon([Gaussian(1e5, 1_000_000)], 1e-10)


def test_ten_thousand_heterogeneous_rounds_take_one_convolution_more():
    """The work after a cache is counted, not timed: one remembered part and one new mechanism."""
    rng = random.Random(4)
    kinds = [(rng.uniform(0.01, 0.05), rng.uniform(1.0, 3.0)) for _ in range(6)]
    rounds = [PoissonGaussian(*rng.choice(kinds), rng.randint(1, 3)) for _ in range(10_000)]
    accountant = Accountant()
    counts = tally(rounds)
    before = accountant.epsilon(counts, DELTA)
    counts[kinds[0]] += 2
    parts, _ = accountant._shortest(dict(counts))
    assert len(parts) == 2
    after = accountant.epsilon(counts, DELTA)
    assert before < after < before * 1.01
    assert after == pytest.approx(Accountant().epsilon(counts, DELTA), rel=1e-6)


def test_delta_and_epsilon_are_inverse():
    events = [PoissonGaussian(0.05, 1.0, 50), Gaussian(6.0)]
    eps = epsilon(events, DELTA)
    assert delta_at(events, eps) == pytest.approx(DELTA, rel=1e-3)
    assert delta_at(events, 0.0) > delta_at(events, 1.0) > delta_at(events, 50.0) >= 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1e-6, 1e-11, 0.2, 1.0, True, "1e-6", None])
def test_bad_deltas_are_refused(bad):
    with pytest.raises(PlanError, match="delta"):
        epsilon([Gaussian(1.0)], bad)
    with pytest.raises(PlanError, match="delta"):
        epsilon([], bad)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0])
def test_values_that_are_no_epsilon_are_refused(value):
    with pytest.raises(AccountingError):
        accountant_module._finite(value)


def test_unbounded_spending_is_refused_rather_than_reported():
    with pytest.raises(AccountingError):
        epsilon([PoissonGaussian(1.0, 0.1, 1_000_000)], DELTA)
