"""`fedcart audit empirical`: a platform attacks its own training."""

import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer

from clients.audit import Report, SelfTest, attack_membership, audit_training, run_selftest
from clients.audit.membership import FALSE_POSITIVE_RATES, check_shadows
from clients.audit.report import NOTES
from clients.audit.subject import Progress, Subject
from clients.platform import Platform
from privacy.accounting import tally
from privacy.audit.bounds import check_confidence
from privacy.checks import whole
from privacy.cli.output import Format, say, to_json, warn, write_json, write_lines, write_table
from privacy.explain import meaning_of_events
from shared_model.errors import BadInputError
from simulations.audited import Audited, Claim, audited_member, audited_site
from simulations.folder import cache_folder
from simulations.run import versions
from simulations.scenario import Scenario, load_scenario

CANARIES, QUICK_CANARIES = 5000, 2000
SHADOWS, QUICK_SHADOWS = 32, 8
SELFTEST_EPSILON = 4.0
"""Claim of the self-test: twice as much is honest too, and its canaries can prove more than that."""


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
    steps: Annotated[int | None, typer.Option(help="Steps of the whole run.")] = None,
    sample_rate: Annotated[float | None, typer.Option(help="q: chance of a shopper to be in a step.")] = None,
    clip_norm: Annotated[float | None, typer.Option(help="C: L2 bound of one shopper's gradient.")] = None,
    canaries: Annotated[
        int | None, typer.Option(help="Canary shoppers; 5,000, or as many as the model has parameters.")
    ] = None,
    shadows: Annotated[
        int | None, typer.Option(help="Models that membership inference trains twice; 0 leaves it out.")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of every bound and interval.")] = 0.95,
    seed: Annotated[
        int | None, typer.Option(help="Repeat an audit; without it, coins and noise are secret.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer canaries, models and rows.")] = False,
    self_test: Annotated[
        bool,
        typer.Option("--self-test", help="Plant defects in the training and see whether they are caught."),
    ] = False,
    format: Annotated[Format, typer.Option(help="What is printed on standard output.")] = Format.table,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write the report here, JSON and Markdown.")
    ] = None,
) -> None:
    """Attack the platform's own training: canary shoppers, membership of real ones, planted defects.

    Trains throw-away models: no ledger is opened, nothing is charged, nothing leaves. The report is computed from
    the shoppers' data without noise and is for the platform alone.

    Exit code 0: no contradiction; 3: the attack proves more than is claimed; 1: the self-test missed a defect.
    """
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
    started = time.monotonic()
    check_confidence(confidence)
    whole(
        "seed", 0 if seed is None else seed, at_least=0, at_most=2**63 - 1, hint="leave it out, or give one"
    )
    audited = _audited(site, scenario, platform)
    if out is not None:
        _make(out, audited)
    claim = Claim(
        SELFTEST_EPSILON if self_test and epsilon is None else epsilon, steps, sample_rate, clip_norm
    )
    data = audited.platform()
    subject = audited.subject(data, claim, seed or 0)
    m = canaries
    if m is None:
        m = min(QUICK_CANARIES if quick else CANARIES, subject.parameters)
    warnings = _warnings(audited, subject, data)
    say(f"{subject.name}: {len(subject.data):,} shoppers, {m:,} canaries; {NOTES[0]}")
    report: Report | SelfTest
    if self_test:
        rows = run_selftest(subject, m, seed=seed, confidence=confidence, quick=quick, say=say)
        report = SelfTest(subject.name, tuple(rows))
    else:
        models = shadows if shadows is not None else QUICK_SHADOWS if quick else SHADOWS
        report = _attack(subject, m, models, seed, confidence, warnings, say)
    document = report.to_dict() | {
        "seed": seed,
        "quick": quick,
        "recipe": asdict(subject.recipe),
        "shoppers": len(subject.data),
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
    m: int,
    models: int,
    seed: int | None,
    confidence: float,
    warnings: list[str],
    say: Progress,
) -> Report:
    if models:
        check_shadows(models)
    every_step, model_only = audit_training(subject, m, seed=seed, confidence=confidence, say=say)
    if every_step.ceiling <= every_step.claimed:
        warnings.append(
            f"{m} canaries prove at most epsilon = {every_step.ceiling:.2f}, were each of them recognised: they "
            f"cannot refute {every_step.claimed:.2f}; give more canaries or a smaller epsilon"
        )
    found = attack_membership(subject, models, seed=seed, confidence=confidence, say=say) if models else []
    event, meaning = subject.plan.event, None
    if found:
        meaning = meaning_of_events("claim", tally([event]), subject.plan.delta)
    allowed = [g for g in meaning.guesses if g.false_positive_rate in FALSE_POSITIVE_RATES] if meaning else []
    return Report(
        subject.name, subject.plan, every_step, model_only, tuple(found), tuple(allowed), tuple(warnings)
    )


def _warnings(audited: Audited, subject: Subject, platform: Platform) -> list[str]:
    found = []
    if any(report.tainted for report in platform.reports):
        found.append(
            "research_k_core looks at all shoppers together, so no privacy can be promised, whatever is proved here"
        )
    if subject.plan.weak_delta:
        found.append(
            f"delta = {subject.plan.delta:g} is not below one over {subject.plan.population_size} shoppers"
        )
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
