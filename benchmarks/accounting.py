"""How fast ε of record is: against dp-accounting and Opacus on the same events, and against bare signatures.

    python -m benchmarks.accounting [--format json] [--rounds 10000] [--mechanisms 200] [--seed 0]

dp-accounting composes one mechanism after another in windows that only grow, which would take minutes for all rounds:
it is asked about fewer. Where a ratio is shown, both are asked about the same ones, on the same grid of losses.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import dp_accounting.pld
import numpy as np
import typer
from dp_accounting import NeighboringRelation, dp_event
from dp_accounting.pld import privacy_loss_distribution as pld
from scipy import stats

from benchmarks.report import Format, Row, measure, setting, show
from privacy.accounting import Accountant, calibrate_noise, epsilon, group_epsilon, replace_one_epsilon, tally
from privacy.accounting import accountant as accountant_module
from privacy.accounting.gaussian import gaussian_loss
from privacy.accounting.loss import GRID
from privacy.events import Event, PoissonGaussian
from privacy.ledger import Kind, Ledger, LedgerView, verify_ledger
from privacy.ledger.entry import check_signature

DELTA = 1e-6
FEW = 12
"""Rounds, each of its own mechanism, that dp-accounting is asked about."""


def forget() -> None:
    """Start cold: nothing is remembered between measurements."""
    gaussian_loss.cache_clear()
    accountant_module._alike.cache_clear()
    calibrate_noise.cache_clear()


def mechanisms(rng: random.Random, number: int) -> list[tuple[float, float]]:
    """Sample rates and noise multipliers that runs of a federation may have."""
    return [(rng.uniform(0.005, 0.05), rng.uniform(1.0, 4.0)) for _ in range(number)]


def cold(events: Sequence[Event]) -> float:
    """ε with nothing remembered."""
    forget()
    return epsilon(events, DELTA)


def dp_accounting_epsilon(events: Sequence[Event]) -> float:
    """ε by dp-accounting's accountant on the same grid."""
    accountant = dp_accounting.pld.PLDAccountant(value_discretization_interval=GRID)
    for event in events:
        accountant.compose(event.to_dp_event())
    return float(accountant.get_epsilon(DELTA))


def composition(rng: random.Random, rounds: int, number: int) -> list[Row]:
    """Heterogeneous rounds: a few against dp-accounting, then all of them cold, then one more."""
    units = mechanisms(rng, number)
    few = [PoissonGaussian(*unit, 8) for unit in units[:FEW]]
    ours, mine = measure(lambda: cold(few), 3)
    theirs, other = measure(lambda: dp_accounting_epsilon(few))
    rows = [
        Row(
            f"{len(few)} rounds, each another mechanism, cold",
            ours,
            "dp-accounting",
            theirs,
            mine / other - 1,
        )
    ]

    counts = tally(PoissonGaussian(*rng.choice(units), rng.randint(1, 8)) for _ in range(rounds))
    accountant = Accountant()

    def all_of_them() -> float:
        nonlocal accountant
        forget()
        accountant = Accountant()
        return accountant.epsilon(counts, DELTA)

    first, _ = measure(all_of_them, 3)
    grown: Counter[tuple[float, float]] = Counter(counts)
    grown[units[0]] += 8
    after, _ = measure(lambda: accountant.epsilon(grown, DELTA))
    again, _ = measure(lambda: accountant.epsilon(grown, DELTA), 3)
    what = f"{rounds:,} rounds of {len(counts)} mechanisms"
    return [
        *rows,
        Row(f"{what}, cold", first),
        Row(f"{what}, one round more", after, "the same, cold", first),
        Row(f"{what}, asked again", again, "the same, cold", first),
    ]


