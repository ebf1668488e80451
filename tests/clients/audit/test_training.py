"""The audit attacks what ships: the same function, and the same bytes."""

from dataclasses import replace

import numpy as np
import pytest

import clients.audit.training as audited
import clients.participate as module
from clients.audit import Subject, Training, audit_training, edges_to_own, sources
from clients.audit.defects import Scaled
from clients.participate import participate, plan_for
from clients.platform import HashableSite, read_events
from clients.products import Products, site_vocabulary
from clients.training import ShopperEvents, exact_sum, release_stage
from privacy.audit import Canaries
from privacy.errors import PlanError
from privacy.noise import ReproducibleNoise
from shared_model.stages import Stage


def quiet(_):
    """Say nothing."""


class InTurn:
    """Each draw from the next source, as each round of a platform has one of its own."""

    private, name = False, "in turn"

    def __init__(self, *given):
        self.left = list(given)

    def normal(self, n):
        return self.left.pop(0).normal(n)


def test_the_audit_releases_what_a_platform_sends_byte_for_byte(make_site, ask, monkeypatch):
    """Of a platform's files, its own rounds and the audit's run make the same sums with the same noise."""
    site = make_site(reproducible_noise=True)
    sent, made, real = {}, [], module.release_stage

    def spy(*arguments, **named):
        made.append((len(arguments), named))
        return real(*arguments, **named)

    data, vocabulary = read_events(HashableSite(site)), site_vocabulary(site)
    products = Products.of(vocabulary, data.catalogue, ask.encoder_names, site.cache)
    events = ShopperEvents.of(data.split, products.of_item)
    noise = InTurn(*(ReproducibleNoise(ask.seed, site.name, number) for number in (1, 2)))
    subject = Subject(site.name, events, vocabulary, plan_for(site, ask), 0)
    released, temper = Training(subject, noise).release(events)
    monkeypatch.setattr(module, "release_stage", spy)
    for stage, given in ((Stage.POPULARITY, {}), (Stage.EDGES, {"temper": temper})):
        asked = ask.model_copy(update={"round": stage.number + 1})
        sent |= participate(site, asked, given).arrays
    for stage in Stage:
        assert sent[stage.value].tobytes() == released[stage].astype(np.float32).tobytes()
        assert np.abs(sent[stage.value]).max() > 1
    assert made == [(7, {})] * 2  # nothing is planted in a real round


def test_there_is_one_function_that_both_call():
    assert module.release_stage is audited.release_stage is release_stage


def test_a_platform_that_makes_its_sums_otherwise_would_be_seen(make_site, ask, monkeypatch):
    """What leaves is what the one function returns: whoever goes round it fails here."""
    site = make_site()
    mark = np.arange(ask.products, dtype=np.float32)
    monkeypatch.setattr(module, "release_stage", lambda *_: mark)
    assert (participate(site, ask, {}).arrays["popularity"] == mark).all()


def test_an_audit_that_makes_its_sums_otherwise_would_be_seen(subject, monkeypatch):
    monkeypatch.setattr(audited, "release_stage", lambda stage, *_: np.full(3, stage.number + 5.0))
    monkeypatch.setattr(audited, "part_of", lambda *_: audited.ProductTable.empty(3, 3))
    released, _ = Training(subject, sources(1, "x")[1]).release(subject.events)
    assert {stage: total.tolist() for stage, total in released.items()} == {
        Stage.POPULARITY: [5.0] * 3,
        Stage.EDGES: [6.0] * 3,
    }


def test_the_temper_is_made_of_the_noised_popularity_alone(subject):
    """Other shoppers with the same noised popularity have the same temper."""
    noise, plan = ReproducibleNoise(1), subject.plan
    released, temper = Training(subject, noise).release(subject.events)
    table = audited.ProductTable(
        released[Stage.POPULARITY].astype(np.float32),
        np.zeros(len(subject.vocabulary.edges)),
        np.zeros(len(subject.vocabulary)),
        plan.noise_of(0) ** 2,
        runs=1,
    )
    np.testing.assert_array_equal(temper, table.fixed_temper().temper)


