"""Scenario files: TOML, validated, with an answer for every mistake."""

import math
import tomllib
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from clients.site import ComputeSettings, Images, TaskSettings, explain
from shared_model.errors import BadInputError
from shared_model.features import encoder_choices, is_encoder
from shared_model.vocabulary import NEIGHBOURS

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ScenarioSection(_Section):
    """`[scenario]`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")] = "scenario"
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Same seed, same machine, same numbers (with reproducible noise, inline)."""


class PrivacySection(_Section):
    """`[privacy]`: the same plan for every member."""

    epsilon: float | Literal["none"] = 8.0
    """ε of the whole run for each member, or "none" for a run without privacy."""
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-6
    share: Annotated[float, Field(ge=0.01, le=1)] | None = None
    """The part of the budget that popularity gets, the rest goes to edges; a public rule of declared sizes where left
    out (`shared_model.table.release_share`)."""
    noise: Literal["reproducible", "secure"] = "reproducible"
    """Where noise comes from. "reproducible" repeats a simulation exactly, so it is not private and the model
    card says so; "secure" is what a deployed client uses."""

    @field_validator("epsilon", mode="before")
    @classmethod
    def _epsilon(cls, value: object) -> object:
        if value == "none":
            return value
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ValueError('must be a finite number above 0, or "none" for a run without privacy')
        return value


class FederationSection(_Section):
    """`[federation]`."""

    backend: Literal["inline", "ray"] = "inline"
    ray_address: str | None = None
    """Address of a running Ray cluster; without one, Ray starts on this machine."""
    min_replies: Count = 1
    round_timeout: Positive = 600.0


class ModelSection(_Section):
    """`[model]`."""

    encoders: Annotated[list[str], Field(min_length=1)] = ["hashed-words"]
    history_length: Annotated[int, Field(ge=2)] = 20
    """L: the last events of a shopper that count."""
    neighbours: Annotated[int, Field(ge=0)] = NEIGHBOURS
    """K: products that each product has a weight on, at least; its nearest by public text. 0 for popularity alone."""


class PlatformSection(_Section):
    """`[[platform]]`: one platform. Relative paths are relative to the scenario file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
    role: Literal["member", "newcomer"] = "member"
    """A member trains; a newcomer only receives the model."""
    events: Path
    items: Path
    columns: dict[str, str] = {}
    """Which columns of the files are what, for example `{ user = "customer", item = "sku" }`."""
    images: Images = {}
    """Files of image vectors by image model, for example `{ clip-vit-b-32 = "clip.npz" }`."""
    epsilon_cap: Positive | None = None
    """The most the platform's ledger may ever hold; the scenario's ε where left out."""
    population_size: Count | None = None
    """The declared, public number of shoppers. Where left out, the simulation rounds the true number to one
    digit and says so: a real platform must declare it."""
    ledger: str | None = None
    """Path or URL of a ledger that outlives the run; each run has its own where left out."""
    ledger_key: Path | None = None
    """The signing key's file of a ledger in a database; beside a SQLite file where left out."""


class Scenario(_Section):
    """A whole scenario."""

    scenario: ScenarioSection = ScenarioSection()
    privacy: PrivacySection = PrivacySection()
    federation: FederationSection = FederationSection()
    model: ModelSection = ModelSection()
    task: TaskSettings = TaskSettings()
    compute: ComputeSettings = ComputeSettings()
    platform: Annotated[list[PlatformSection], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        twice = [name for name, count in Counter(p.name for p in self.platform).items() if count > 1]
        if twice:
            raise ValueError(f"[[platform]] name {twice[0]!r} is used twice; give each platform its own name")
        if not self.members:
            raise ValueError('no [[platform]] has role = "member"; at least one must train')
        unknown = [name for name in self.model.encoders if not is_encoder(name)]
        if unknown:
            raise ValueError(f"[model] encoders: {unknown[0]!r} is unknown; choose from {encoder_choices()}")
        if self.federation.min_replies > len(self.members):
            raise ValueError(
                f"[federation] min_replies = {self.federation.min_replies}, but there are {len(self.members)} members"
            )
        return self

    @property
    def members(self) -> list[PlatformSection]:
        """The platforms that train."""
        return [p for p in self.platform if p.role == "member"]

    @property
    def epsilon(self) -> float:
        """Target ε, or 0 for none."""
        return 0.0 if self.privacy.epsilon == "none" else self.privacy.epsilon

    def with_options(
        self,
        *,
        epsilon: str | None = None,
        seed: int | None = None,
        backend: str | None = None,
        noise: str | None = None,
    ) -> "Scenario":
        """Return the scenario with command-line options in place, validated again."""
        document = self.model_dump(mode="json")
        changes: list[tuple[str, str, Any]] = [
            ("privacy", "epsilon", None if epsilon is None else _number_or_text(epsilon)),
            ("scenario", "seed", seed),
            ("federation", "backend", backend),
            ("privacy", "noise", noise),
        ]
        for section, key, value in changes:
            if value is not None:
                document[section][key] = value
        return parse_scenario(document, "the command line")


def _number_or_text(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value


def parse_scenario(document: dict[str, Any], where: str) -> Scenario:
    """Validate a scenario; raise BadInputError with place, value and fix."""
    try:
        return Scenario.model_validate(document)
    except ValidationError as error:
        raise BadInputError(f"{where}: {explain(error, Scenario)}") from None


def load_scenario(path: Path) -> Scenario:
    """Read a scenario file; its relative paths are taken from the file's folder."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInputError(f"{path}: there is no such scenario file.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInputError(f"{path}: cannot be read as TOML: {error}.") from None
    platforms = document.get("platform")
    for platform in platforms if isinstance(platforms, list) else []:
        for key in ("events", "items", "ledger_key"):
            if isinstance(platform, dict) and isinstance(platform.get(key), str):
                platform[key] = str((path.parent / platform[key]).resolve())
        images = platform.get("images") if isinstance(platform, dict) else None
        if isinstance(images, dict):
            files = {model: file for model, file in images.items() if isinstance(file, str)}
            images |= {model: str((path.parent / file).resolve()) for model, file in files.items()}
        ledger = platform.get("ledger") if isinstance(platform, dict) else None
        if isinstance(ledger, str) and "://" not in ledger:
            platform["ledger"] = str((path.parent / ledger).resolve())
    return parse_scenario(document, str(path))
