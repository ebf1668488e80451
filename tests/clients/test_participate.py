"""A round on one platform: charged before the first gradient, stored before it leaves, released once."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

import clients.participate as module
from clients.errors import OutboxError, RoundError
from clients.outbox import Outbox
from clients.participate import participate, plan_for
from clients.platform import prepare_platform
from privacy.accounting import epsilon
from privacy.errors import BudgetRefusedError, MechanismError
from privacy.ledger import NOTHING, Kind, Ledger, Status
from privacy.ledger.keys import key_path, load_key_file
from shared_model.exchange import fingerprint
from tests.clients.one_round import kinds, never, reservations, same, updates


def test_the_ledger_is_charged_before_training_and_settled_before_the_answer(
    make_site, ask, start, ledger_of, monkeypatch
):
    site = make_site()
    train = module.train_private
    seen = []

    def spy(*arguments, **named):
        ledger = ledger_of(site)
        seen.append((kinds(ledger), ledger.budget().reserved > 0))
        return train(*arguments, **named)

    monkeypatch.setattr(module, "train_private", spy)
    contribution = participate(site, ask, start(ask))
    assert seen == [([Kind.RESERVE], True)]
    ledger = ledger_of(site)
    assert kinds(ledger) == [Kind.RESERVE, Kind.SETTLE]
    expected = epsilon([plan_for(site, ask).event_of(ask.local_steps)], site.delta)
    assert contribution.receipt.committed == pytest.approx(expected, rel=1e-6)
    assert contribution.weight == site.population_size


def test_the_order_is_reserve_train_store_settle(make_site, ask, start, ledger_of, monkeypatch):
    site, seen = make_site(), []

    def spy(owner, name):
        real = getattr(owner, name)

        def call(*arguments, **values):
            held = reservations(ledger_of(site))
            stored = len(list((site.work / "outbox").glob("*.update")))
            seen.append((name, [h.status.value for h in held], stored))
            return real(*arguments, **values)

        monkeypatch.setattr(owner, name, call)

    for owner, name in ((Ledger, "reserve"), (module, "train_private"), (Outbox, "put"), (Ledger, "settle")):
        spy(owner, name)
    contribution = participate(site, ask, start(ask))
    assert seen == [
        ("reserve", [], 0),
        ("train_private", ["open"], 0),
        ("put", ["open"], 0),
        ("settle", ["open"], 1),
    ]
    (held,) = reservations(ledger_of(site))
    assert held.event == plan_for(site, ask).event_of(1)
    assert (held.run, held.purpose) == ("run-1", "round 1 of 5")
    assert held.model_fingerprint == fingerprint(start(ask))
    assert not np.array_equal(contribution.arrays["residual_out"], start(ask)["residual_out"])


class KilledError(BaseException):
    """Stands for kill -9: nothing catches it."""


POINTS = [
    (Ledger, "reserve"),
    (module, "train_private"),
    (Outbox, "put"),
    (Ledger, "settle"),
    (Ledger, "receipt"),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("owner", "name"), POINTS, ids=[name for _, name in POINTS])
def test_killed_at_any_moment_it_is_charged_once_drawn_once_and_has_one_outcome(
    make_site, ask, start, ledger_of, monkeypatch, owner, name, when
):
    site, trainings, train = make_site(), [], module.train_private
    monkeypatch.setattr(module, "train_private", lambda *a: trainings.append(1) or train(*a))
    real = getattr(owner, name)

    def dying(*arguments, **values):
        if when == "after":
            real(*arguments, **values)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dying)
        with pytest.raises(KilledError):
            participate(site, ask, start(ask))
    begun, stored = reservations(ledger_of(site)), updates(site)
    assert bool(begun) == ((name, when) != ("reserve", "before")), "what was begun stays charged"
    if begun and not stored:
        for _ in range(2):
            with pytest.raises(RoundError, match="not trained again") as nothing:
                participate(site, ask, start(ask))
            assert nothing.value.code == "round.nothing"
    else:
        once, again = participate(site, ask, start(ask)), participate(site, ask, start(ask))
        assert same(once, again)
        assert once.receipt == again.receipt
        assert not stored or updates(site) == stored, "what was stored is what leaves"
    assert len(trainings) <= 1
    ledger = ledger_of(site)
    (reservation,) = reservations(ledger)
    assert (reservation.status, reservation.charged) == (Status.SETTLED, 1)
    assert (reservation.output == NOTHING) == (not updates(site))
    assert ledger.budget().committed == pytest.approx(
        epsilon([plan_for(site, ask).event_of(1)], site.delta), rel=1e-9
    )
    assert ledger.verify().ok


def test_a_simulation_that_was_killed_makes_the_same_draw_again(make_site, ask, start, monkeypatch, tmp_path):
    site = make_site(reproducible_noise=True)
    whole = site.model_copy(update={"work": tmp_path / "whole"})
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "put", lambda *_: (_ for _ in ()).throw(KilledError))
        with pytest.raises(KilledError):
            participate(site, ask, start(ask))
    assert same(participate(site, ask, start(ask)), participate(whole, ask, start(ask)))


def test_a_finished_round_is_answered_without_training(make_site, ask, start, monkeypatch):
    site = make_site()
    first = participate(site, ask, start(ask))
    monkeypatch.setattr(module, "train_private", never)
    again = participate(site, ask, start(ask))
    assert same(again, first)
    assert again.receipt == first.receipt


def test_a_second_process_is_refused_and_changes_nothing(make_site, ask, start, ledger_of, monkeypatch):
    site, real, seen = make_site(), module.train_private, []

    def slow(*arguments):
        before = ledger_of(site).head()
        with pytest.raises(RoundError) as busy:
            participate(site, ask, start(ask))
        seen.append((busy.value.code, ledger_of(site).head() == before))
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "train_private", slow)
        first = participate(site, ask, start(ask))
    assert seen == [("round.busy", True)]
    assert same(participate(site, ask, start(ask)), first)
    assert len(reservations(ledger_of(site))) == 1


def test_two_folders_on_one_ledger_are_two_reservations(make_site, ask, start, ledger_of, tmp_path):
    site = make_site()
    second = site.model_copy(update={"work": tmp_path / "second"})
    one, two = participate(site, ask, start(ask)), participate(second, ask, start(ask))
    assert not same(one, two)
    assert two.receipt.committed > one.receipt.committed, "each is charged"
    outputs = {held.output for held in reservations(ledger_of(site))}
    assert outputs == {fingerprint(one.arrays), fingerprint(two.arrays)}
    assert one.statement.update == fingerprint(one.arrays)


def clone(site, folder):
    shutil.copytree(site.work, folder)
    return site.model_copy(update={"work": folder})


def test_a_copy_of_a_folder_releases_nothing_that_the_folder_released(make_site, ask, start, tmp_path):
    site = make_site()
    participate(site, ask, start(ask))
    copy, second = clone(site, tmp_path / "copy"), ask.model_copy(update={"round": 2})
    one = participate(site, second, start(ask))
    with pytest.raises(RoundError) as lost:
        participate(copy, second, start(ask))
    assert lost.value.code == "round.lost"
    assert same(participate(site, second, start(ask)), one)


def test_a_copy_that_is_asked_while_the_folder_trains_ends_the_round_for_both(
    make_site, ask, start, ledger_of, monkeypatch, tmp_path
):
    site, real, codes = make_site(), module.train_private, []
    participate(site, ask, start(ask))
    copy, second = clone(site, tmp_path / "copy"), ask.model_copy(update={"round": 2})

    def slow(*arguments):
        with pytest.raises(RoundError) as nothing:
            participate(copy, second, start(ask))
        codes.append(nothing.value.code)
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "train_private", slow)
        with pytest.raises(RoundError) as unfinished:
            participate(site, second, start(ask))
    codes.append(unfinished.value.code)
    for folder in (site, copy):
        with pytest.raises(RoundError) as again:
            participate(folder, second, start(ask))
        codes.append(again.value.code)
    assert codes == ["round.nothing", "round.unfinished", "round.nothing", "round.nothing"]
    assert reservations(ledger_of(site))[1].output == NOTHING


def test_another_update_put_in_the_place_of_the_stored_one_is_not_sent(make_site, ask, start):
    site, second = make_site(), ask.model_copy(update={"round": 2})
    participate(site, ask, start(ask))
    (first,) = (site.work / "outbox").glob("*.update")
    participate(site, second, start(ask))
    (other,) = set((site.work / "outbox").glob("*.update")) - {first}
    other.write_bytes(first.read_bytes())
    with pytest.raises(OutboxError, match="the ledger names"):
        participate(site, second, start(ask))


@pytest.mark.parametrize("ledger", ["restored", "new"])
def test_an_outbox_that_knows_more_than_the_ledger_trains_nothing(make_site, ask, start, monkeypatch, ledger):
    """A backup of the ledger was put back, or a new one made: its budget is not what was spent."""
    site, third = make_site(), ask.model_copy(update={"round": 3})
    file = Path(site.ledger)
    participate(site, ask, start(ask))
    backup = file.read_bytes()
    participate(site, ask.model_copy(update={"round": 2}), start(ask))
    file.write_bytes(backup)
    if ledger == "new":
        file.unlink()
        key = load_key_file(key_path(file))
        Ledger.create(file, population=site.population, epsilon_cap=9.0, delta=site.delta, key=key)
    monkeypatch.setattr(module, "train_private", never)
    with pytest.raises(OutboxError, match=r"the ledger does not know .* restore its newest copy"):
        participate(site, third, start(ask))


def test_updates_without_the_id_of_their_outbox_are_refused(make_site, ask, start):
    site = make_site()
    participate(site, ask, start(ask))
    (site.work / "outbox" / "id").unlink()
    with pytest.raises(OutboxError, match=r"id: is missing"):
        participate(site, ask, start(ask))


@pytest.mark.parametrize(
    "error", [ValueError("x"), MemoryError(), MechanismError("not finite"), TimeoutError("slow")]
)
def test_a_training_that_fails_sends_what_it_began_with(make_site, ask, start, ledger_of, monkeypatch, error):
    site = make_site()
    with monkeypatch.context() as patch:
        patch.setattr(module, "train_private", lambda *_: (_ for _ in ()).throw(error))
        sent = participate(site, ask, start(ask))
    assert all(np.array_equal(sent.arrays[name], array) for name, array in start(ask).items())
    (held,) = reservations(ledger_of(site))
    assert (held.output, held.charged) == (fingerprint(start(ask)), 1)
    assert same(participate(site, ask, start(ask)), sent), "and it stays so"


def test_a_training_that_takes_too_long_sends_what_it_began_with(make_site, ask, start):
    site = make_site(policy={"limits": {"seconds": 1e-9}})
    sent = participate(site, ask, start(ask))
    assert all(np.array_equal(sent.arrays[name], array) for name, array in start(ask).items())


def test_another_request_for_the_same_round_is_another_release(make_site, ask, start, ledger_of):
    site, moved = make_site(), start(ask)
    moved["log_isolation"] = moved["log_isolation"] + np.float32(0.25)
    first = participate(site, ask, start(ask))
    second = participate(site, ask, moved)
    third = participate(site, ask.model_copy(update={"learning_rate": 0.1}), moved)
    assert len(reservations(ledger_of(site))) == 3
    assert first.receipt.committed < second.receipt.committed < third.receipt.committed


@pytest.mark.parametrize("first", [1, 5])
def test_a_client_that_joins_late_or_restarts_is_private_and_charged(
    make_site, ask, start, monkeypatch, first
):
    """NVFlare's hello-dp sets privacy up in round 0 only: whoever joins later trains without any."""
    site, noises, real = make_site(), [], module.train_private

    def spy(*arguments):
        noises.append(arguments[5])
        return real(*arguments)

    monkeypatch.setattr(module, "train_private", spy)
    spent = []
    for number in range(first, 6):
        prepare_platform.cache_clear()  # as in a new process
        contribution = participate(site, ask.model_copy(update={"round": number}), start(ask))
        assert contribution.statement.noise == "chacha20-os-entropy"
        spent.append(contribution.receipt.committed)
    assert len(set(map(id, noises))) == 6 - first
    assert all(noise.private for noise in noises)
    event = plan_for(site, ask).event_of
    assert spent == pytest.approx([epsilon([event(n)], site.delta) for n in range(1, 7 - first)], rel=1e-9)


