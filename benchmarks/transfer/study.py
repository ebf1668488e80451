"""What is compared on what: the study, from TOML, validated."""

import tomllib
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from clients.site import TaskSettings, explain
from shared_model.errors import BadInputError

HERE = Path(__file__).parent
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Features(_Section):
    """`[features]`: what every method knows of items and histories."""

    encoders: Annotated[list[str], Field(min_length=1)]
    history_length: Count = 20
    """L, the last events of a shopper that the prior looks at."""


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


class RecToolsTuning(_Section):
    """`[sasrec]`, `[unisrec]`: the settings that are tried; validation NDCG@10 chooses one, and the epoch."""

    epochs: Annotated[list[Count], Field(min_length=1)]
    """Where the model is looked at; the last one ends training, if not an earlier one (`rectools.PATIENCE`)."""
    grid: Annotated[list[dict[str, Any]], Field(min_length=1)]
    """Options of RecTools' model."""
    tuned_up_to: Count = 10_000
    """A platform with more shoppers trains the first setting of the grid only."""


class Study(_Section):
    """Platforms, audiences, seeds and baselines."""

    name: Name
    newcomer: str
    """The platform that is looked at with few shoppers, too."""
    shots: list[Count]
    """Few-shot: how many of the newcomer's shoppers may be learned from."""
    seeds: Annotated[list[int], Field(min_length=1)]
    features: Features
    task: TaskSettings = TaskSettings()
    scoring: Literal["float32", "bfloat16"] = "float32"
    """The precision in which items are scored, for every method alike."""
    judged_members: Count | None = None
    """At most so many test shoppers of a member are ranked, the same for every method and seed; all if left out."""
    platform: Annotated[list[PlatformEntry], Field(min_length=2)]
    sasrec: RecToolsTuning
    unisrec: RecToolsTuning
    published: list[Published] = []

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
        """The platforms but the newcomer."""
        return [p for p in self.platform if p.name != self.newcomer]

    def with_newcomer(self, name: str) -> "Study":
        """Return the study with another newcomer; the old one leaves."""
        if name == self.newcomer:
            return self
        staying = [p.model_dump() for p in self.platform if p.name != self.newcomer]
        changes = {"name": f"{self.name}-{name}", "newcomer": name, "platform": staying}
        return parse(self.model_dump() | changes, "--newcomer")


def parse(document: dict[str, Any], where: str) -> Study:
    """Validate a document; raise BadInputError with place, value and fix."""
    try:
        return Study.model_validate(document)
    except ValidationError as error:
        raise BadInputError(f"{where}: {explain(error, Study)}") from None


def load(path: Path) -> Study:
    """Read a study from TOML."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInputError(f"{path}: cannot be read as TOML: {error}.") from None
    return parse(document, str(path))
