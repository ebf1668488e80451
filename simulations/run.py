"""One simulation from scenario to result: prepare, federate, train the comparisons, evaluate, write."""

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import os
import platform as machine
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from clients.app import app as client_app
from clients.data.products import published as published_catalogue
from clients.memory import Memory
from clients.others import others_memory, sent_table
from clients.participate import plan_for
from clients.platform import Platform
from clients.products import Products
from clients.site import SiteSettings
from clients.training import ShopperEvents, exact_table
from server.app import MODEL
from server.app import app as server_app
from server.checkpoint import load_checkpoint
from server.events import EventLog, read_events
from server.refusals import refusals
from server.settings import FederationSettings
from shared_model.errors import RunFailedError
from shared_model.exchange import fingerprint
from shared_model.features import make_encoders
from shared_model.stages import published
from shared_model.table import ProductTable
from shared_model.version import VERSION
from shared_model.vocabulary import Vocabulary
from shared_model.vocabulary_file import vocabulary_bytes
from simulations.budgets import ensure_ledger, lines_after, lines_before, preview_run, spend_of
from simulations.card import write_card
from simulations.folder import (
    RunFolder,
    cache_folder,
    declared_size,
    prepare,
    settings_of,
    site_of,
    write_federation,
)
from simulations.grid import ray_executor, run_inline, run_server
from simulations.methods import Judge, Outcome, read_table
from simulations.scenario import Scenario

Say = Callable[[str], None]
_PINNED = ("flwr", "torch", "opacus", "dp-accounting", "numpy", "pandas")


@dataclass
class Simulation:
    """The parts of one run, made by `load`."""

    run: RunFolder
    scenario: Scenario
    platforms: dict[str, Platform]
    products: dict[str, Products]
    sites: list[SiteSettings]
    """The members' sites, in the order of the scenario."""
    settings: FederationSettings
    say: Say
    timing: dict[str, float] = field(default_factory=dict)

    @property
    def private(self) -> bool:
        """Whether the run asks for differential privacy at all."""
        return self.scenario.epsilon > 0

    @contextlib.contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the seconds of a phase to `timing`."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.timing[phase] = self.timing.get(phase, 0.0) + time.monotonic() - start


def load(run: RunFolder, scenario: Scenario, say: Say) -> Simulation:
    """Read every platform's data, and write sites, ledgers and the federation's settings into the run's folder."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    start = time.monotonic()
    platforms, sizes, sites = {}, {}, []
    for section in scenario.platform:
        site = site_of(run, scenario, section, section.population_size or 1)
        platform = prepare(site, scenario)
        platforms[section.name] = platform
        sizes[section.name] = declared_size(section, len(platform))
        if section.role == "member":
            sites.append(site.model_copy(update={"population_size": sizes[section.name]}))
        say(
            f"  {section.name} ({section.role}): {len(platform):,} shoppers, {len(platform.catalogue):,} items"
        )
        for report in platform.reports:
            for line in report.lines():
                say(f"    {line.strip()}")
    vocabulary = _vocabulary(run, scenario, list(platforms.values()))
    names = tuple(scenario.model.encoders)
    cache = cache_folder() / "features"
    products = {name: Products.of(vocabulary, p.catalogue, names, cache) for name, p in platforms.items()}
    for name, found in products.items():
        say(f"  {name}: {found.known:,} of {len(found.of_item):,} items are in the vocabulary")
    settings = settings_of(run.path.name, scenario, sizes, vocabulary)
    simulation = Simulation(run, scenario, platforms, products, sites, settings, say)
    if simulation.private:
        declared = {p.name: p.epsilon_cap is not None for p in scenario.members}
        for site in sites:
            ensure_ledger(site, cap_is_declared=declared[site.name])
    write_federation(run.path, settings, sites)
    simulation.timing["load"] = time.monotonic() - start
    return simulation


def simulate(simulation: Simulation) -> dict[str, Any]:
    """Run what is still missing of a simulation and return its result, which is also written."""
    run, say = simulation.run, simulation.say
    log = EventLog(run.path)
    ask = simulation.settings.instructions
    if simulation.private:
        for line in lines_before(preview_run(simulation.sites, ask)):
            say(f"  budget: {line}")
    say("federation, private" if simulation.private else "federation, NOT private")
    try:
        with simulation.timed("federation"):
            federate(simulation, run.path, simulation.sites, simulation.settings)
    finally:  # what was spent is spent, also if the run failed
        for line in lines_after(simulation.sites, ask.run_id) if simulation.private else ():
            say(f"  budget: {line}")
    tables = {"federated_private" if simulation.private else "federated": read_table(run.path / MODEL)}
    if simulation.private:
        with simulation.timed("comparisons"):
            tables["federated"] = _without_privacy(simulation)
    say("evaluation, all items ranked for every test shopper")
    with simulation.timed("evaluation"):
        names = list(simulation.platforms)
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # torch works outside the interpreter's lock
            outcomes = dict(zip(names, pool.map(lambda n: _judge(simulation, n, tables), names), strict=True))
    result = _result(simulation, outcomes)
    write_card(run.path, _card(simulation, tables))
    temporary = run.result.with_suffix(".tmp")
    temporary.write_text(json.dumps(result, indent=2), encoding="utf-8")
    temporary.replace(run.result)
    log.write("evaluated", result="result.json")
    return result


def federate(
    simulation: Simulation, folder: Path, sites: list[SiteSettings], settings: FederationSettings
) -> None:
    """Run or finish the federation in `folder` on the scenario's backend."""
    checkpoint = load_checkpoint(folder)
    if checkpoint and checkpoint.round >= settings.instructions.rounds and (folder / MODEL).exists():
        simulation.say("  is complete already")
        return
    run_config = {"run-dir": str(folder)}
    section = simulation.scenario.federation
    if section.backend == "ray":
        with ray_executor(client_app, section.ray_address) as execute:
            run_server(server_app, execute, len(sites), run_config)
    else:
        run_server(server_app, run_inline(client_app), len(sites), run_config)
    if not (folder / MODEL).exists():
        raise RunFailedError(f"{folder}: the federation ended without a model.")