def test_rounds_compose_to_the_plan(make_site, ask, start, ledger_of):
    site = make_site()
    arrays = start(ask)
    for number in range(1, 6):
        arrays = participate(site, ask.model_copy(update={"round": number}), arrays).arrays
    spent = ledger_of(site).budget().committed
    assert spent == pytest.approx(plan_for(site, ask).cost(), rel=1e-5)
    assert spent <= ask.epsilon


def test_a_settled_round_whose_update_is_lost_is_not_made_anew(make_site, ask, start):
    site = make_site()
    participate(site, ask, start(ask))
    for file in (site.work / "outbox").glob("*.update"):
        file.unlink()
    with pytest.raises(RoundError, match="not made again"):
        participate(site, ask, start(ask))


def test_a_damaged_update_is_not_sent(make_site, ask, start):
    site = make_site()
    participate(site, ask, start(ask))
    (file,) = (site.work / "outbox").glob("*.update")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(OutboxError, match="damaged"):
        participate(site, ask, start(ask))


def full(*_):
    raise OSError(28, "No space left on device")


def test_a_disk_that_is_full_before_the_reservation_costs_nothing(
    make_site, ask, start, ledger_of, monkeypatch
):
    site = make_site()
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OutboxError):
            participate(site, ask, start(ask))
    assert reservations(ledger_of(site)) == []
    participate(site, ask, start(ask))


