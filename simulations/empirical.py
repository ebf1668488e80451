"""`fedcart audit empirical`: a platform attacks its own releases."""

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from clients.audit import (
    Progress,
    Report,
    SelfTest,
    Subject,
    Training,
    attack_membership,
    audit_training,
    edges_to_own,
    run_selftest,
    sources,
)
from clients.audit.membership import FALSE_POSITIVE_RATES, check_runs
from clients.audit.report import NOTES
from privacy.accounting import tally
from privacy.audit import Canaries
from privacy.audit.bounds import check_confidence
from privacy.checks import whole
from privacy.cli.output import Format, say, to_json, warn, write_json, write_lines, write_table
from privacy.explain import meaning_of_events
from shared_model.errors import BadInputError
from simulations.audited import Audited, audited_member, audited_site
from simulations.folder import cache_folder
from simulations.run import versions
from simulations.scenario import Scenario, load_scenario

CANARIES, QUICK_CANARIES = 20_000, 5000
RUNS, QUICK_RUNS = 16, 4
SELFTEST_EPSILON, SELFTEST_SHARE = 4.0, 0.1
"""Claim of the self-test. Twice as much is honest too, and its canaries can prove more than that. Edges have most of the
budget, as among 10,000 shoppers: where they have half, counting them twice spends less than canaries can prove."""


def empirical(
    site: Annotated[
        Path | None, typer.Option(metavar="SITE.toml", help="A platform's own site file.")
    ] = None,
    scenario: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Scenario file; the grocery scenario where left out.")
    ] = None,
    platform: Annotated[
        str | None, typer.Option(help="Which member of the scenario; else the first.")
    ] = None,
    epsilon: Annotated[float | None, typer.Option(help="ε claimed for the whole run.")] = None,
    share: Annotated[
        float | None, typer.Option(help="Part of the budget that popularity gets; 1 for popularity alone.")
    ] = None,
    canaries: Annotated[
        int | None, typer.Option(help="Canary shoppers; 20,000, or as many as the vocabulary's edges allow.")
    ] = None,
    runs: Annotated[
        int | None, typer.Option(help="Runs that membership inference attacks; 0 leaves it out.")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of every bound and interval.")] = 0.95,
    seed: Annotated[
        int | None, typer.Option(help="Repeat an audit; without it, coins and noise are secret.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer canaries, runs and rows.")] = False,
    self_test: Annotated[
        bool,
        typer.Option("--self-test", help="Plant defects in the training and see whether they are caught."),
    ] = False,
    format: Annotated[Format, typer.Option(help="What is printed on standard output.")] = Format.table,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write the report here, JSON and Markdown.")
    ] = None,
) -> None:
    """Attack the platform's own releases: canary shoppers, membership of real ones, planted defects.

    Makes throw-away sums: no ledger is opened, nothing is charged, nothing leaves. The report is computed from
    the shoppers' data without noise and is for the platform alone.

    Exit code 0: no contradiction; 3: the attack proves more than is claimed; 1: the self-test missed a defect.
    """
    started = time.monotonic()
    check_confidence(confidence)
    whole(
        "seed", 0 if seed is None else seed, at_least=0, at_most=2**63 - 1, hint="leave it out, or give one"
    )
    audited = _audited(site, scenario, platform)
    if out is not None:
        _make(out, audited)
    if self_test:
        epsilon = SELFTEST_EPSILON if epsilon is None else epsilon
        share = SELFTEST_SHARE if share is None else share
    subject = audited.subject(epsilon, share, seed or 0)
    warnings = _warnings(audited, subject)
    say(f"{subject.name}: {len(subject.shoppers):,} shoppers; {NOTES[0]}")
    report: Report | SelfTest
    if self_test:
        rows = run_selftest(
            subject, canaries, CANARIES, seed=seed, confidence=confidence, quick=quick, say=say
        )
        report = SelfTest(subject.name, tuple(rows))
    else:
        most = QUICK_CANARIES if quick else CANARIES
        number = runs if runs is not None else QUICK_RUNS if quick else RUNS
        report = _attack(subject, canaries, most, number, seed, confidence, warnings, say)
    document = report.to_dict() | {
        "seed": seed,
        "quick": quick,
        "shoppers": len(subject.shoppers),
        "seconds": round(time.monotonic() - started, 1),
        "versions": versions(),
    }
    if out is not None:
        kind = "selftest" if self_test else "empirical"
        _write(out / f"{kind}-{subject.name}.json", to_json(document))
        _write(out / f"{kind}-{subject.name}.md", report.markdown())
        say(f"written to {out}")
    if format is Format.json:
        write_json(document)
    else:
        for title, columns, table in report.tables():
            write_table(title, columns, table)
        write_lines([report.verdict])
    for warning in warnings:
        warn(warning)
    raise typer.Exit(report.exit_code)


def _audited(site: Path | None, scenario: Path | None, platform: str | None) -> Audited:
    if site is None:
        return audited_member(load_scenario(scenario) if scenario else _default(), platform)
    if scenario is not None or platform is not None:
        raise BadInputError("--site names one platform: leave --scenario and --platform out.")
    return audited_site(site)


def _default() -> Scenario:
    from simulations.default import grocery_scenario

    return grocery_scenario(cache_folder() / "grocery")


def _attack(
    subject: Subject,
    canaries: int | None,
    most: int,
    runs: int,
    seed: int | None,
    confidence: float,
    warnings: list[str],
    say: Progress,
) -> Report:
    if runs:
        check_runs(runs)
    m, owned = edges_to_own(subject, canaries, most)
    coins, noise = sources(seed, "as it is")
    outcome = audit_training(
        Training(subject, noise),
        Canaries.draw(m, coins),
        owned,
        name="as it is",
        confidence=confidence,
        say=lambda what: say(f"canaries: {what}"),
    )
    if outcome.ceiling <= outcome.claimed:
        warnings.append(
            f"{m} canaries prove at most epsilon = {outcome.ceiling:.2f}, were each of them recognised: they "
            f"cannot refute {outcome.claimed:.2f}; give more canaries or a smaller epsilon"
        )
    found = attack_membership(subject, runs, seed=seed, confidence=confidence, say=say) if runs else []
    meaning = meaning_of_events("claim", tally([subject.plan.event]), subject.plan.delta) if found else None
    allowed = [g for g in meaning.guesses if g.false_positive_rate in FALSE_POSITIVE_RATES] if meaning else []
    return Report(subject.name, subject.plan, outcome, tuple(found), tuple(allowed), tuple(warnings))


def _warnings(audited: Audited, subject: Subject) -> list[str]:
    found = []
    if any(report.tainted for report in audited.data.reports):
        found.append(
            "research_k_core looks at all shoppers together, so no privacy can be promised, whatever is proved here"
        )
    size = audited.site.population_size
    if subject.plan.delta * size >= 1:
        found.append(f"delta = {subject.plan.delta:g} is not below one over {size} shoppers")
    return found


def _make(out: Path, audited: Audited) -> None:
    """Make the folder for the report before minutes of work; never one of the site's own."""
    own = audited.site.work.resolve()
    if own == out.resolve() or own in out.resolve().parents:
        raise BadInputError(f"--out {out}: is in the platform's working folder {own}; choose another.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise BadInputError(f"--out {out}: no report can be written here: {error}.") from None


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(f"{path.suffix}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
