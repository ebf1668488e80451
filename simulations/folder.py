"""A run's folder: the resolved scenario, each platform's site and ledger, the federation's settings.

runs/<time>-<name>/
  scenario.json         the scenario, resolved
  federation.json       what the server asks for
  sites/00-<name>.toml  one per member: what its client reads
  ledgers/<name>.sqlite (and its key) one per member, unless the scenario names a lasting one
  work/<name>/          outboxes
  checkpoint.safetensors, events.jsonl, model.safetensors, model_card.md, model_card.json
  witness.jsonl         the signed heads of the members' ledgers, as the server saw them
  baselines/            the same federation without privacy, local and pooled training, for comparison
  result.json           written last
"""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from clients.platform import HashableSite, Platform, prepare_platform
from clients.site import SiteSettings, save_site
from server.settings import FederationSettings
from shared_model.encoders import identities_to_json
from shared_model.errors import BadInputError
from shared_model.features import make_encoders
from shared_model.instructions import TrainInstructions
from simulations.scenario import PlatformSection, Scenario, parse_scenario


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run."""

    path: Path

    @property
    def result(self) -> Path:
        """The final result; there only when the run is complete."""
        return self.path / "result.json"

    @property
    def baselines(self) -> Path:
        """Where the comparisons are."""
        return self.path / "baselines"


def cache_folder() -> Path:
    """Return the folder for item features and the default scenario's data (`XDG_CACHE_HOME`/fedcart)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fedcart"


def new_run(out: Path, scenario: Scenario) -> RunFolder:
    """Make `<out>/<time>-<name>/` and write the scenario into it."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    for attempt in range(100):
        suffix = f"-{attempt}" if attempt else ""
        path = (out / f"{stamp}-{scenario.scenario.name}{suffix}").resolve()
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise BadInputError(
                f"{out}: a run's folder cannot be made here: {error}. Choose another --out."
            ) from None
        (path / "scenario.json").write_text(scenario.model_dump_json(indent=2), encoding="utf-8")
        return RunFolder(path)
    raise BadInputError(f"{out}: a hundred runs started in one second; wait a moment.")


def open_run(path: Path) -> tuple[RunFolder, Scenario]:
    """Return an existing run and its scenario; raise BadInputError if it is none."""
    file = path / "scenario.json"
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInputError(
            f"{path}: is not the folder of a run: {file.name} cannot be read ({error})."
        ) from None
    return RunFolder(path.resolve()), parse_scenario(document, str(file))


def site_of(
    run: RunFolder, scenario: Scenario, platform: PlatformSection, population_size: int
) -> SiteSettings:
    """Return the settings that a platform's client gets in this run."""
    return SiteSettings(
        name=platform.name,
        events=platform.events,
        items=platform.items,
        columns=platform.columns,
        images=platform.images,
        task=scenario.task,
        compute=scenario.compute,
        population_size=population_size,
        epsilon_cap=platform.epsilon_cap or scenario.epsilon or 1.0,
        delta=scenario.privacy.delta,
        ledger=platform.ledger or str(run.path / "ledgers" / f"{platform.name}.sqlite"),
        ledger_key=platform.ledger_key,
        work=run.path / "work" / platform.name,
        cache=cache_folder() / "features",
        allow_plain_training=scenario.epsilon == 0,
        reproducible_noise=scenario.privacy.noise == "reproducible",
        seed=scenario.scenario.seed,
    )


def prepare(site: SiteSettings, scenario: Scenario) -> Platform:
    """Load one platform as its client would."""
    model = scenario.model
    encoders = tuple(model.encoders)
    return prepare_platform(
        HashableSite(site), encoders, model.width, model.history_length
    ).require_shoppers()


def declared_size(platform: PlatformSection, shoppers: int) -> int:
    """Return the declared population size, or the true one rounded to one digit (simulations only)."""
    if platform.population_size is not None:
        return platform.population_size
    magnitude = 10 ** (len(str(shoppers)) - 1)
    return max(1, round(shoppers / magnitude) * magnitude)


def settings_of(run_id: str, scenario: Scenario, sizes: dict[str, int]) -> FederationSettings:
    """Return what the server asks for, with the members' declared sizes as weights."""
    federation, model, privacy = scenario.federation, scenario.model, scenario.privacy
    identities = [encoder.identity for encoder in make_encoders(model.encoders)]
    return FederationSettings(
        strategy=federation.strategy,
        strategy_options=federation.strategy_options,
        weights={platform.name: float(sizes[platform.name]) for platform in scenario.members},
        min_replies=federation.min_replies,
        round_timeout=federation.round_timeout,
        instructions=TrainInstructions.from_mapping(
            {
                "run_id": run_id,
                "round": 1,
                "rounds": federation.rounds,
                "local_steps": federation.local_steps,
                "epsilon": scenario.epsilon,
                "delta": privacy.delta,
                "clip_norm": privacy.clip_norm,
                "sample_rate": privacy.sample_rate,
                "learning_rate": model.learning_rate,
                "scalar_learning_rate": model.scalar_learning_rate,
                "negatives": model.negatives,
                "targets": model.targets,
                "encoders": ",".join(model.encoders),
                "encoder_identities": identities_to_json(identities),
                "width": model.width,
                "history_length": model.history_length,
                "seed": scenario.scenario.seed,
            }
        ),
    )


def write_federation(folder: Path, settings: FederationSettings, sites: list[SiteSettings]) -> None:
    """Write what the server app and the client apps read."""
    folder.mkdir(parents=True, exist_ok=True)
    settings.save(folder)
    for number, site in enumerate(sites):
        save_site(folder / "sites" / f"{number:02}-{site.name}.toml", site)