def test_a_disk_that_is_full_after_it_ends_the_round_with_nothing(
    make_site, ask, start, ledger_of, monkeypatch
):
    site = make_site()
    with monkeypatch.context() as patch:
        patch.setattr("clients.outbox.os.link", full)
        patch.setattr("clients.outbox.Outbox.id", lambda _: "0" * 32)
        with pytest.raises(RoundError, match="No space left") as unfinished:
            participate(site, ask, start(ask))
        assert unfinished.value.code == "round.unfinished"
        assert not list((site.work / "outbox").glob("*.update"))
    (site.work / "outbox" / "id").write_text("0" * 32)
    assert ledger_of(site).budget().reserved > 0
    with pytest.raises(RoundError) as nothing:
        participate(site, ask, start(ask))
    assert nothing.value.code == "round.nothing"
    assert ledger_of(site).budget().reserved == 0
    assert ledger_of(site).budget().committed > 0


def test_reproducible_noise_repeats_and_secure_noise_does_not(make_site, ask, start, tmp_path):
    def twice(reproducible: bool):
        results = []
        for attempt in range(2):
            site = make_site(f"shop-{reproducible}", cap=None, reproducible_noise=reproducible)
            folder = tmp_path / f"{reproducible}-{attempt}"
            folder.mkdir()
            own = site.model_copy(update={"work": folder, "ledger": str(folder / "ledger.sqlite")})
            module.Ledger.create(
                folder / "ledger.sqlite", population=own.name, epsilon_cap=9.0, delta=own.delta
            )
            results.append(participate(own, ask, start(ask)))
        return results

    assert same(*twice(True))
    assert not same(*twice(False))