def _vocabulary(run: RunFolder, scenario: Scenario, platforms: list[Platform]) -> Vocabulary:
    """Make the vocabulary of all platforms' public catalogues, and write it into the run's folder."""
    encoders = make_encoders(scenario.model.encoders)
    catalogues = [published_catalogue(platform.catalogue) for platform in platforms]
    vocabulary = Vocabulary.empty().grown(catalogues, encoders, scenario.model.neighbours)
    run.vocabulary.write_bytes(vocabulary_bytes(vocabulary))
    return vocabulary


def _without_privacy(simulation: Simulation) -> ProductTable:
    """Run the same federation without privacy, or read what an earlier attempt left of it."""
    simulation.say("comparison: the same federation without privacy")
    folder = simulation.run.baselines / "federated"
    ask = simulation.settings.instructions.model_copy(update={"epsilon": 0.0})
    settings = simulation.settings.model_copy(update={"instructions": ask})
    sites = [s.model_copy(update={"allow_plain_training": True}) for s in simulation.sites]
    write_federation(folder, settings, sites)
    federate(simulation, folder, sites, settings)
    return read_table(folder / MODEL)


def _others(simulation: Simulation, name: str, method: str, table: ProductTable) -> Memory:
    """Return what the other members know of a platform's items, by one of the tables."""
    products = simulation.products[name]
    site = next((site for site in simulation.sites if site.name == name), None)
    if site is not None:
        run = {simulation.settings.instructions.run_id}
        if method == "federated_private":
            table = table.minus(sent_table(site, products.vocabulary, run))
        else:
            events = ShopperEvents.of(simulation.platforms[name].split, products.of_item)
            table = table.minus(exact_table(events, products, table))
    return others_memory(table, products)


def _judge(simulation: Simulation, name: str, tables: dict[str, ProductTable]) -> dict[str, Outcome]:
    """Return method → outcome on one platform."""
    member = any(p.name == name for p in simulation.scenario.members)
    total = sum(simulation.settings.sizes.values())
    judge = Judge.of(simulation.platforms[name], total, seed=simulation.scenario.scenario.seed)
    others = {method: _others(simulation, name, method, table) for method, table in tables.items()}
    outcomes = judge.baselines()
    if member:
        return outcomes | {method: judge.joined(memory) for method, memory in others.items()}
    # The newcomer's first day, and its second: it still sends nothing, but has shoppers of its own.
    adopted = others.get("federated_private", others["federated"])
    outcomes |= {method: judge.first_day(memory) for method, memory in others.items()}
    return outcomes | {"adopted": judge.joined(adopted)}


