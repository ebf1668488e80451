"""Membership inference on real shoppers: who is in, what is known, and what is found."""

from dataclasses import replace

import numpy as np
import pytest

from clients.audit import attack_membership
from clients.audit.membership import only
from clients.training import ShopperEvents
from privacy.errors import PlanError


def attacked(subject, runs=4, seed=1):
    said = []
    found = attack_membership(subject, runs, seed=seed, confidence=0.95, say=said.append)
    assert len(said) == runs
    return found


@pytest.mark.parametrize("shares", [(0.2, 0.8), (1.0,)])
def test_exact_sums_give_their_shoppers_away_and_private_ones_hardly(make_subject, shares):
    private, exact = attacked(make_subject(epsilon=1.0, shares=shares))
    assert (private.private, exact.private) == (True, False)
    assert exact.found.auc_interval[0] > 0.95
    assert 0.4 < private.found.auc < 0.7
    for found in (private.found, exact.found):
        assert [rate.target_fpr for rate in found.rates] == [0.001, 0.01]
        assert (found.runs, found.users) == (4, 60)
        assert 0.35 < found.members / (found.members + found.others) < 0.65


def test_more_noise_hides_more(make_subject):
    aucs = [attacked(make_subject(epsilon=epsilon), 8)[0].found.auc for epsilon in (0.2, 2.0, 20.0)]
    assert aucs[0] < aucs[1] < aucs[2]
    assert aucs[2] > 0.85


def test_an_attack_repeats_under_its_seed(subject):
    first, again, other = (attacked(subject, 2, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_the_events_of_some_shoppers_are_theirs(subject):
    part = only(subject.events, [3, 9])
    at = np.isin(subject.events.users, [3, 9])
    assert at.sum() == 24
    for name in ("users", "products", "groups"):
        np.testing.assert_array_equal(getattr(part, name), getattr(subject.events, name)[at])


@pytest.mark.parametrize("runs", [0, -1])
def test_too_few_runs_are_refused(subject, runs):
    with pytest.raises(PlanError, match="runs"):
        attacked(subject, runs)


def test_too_few_shoppers_with_a_known_product_are_refused(make_subject, subject):
    with pytest.raises(PlanError, match="6 shoppers have a known product"):
        attacked(make_subject(shoppers=6))
    events = subject.events
    unknown = ShopperEvents(events.users, np.full_like(events.products, -1), events.groups)
    with pytest.raises(PlanError, match="0 shoppers have a known product"):
        attacked(replace(subject, events=unknown))