def beside() -> list[Row]:
    """Groups, an exchange and a calibration."""
    event, sizes = PoissonGaussian(0.05, 2.0, 80), (2, 5)
    rows = []
    for size in sizes:
        members = np.arange(size + 1)

        def theirs(size: int = size, members: np.ndarray = members) -> float:
            return float(
                pld.from_mixture_gaussian_mechanism(
                    event.noise_multiplier,
                    sensitivities=[float(m) for m in members],
                    sampling_probs=[float(p) for p in stats.binom.pmf(members, size, event.sample_rate)],
                    value_discretization_interval=GRID * size,
                )
                .self_compose(event.steps)
                .get_epsilon_for_delta(DELTA)
            )

        seconds, mine = measure(partial(group_epsilon, [event], DELTA, size), 3)
        baseline, other = measure(theirs)
        rows.append(
            Row(
                f"a group of {size}, {event.steps} steps",
                seconds,
                "dp-accounting",
                baseline,
                mine / other - 1,
            )
        )

    def exchanged() -> float:
        return float(
            pld.from_gaussian_mechanism(
                event.noise_multiplier,
                sampling_prob=event.sample_rate,
                value_discretization_interval=2 * GRID,
                neighboring_relation=NeighboringRelation.REPLACE_ONE,
            )
            .self_compose(event.steps)
            .get_epsilon_for_delta(DELTA)
        )

    seconds, mine = measure(lambda: replace_one_epsilon([event], DELTA), 3)
    baseline, other = measure(exchanged)
    rows.append(
        Row(f"an exchange, {event.steps} steps", seconds, "dp-accounting", baseline, mine / other - 1)
    )

    def calibrated() -> float:
        forget()
        return calibrate_noise(4.0, DELTA, 0.025, 400)

    def calibrated_by_dp_accounting() -> float:
        return float(
            dp_accounting.calibrate_dp_mechanism(
                lambda: dp_accounting.pld.PLDAccountant(value_discretization_interval=GRID),
                lambda noise: dp_event.SelfComposedDpEvent(
                    dp_event.PoissonSampledDpEvent(0.025, dp_event.GaussianDpEvent(noise)), 400
                ),
                4.0,
                DELTA,
                dp_accounting.ExplicitBracketInterval(0.1, 10.0),
                tol=1e-3,
            )
        )

    seconds, mine = measure(calibrated, 3)
    baseline, other = measure(calibrated_by_dp_accounting)
    return [*rows, Row("σ for ε = 4, 400 steps", seconds, "dp-accounting", baseline, mine / other - 1)]


def fill(ledger: Ledger, events: Sequence[Event], runs: int) -> None:
    """Reserve and settle every event, in one transaction: ε is interpolated where nobody recomputes it."""
    total, cap = epsilon(events, DELTA), ledger.budget().cap
    per_run = -(-len(events) // runs)
    with ledger._chain.writing(ledger._signer) as writer:
        for i, event in enumerate(events):
            run = f"run-{i // per_run:04d}"
            key = f"{run}/{i}"
            body = {"event": event.to_json(), "run": run, "purpose": "update", "key": key, "cap": cap}
            body |= {"model_fingerprint": f"model-{i}", "code_version": "1"}
            spent = {
                "epsilon_before": total * i / len(events),
                "epsilon_after": total * (i + 1) / len(events),
            }
            writer.append(Kind.RESERVE, body | spent)
            writer.append(Kind.SETTLE, {"key": key, "steps_used": event.count})


def ledger(rng: random.Random, rounds: int, number: int) -> list[Row]:
    """Reading and verifying a ledger with such a history, each run under a plan of its own."""
    units = mechanisms(rng, number)
    each = -(-rounds // number)
    events = [PoissonGaussian(*unit, 8) for unit in units for _ in range(each)][:rounds]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shop.sqlite"
        fill(Ledger.create(path, population="shop", epsilon_cap=1000.0, delta=DELTA), events, number)

        def budget() -> int:
            forget()
            view = LedgerView.open(path, population="shop")
            view.budget()
            return len(view.runs())

        def verified() -> bool:
            forget()
            return verify_ledger(path, population="shop").ok

        view = LedgerView.open(path, population="shop")
        rows, key = view._chain.rows, view._chain.public_key

        def signatures() -> None:
            for row in rows:
                check_signature(row, population="shop", key=key)

        bare, _ = measure(signatures)
        shown, runs = measure(budget)
        checked, ok = measure(verified)
        if not ok:
            raise RuntimeError("the ledger made for the benchmark does not verify")
        entries = f"{len(rows):,} entries"
    return [
        Row(f"ledger of {entries}: open, budget, {runs} runs, cold", shown, "its signatures alone", bare),
        Row(f"ledger of {entries}: verify, cold", checked, "its signatures alone", bare),
    ]


def main(
    format: Annotated[Format, typer.Option(help="What is printed on standard output.")] = Format.table,
    rounds: Annotated[int, typer.Option(min=FEW, help="Rounds to compose.")] = 10_000,
    mechanisms: Annotated[int, typer.Option(min=FEW, help="Distinct mechanisms among them.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the mechanisms.")] = 0,
) -> None:
    """Measure the accountant and the ledger."""
    rng = random.Random(seed)  # noqa: S311 - which mechanisms are measured is no secret
    rows = [*composition(rng, rounds, mechanisms), *beside(), *ledger(rng, rounds, mechanisms)]
    show(
        "Accounting",
        rows,
        setting(("fedcart", "dp-accounting", "numpy", "scipy", "cryptography"), seed),
        format,
    )


if __name__ == "__main__":
    typer.run(main)