def test_what_is_left_of_a_canary_without_noise_is_its_row(subject):
    m, owned = edges_to_own(subject, 100, 0)
    included = np.arange(m) % 3 == 0
    scores = Training(subject, Scaled(ReproducibleNoise(1), 0.0)).attacks(included, owned)
    sigmas = [subject.plan.noise_of(stage.number) for stage in Stage]
    expected = sum((2 * included - 1) / (2 * sigma**2) for sigma in sigmas)
    np.testing.assert_allclose(scores["likelihood"], expected, atol=1e-4)
    assert set(scores) == {"likelihood", "repeated noise", "temper"}


def test_more_canaries_than_edges_take_several_runs(subject):
    m, owned = edges_to_own(subject, 450, 0)
    assert audited.runs_of(m, owned) == 3
    coins, noise = sources(4, "a name")
    said = []
    scores = Training(subject, noise).run(Canaries.draw(m, coins), owned, said.append)
    assert all(found.shape == (450,) for found in scores.values())
    assert said == ["run 1 of 3", "run 2 of 3", "run 3 of 3"]
    default, _ = edges_to_own(subject, None, 10**6)
    assert default == audited.MOST_RUNS * len(edges_to_own(subject, 10**4, 0)[1])


def test_without_a_seed_coins_and_noise_are_drawn_anew(subject):
    _, owned = edges_to_own(subject, 100, 0)

    def run(seed):
        coins, noise = sources(seed, "a name")
        canaries = Canaries.draw(100, coins)
        scores = Training(subject, noise).run(canaries, owned, quiet)
        return (*canaries.included, *scores["likelihood"])

    assert run(4) == run(4)
    assert len({run(4), run(5), run(None), run(None)}) == 4


@pytest.mark.parametrize("shares", [(0.1, 0.9), (0.5, 0.5), (1.0,)])
def test_honest_releases_are_not_accused_and_without_noise_they_are(make_subject, shares):
    subject = make_subject(shares=shares)
    m, owned = edges_to_own(subject, 2000, 0)
    found = []
    for factor in (1.0, 0.0):
        coins, noise = sources(3, "it")
        training, canaries = Training(subject, Scaled(noise, factor)), Canaries.draw(m, coins)
        found.append(audit_training(training, canaries, owned, name="it", confidence=0.95, say=quiet))
    honest, silent = found
    assert not honest.violation
    assert honest.claimed == pytest.approx(subject.plan.cost())
    assert 0.5 < honest.bound.epsilon < honest.ceiling
    assert silent.violation
    assert honest.runs == audited.runs_of(2000, owned) > 1


@pytest.mark.parametrize("m", [0, -1, 19, 10**7])
def test_an_unusable_number_of_canaries_is_refused(subject, m):
    with pytest.raises(PlanError, match="canaries"):
        edges_to_own(subject, m, 100)


@pytest.mark.parametrize("canaries", [None, 20, 1000])
def test_a_vocabulary_without_edges_has_no_room(subject, canaries):
    empty = replace(subject.vocabulary, edges=np.zeros((0, 2), np.int32))
    with pytest.raises(PlanError, match="of 0 edges 0 share no product"):
        edges_to_own(replace(subject, vocabulary=empty), canaries, 100)


def test_real_shoppers_are_taken_off_exactly(subject, monkeypatch):
    """The attacker knows them: with ten times as many the same canaries stand out as much."""
    _, owned = edges_to_own(subject, 50, 0)
    nobody = replace(subject, events=ShopperEvents(*np.zeros((3, 0), np.int64)))
    one, other = (
        Training(s, Scaled(ReproducibleNoise(2), 0.0)).attacks(np.ones(50, bool), owned)["likelihood"]
        for s in (subject, nobody)
    )
    assert exact_sum(Stage.POPULARITY, subject.events, subject.vocabulary.edges, {}, 400).sum() > 100
    np.testing.assert_allclose(one, other, atol=1e-4)
