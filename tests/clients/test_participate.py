"""A round on one platform: charged before the first gradient, stored before it leaves, released once."""

import numpy as np
import pytest

import clients.participate as module
from clients.errors import OutboxError, PolicyError
from clients.participate import participate, plan_for
from privacy.accounting import epsilon
from privacy.errors import BudgetRefusedError, LedgerUnreadableError
from privacy.ledger import Kind
from shared_model.encoders import identities_to_json
from shared_model.errors import EncoderError, ExchangeError


def kinds(ledger) -> list[Kind]:
    return [entry.kind for entry in ledger.history() if entry.kind in {Kind.RESERVE, Kind.RETRY, Kind.SETTLE}]


def same(one, other) -> bool:
    return all(np.array_equal(one.arrays[name], other.arrays[name]) for name in one.arrays)


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
    assert contribution.budget.committed == pytest.approx(expected, rel=1e-6)
    assert contribution.weight == site.population_size


@pytest.mark.parametrize("moment", ["train_private", "outbox.put", "ledger.settle"])
def test_killed_at_any_moment_it_is_charged_once_and_releases_one_output(
    make_site, ask, start, ledger_of, monkeypatch, moment
):
    site = make_site()

    class Killed(BaseException):
        pass

    def die(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        if moment == "train_private":
            patch.setattr(module, "train_private", die)
        elif moment == "outbox.put":
            patch.setattr(module.Outbox, "put", die)
        else:
            patch.setattr(module.Ledger, "settle", die)
        with pytest.raises(Killed):
            participate(site, ask, start(ask))
    assert ledger_of(site).budget().committed > 0, "what was begun stays charged"
    stored = list((site.work / "outbox").glob("*.update")) if site.work.exists() else []
    before = [file.read_bytes() for file in stored]
    first = participate(site, ask, start(ask))
    again = participate(site, ask, start(ask))
    assert same(first, again)
    files = list((site.work / "outbox").glob("*.update"))
    assert len(files) == 1
    if before:
        assert [files[0].read_bytes()] == before, "what was stored is what leaves"
    ledger = ledger_of(site)
    assert kinds(ledger).count(Kind.RESERVE) == 1
    assert kinds(ledger).count(Kind.SETTLE) == 1
    assert ledger.budget().committed == pytest.approx(
        epsilon([plan_for(site, ask).event_of(ask.local_steps)], site.delta), rel=1e-6
    )


def test_a_run_that_would_pass_the_cap_later_is_refused_before_its_first_round(
    make_site, ask, start, ledger_of, monkeypatch
):
    site = make_site(cap=5.0)
    monkeypatch.setattr(module, "train_private", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(BudgetRefusedError, match=r"from epsilon 0\.000 to 7\.\d+, past its cap of 5\.000"):
        participate(site, ask, start(ask))
    assert kinds(ledger_of(site)) == []


def test_a_client_that_joins_late_or_restarts_is_private_and_charged(make_site, ask, start, ledger_of):
    site = make_site()
    late = ask.model_copy(update={"round": 5})
    contribution = participate(site, late, start(ask))
    assert contribution.noise == "chacha20-os-entropy"
    assert kinds(ledger_of(site)) == [Kind.RESERVE, Kind.SETTLE]


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
    for file in (site.work / "outbox").iterdir():
        file.unlink()
    with pytest.raises(PolicyError, match="not made again"):
        participate(site, ask, start(ask))


def test_a_damaged_update_is_not_sent(make_site, ask, start):
    site = make_site()
    participate(site, ask, start(ask))
    (file,) = (site.work / "outbox").iterdir()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(OutboxError, match="damaged"):
        participate(site, ask, start(ask))


def test_a_full_disk_leaves_the_charge_and_no_half_written_update(
    make_site, ask, start, ledger_of, monkeypatch
):
    site = make_site()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("clients.outbox.os.fsync", full)
        with pytest.raises((OutboxError, LedgerUnreadableError)):
            participate(site, ask, start(ask))
    assert not list((site.work / "outbox").glob("*"))
    assert ledger_of(site).budget().committed > 0
    assert participate(site, ask, start(ask)).budget.reserved == 0


def test_without_a_ledger_nothing_is_trained(make_site, ask, start):
    site = make_site(cap=None)
    with pytest.raises(LedgerUnreadableError):
        participate(site, ask, start(ask))


def test_plain_training_needs_the_site_s_consent_and_leaves_the_ledger_alone(
    make_site, ask, start, ledger_of
):
    plain = ask.model_copy(update={"epsilon": 0.0})
    with pytest.raises(PolicyError, match="allow_plain_training"):
        participate(make_site("strict"), plain, start(ask))
    site = make_site("open", allow_plain_training=True)
    assert participate(site, plain, start(ask)).budget is None
    assert kinds(ledger_of(site)) == []


def test_what_does_not_fit_is_refused_before_the_ledger_is_touched(make_site, ask, start, ledger_of):
    site = make_site()
    arrays = start(ask)
    with pytest.raises(PolicyError, match="delta"):
        participate(site, ask.model_copy(update={"delta": 1e-5}), arrays)
    other = identities_to_json([i.__class__(i.name, "2", i.sha256, i.dimension) for i in ask.identities])
    with pytest.raises(EncoderError, match=r"/1 .*there.*/2 "):
        participate(site, ask.model_copy(update={"encoder_identities": other}), arrays)
    with pytest.raises(ExchangeError, match="NaN"):
        participate(site, ask, arrays | {"log_decay": np.array([np.nan], dtype=np.float32)})
    with pytest.raises(ExchangeError, match="unknown"):
        participate(site, ask, arrays | {"popularity": np.zeros(1, dtype=np.float32)})
    assert kinds(ledger_of(site)) == []


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


def test_an_open_reservation_is_counted_until_it_is_taken_up(make_site, ask, start, ledger_of, monkeypatch):
    site = make_site()
    with monkeypatch.context() as patch:
        patch.setattr(module, "train_private", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            participate(site, ask, start(ask))
    budget = ledger_of(site).budget()
    assert budget.reserved > 0
    participate(site, ask, start(ask))
    after = ledger_of(site).budget()
    assert after.reserved == 0
    assert after.committed == pytest.approx(budget.committed)
