"""What is compared on what: the study and the recipe, from TOML, validated."""

import tomllib
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from clients.site import TaskSettings, explain
from clients.training import LocalRecipe
from shared_model.errors import BadInputError
from simulations.scenario import FederationSection, ModelSection, PrivacySection

HERE = Path(__file__).parent
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PlatformEntry(_Section):
    """`[[platform]]`: one platform of the study."""

    name: Name
    folder: str
    """Folder under the data folder that holds `interactions.parquet` and `items.parquet`."""
    population_size: Count
    """The declared, public, rounded number of shoppers."""
    columns: dict[str, str] = {"order": "pos"}


class Published(_Section):
    """`[[published]]`: what a paper reports on the same split, full ranking, nothing filtered unless it says so."""

    platform: str
    method: str
    recall: float
    ndcg: float
    source: str


class Target(_Section):
    """`[[target]]`: what a method must reach; Recall@10 and NDCG@10 with seen items filtered."""

    platform: str
    method: str
    shots: int | None = None
    recall: float
    ndcg: float


class RecToolsTuning(_Section):
    """`[sasrec]`, `[unisrec]`: the settings that are tried; validation NDCG@10 chooses one, and the epoch."""

    epochs: Annotated[list[Count], Field(min_length=1)]
    """Where the model is looked at; the last one ends training, if not an earlier one (`rectools.PATIENCE`)."""
    grid: Annotated[list[dict[str, Any]], Field(min_length=1)]
    """Options of RecTools' model."""
    tuned_up_to: Count = 10_000
    """A platform with more shoppers trains the first setting of the grid only."""


class Study(_Section):
    """Platforms, audiences, seeds, privacy levels and baselines."""

    name: Name
    newcomer: str
    """The platform that never trains."""
    shots: list[Count]
    """Few-shot: how many of the newcomer's shoppers may train and choose its local layer."""
    seeds: Annotated[list[int], Field(min_length=1)]
    epsilons: Annotated[list[Positive], Field(min_length=1)]
    scoring: Literal["float32", "bfloat16"] = "float32"
    """The precision in which items are scored, for every method alike."""
    judged_members: Count | None = None
    """At most so many test shoppers of a member are ranked, the same for every method and seed; all if left out."""
    platform: Annotated[list[PlatformEntry], Field(min_length=2)]
    sasrec: RecToolsTuning
    unisrec: RecToolsTuning
    published: list[Published] = []
    target: list[Target] = []

    @model_validator(mode="after")
    def _check(self) -> Self:
        twice = [name for name, count in Counter(p.name for p in self.platform).items() if count > 1]
        if twice:
            raise ValueError(f"[[platform]] name {twice[0]!r} is used twice")
        if self.newcomer not in self.names:
            raise ValueError(f"newcomer {self.newcomer!r} is none of the platforms {', '.join(self.names)}")
        return self

    @property
    def names(self) -> list[str]:
        """The platforms' names in order."""
        return [p.name for p in self.platform]

    @property
    def members(self) -> list[PlatformEntry]:
        """The platforms that train together."""
        return [p for p in self.platform if p.name != self.newcomer]

    def with_newcomer(self, name: str) -> "Study":
        """Return the study in which another platform never trains; the old newcomer leaves."""
        if name == self.newcomer:
            return self
        staying = [p.model_dump() for p in self.platform if p.name != self.newcomer]
        changes = {"name": f"{self.name}-{name}", "newcomer": name, "platform": staying, "target": []}
        return parse(Study, self.model_dump() | changes, "--newcomer")


class LocalGrid(_Section):
    """`[local]`: how a platform trains on its own data, alone or from the shared model on."""

    grid: Annotated[list[dict[str, float | int]], Field(min_length=1)]
    """Changes to the recipe's steps, sample_rate, learning_rate, …; validation NDCG@10 chooses one, or no training."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        known = {field.name for field in fields(LocalRecipe)}
        unknown = sorted({key for entry in self.grid for key in entry} - known)
        if unknown:
            raise ValueError(f"[local] grid: {unknown[0]!r} is none of {', '.join(sorted(known))}")
        return self


class Recipe(_Section):
    """What is trained, and how: the sections of a scenario file that every member shares."""

    name: str
    privacy: PrivacySection = PrivacySection()
    """Its ε is set by the study."""
    federation: FederationSection = FederationSection()
    model: ModelSection = ModelSection()
    task: TaskSettings = TaskSettings()
    local: LocalGrid


Document = TypeVar("Document", Study, Recipe)


def parse(model: type[Document], document: dict[str, Any], where: str) -> Document:
    """Validate a document; raise BadInputError with place, value and fix."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise BadInputError(f"{where}: {explain(error, model)}") from None


def load(model: type[Document], path: Path) -> Document:
    """Read a study or a recipe from TOML."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInputError(f"{path}: cannot be read as TOML: {error}.") from None
    return parse(model, document, str(path))