def test_an_open_reservation_is_counted_and_then_ended_in_full(make_site, ask, start, ledger_of, monkeypatch):
    site = make_site()
    with monkeypatch.context() as patch:
        patch.setattr(module, "train_private", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            participate(site, ask, start(ask))
    budget = ledger_of(site).budget()
    assert budget.reserved > 0
    with pytest.raises(RoundError):
        participate(site, ask, start(ask))
    after = ledger_of(site).budget()
    assert after.reserved == 0
    assert after.committed == pytest.approx(budget.committed)


def test_what_earlier_runs_spent_counts(make_site, ask, start, ledger_of, monkeypatch):
    site = make_site(cap=9.0)
    monkeypatch.setattr(module, "train_private", lambda shared, *_: shared)
    for number in range(1, 6):
        contribution = participate(site, ask.model_copy(update={"round": number}), start(ask))
    assert 7.5 < contribution.receipt.committed <= 8.0
    with pytest.raises(BudgetRefusedError):
        participate(site, ask.model_copy(update={"run_id": "run-2"}), start(ask))
    assert ledger_of(site).budget().committed == contribution.receipt.committed


def test_a_damaged_update_of_an_open_round_is_not_made_again(make_site, ask, start, ledger_of, monkeypatch):
    site = make_site()

    def die(*_):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "settle", die)
        with pytest.raises(KilledError):
            participate(site, ask, start(ask))
    (file,) = (site.work / "outbox").glob("*.update")
    file.write_bytes(file.read_bytes()[:-1])
    monkeypatch.setattr(module, "train_private", never)
    with pytest.raises(OutboxError, match="damaged"):
        participate(site, ask, start(ask))
    assert len(reservations(ledger_of(site))) == 1


def test_reproducible_noise_differs_by_round_seed_and_platform(make_site, ask, start, monkeypatch):
    drawn = []

    def draw(shared, *arguments):
        drawn.append(tuple(arguments[4].normal(4)))
        return shared

    monkeypatch.setattr(module, "train_private", draw)
    toys, food = make_site("toys", reproducible_noise=True), make_site("food", reproducible_noise=True)
    for site, change in ((toys, {}), (food, {}), (toys, {"seed": 4}), (toys, {"round": 2})):
        participate(site, ask.model_copy(update=change), start(ask))
    assert len(set(drawn)) == 4


def test_the_plan_is_of_the_whole_run_and_of_declared_numbers_only(make_site, ask):
    site = make_site()
    plan = plan_for(site, ask)
    assert (plan.steps, plan.population_size, plan.delta) == (5, 20, site.delta)
    assert plan.normaliser == 0.5 * 20
    assert 7.9 < plan.cost() <= 8.0
    assert dataclasses.asdict(plan_for(make_site("more", seed=9), ask)) == dataclasses.asdict(plan)
