"""What ε means for one shopper, against closed forms."""

import math

import pytest
from scipy import stats

from privacy.explain import meaning_of_events, meaning_of_guarantee


@pytest.mark.parametrize(("noise", "count"), [(1.0, 1), (3.0, 4), (0.7, 1)])
def test_explain_fits_the_closed_form_of_a_gaussian(noise, count):
    meaning = meaning_of_events("here", {(1.0, noise): count}, 1e-6)
    mu = math.sqrt(count) / noise
    for guess in meaning.guesses:
        exact = stats.norm.sf(stats.norm.isf(guess.false_positive_rate) - mu)
        assert exact * (1 - 1e-9) <= guess.true_positive_rate <= exact * 1.001 + 1e-6
    exceeded = stats.norm.sf(meaning.epsilon / mu - mu / 2)
    assert exceeded <= meaning.exceeded <= 30 * exceeded
    for belief in meaning.beliefs:
        odds, up, down = (p / (1 - p) for p in (belief.prior, belief.highest, belief.lowest))
        assert up == pytest.approx(odds * math.exp(meaning.epsilon), rel=1e-6)
        assert down == pytest.approx(odds * math.exp(-meaning.epsilon), rel=1e-6)


def test_guessing_is_never_better_than_what_epsilon_and_delta_allow():
    exact = meaning_of_events("exact", {(0.05, 1.2): 100}, 1e-6)
    bound = meaning_of_guarantee("bound", exact.epsilon, 1e-6)
    for tight, loose in zip(exact.guesses, bound.guesses, strict=True):
        assert tight.false_positive_rate < tight.true_positive_rate <= loose.true_positive_rate
    nothing = meaning_of_events("nothing", {}, 1e-6)
    assert [g.true_positive_rate for g in nothing.guesses] == [0.001, 0.01, 0.05]