def taints(simulation: Simulation) -> list[str]:
    """Return every reason why the run's model must not be called private."""
    scenario = simulation.scenario
    found = []
    if not simulation.private:
        found.append("it was trained without differential privacy")
    elif scenario.privacy.noise == "reproducible":
        found.append(
            "its noise can be computed again from the seed (a simulation's default): the accounting is exact, but "
            'whoever knows the seed can remove the noise; use noise = "secure" for a model that is released'
        )
    undeclared = [p.name for p in scenario.members if p.population_size is None]
    if undeclared:
        found.append(
            f"the population size of {', '.join(undeclared)} was rounded from the data, not declared in public"
        )
    if any(report.tainted for p in simulation.platforms.values() for report in p.reports):
        found.append("a filter over all shoppers (k-core) ran on the data")
    return found


def _spent(simulation: Simulation) -> dict[str, dict[str, Any] | None]:
    """Return member → what this run and its ledger hold, None without privacy."""
    if not simulation.private:
        return {site.name: None for site in simulation.sites}
    ask = simulation.settings.instructions
    spent: dict[str, dict[str, Any] | None] = {}
    for site in simulation.sites:
        plan, spend = plan_for(site, ask), spend_of(site, ask.run_id)
        budget = spend.budget
        spent[site.name] = {
            "epsilon_before": spend.before,
            "epsilon": budget.committed,
            "epsilon_reserved": budget.reserved,
            "epsilon_left": budget.left,
            "delta": budget.delta,
            "noise_multiplier": plan.noise_multiplier,
            "share": ask.share,
            "population_size": site.population_size,
            "epsilon_cap": budget.cap,
            "noise": simulation.scenario.privacy.noise,
        }
    return spent


def _result(simulation: Simulation, outcomes: dict[str, dict[str, Outcome]]) -> dict[str, Any]:
    spent = _spent(simulation)
    platforms = {}
    for section in simulation.scenario.platform:
        name = section.name
        platform = simulation.platforms[name]
        platforms[name] = {
            "role": section.role,
            "shoppers": len(platform),
            "test_shoppers": len(platform.test_users),
            "items": len(platform.catalogue),
            "methods": {method: outcome.to_json() for method, outcome in outcomes[name].items()},
            "privacy": spent.get(name),
        }
    fingerprints = [
        f"{p.name}:{p.fingerprint}:{p.catalogue.fingerprint}" for p in simulation.platforms.values()
    ]
    return {
        "name": simulation.scenario.scenario.name,
        "run": simulation.run.path.name,
        "seed": simulation.scenario.scenario.seed,
        "private": simulation.private and not taints(simulation),
        "taints": taints(simulation),
        "model": _model(simulation),
        "platforms": platforms,
        "refused": refusals(read_events(simulation.run.path)),
        "timing": {phase: round(seconds, 3) for phase, seconds in simulation.timing.items()},
        "versions": versions(),
        "data_fingerprint": hashlib.sha256("\n".join(fingerprints).encode()).hexdigest(),
        "scenario": simulation.scenario.model_dump(mode="json"),
    }


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    found = {"fedcart": VERSION, "python": machine.python_version()}
    return found | {name: importlib.metadata.version(name) for name in _PINNED}


def _card(simulation: Simulation, tables: dict[str, ProductTable]) -> dict[str, Any]:
    table = tables["federated_private" if simulation.private else "federated"]
    settings, ask = simulation.settings, simulation.settings.instructions
    reasons, identities = (
        taints(simulation),
        [e.identity for e in make_encoders(simulation.scenario.model.encoders)],
    )
    claim = (
        "Made by a federation in which no platform sent an event."
        if not simulation.private
        else f"Each member's sums were accounted at ε ≤ {ask.epsilon:g}, δ = {ask.delta:g} per shopper."
    )
    return {
        "name": simulation.scenario.scenario.name,
        "run": simulation.run.path.name,
        "claim": claim,
        "private": simulation.private and not reasons,
        "taints": reasons,
        **_model(simulation),
        "sizes": settings.sizes,
        "noise_of_sums": {
            "popularity": table.popularity_variance**0.5,
            "edges": table.edges_variance**0.5,
        },
        "vocabulary": ask.vocabulary,
        "exchange_fingerprint": ask.shape.exchange.fingerprint,
        "model_fingerprint": fingerprint(published(table)),
        "encoders": [str(identity) for identity in identities],
        "encoder_identities": [asdict(identity) for identity in identities],
        "share": ask.share,
        "members": _spent(simulation),
        "versions": versions(),
        "torch_threads": torch.get_num_threads(),
    }


def _model(simulation: Simulation) -> dict[str, int]:
    """Return how large the shared model is."""
    ask = simulation.settings.instructions
    return {"products": ask.products, "edges": ask.edges, "shared_numbers": ask.products + ask.edges}
