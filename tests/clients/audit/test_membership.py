"""Membership inference on real shoppers: who is in, what is measured, and what is found."""

import math

import numpy as np
import pytest
import torch

from clients.audit import attack_membership
from clients.audit.membership import only, statistics
from privacy.errors import PlanError
from shared_model.errors import BadInputError
from shared_model.model import initial_shared


def attacked(subject, shadows=8, seed=1):
    said = []
    found = attack_membership(subject, shadows, seed=seed, confidence=0.95, say=said.append)
    assert said
    return found


def test_a_model_that_learns_by_heart_gives_its_shoppers_away_and_a_private_one_does_not(make_subject):
    private, plain = attacked(make_subject(shoppers=60, learning_rate=0.01, epsilon=1.0))
    assert (private.private, plain.private) == (True, False)
    assert plain.found.auc_interval[0] > 0.8
    assert private.found.auc_interval[0] < 0.6
    assert private.found.auc < plain.found.auc - 0.2
    for found in (private.found, plain.found):
        assert [rate.target_fpr for rate in found.rates] == [0.001, 0.01]
        assert found.models == 8
        assert 0.35 < found.members / (found.members + found.others) < 0.65


def test_an_attack_repeats_under_its_seed(make_subject):
    subject = make_subject(steps=4)
    first, again, other = (attacked(subject, 5, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_the_data_of_some_shoppers_is_theirs(subject):
    data, users = subject.data, np.array([3, 9, 20])
    part = only(data, users)
    negatives = torch.arange(12)
    got, expected = part.chunk(np.arange(3), negatives), data.chunk(users, negatives)
    for name, tensor in vars(expected).items():
        assert torch.equal(getattr(got, name), tensor), name
    assert len(part) == 3
    assert len(only(data, np.zeros(0, dtype=np.int64))) == 0


def test_the_statistic_is_the_logit_of_the_confidence_in_the_targets(subject, reference):
    shared = initial_shared(subject.spec)
    negatives = torch.tensor([1, 5, 30, 60])
    got = statistics(subject, subject.data, negatives, shared)
    assert got.shape == (len(subject.data),)
    for u in np.flatnonzero(np.isfinite(got))[:5]:
        example = subject.data.chunk(np.array([u]), negatives)
        moments = []
        for t in np.flatnonzero(example.target_mask[0]):
            ages = example.ages[0, t]
            events = [(example.history[0, at], float(ages[at])) for at in np.flatnonzero(~ages.isinf())]
            moments.append((events, (example.targets[0, t], example.target_isolation[0, t])))
        data, allowed = subject.data, negatives[example.negative_mask[0]]
        others = [(data.features[n], data.isolation[n]) for n in allowed]
        loss = float(
            reference.loss(reference.double(shared), subject.spec.encoder_dimensions, moments, others)
        )
        assert got[u] == pytest.approx(-loss - math.log(1 - math.exp(-loss)), rel=1e-4)


@pytest.mark.parametrize("shadows", [0, 4, -1])
def test_too_few_models_are_refused(subject, shadows):
    with pytest.raises(PlanError, match="shadows"):
        attacked(subject, shadows)


def test_too_few_shoppers_are_refused(make_subject):
    with pytest.raises(PlanError, match="have a training target"):
        attacked(make_subject(shoppers=6))
    with pytest.raises(BadInputError, match="1 usable shoppers"):
        make_subject(shoppers=1)
