"""What the operator decides about one run; written to the run's folder as `federation.json`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared_model.errors import BadInputError
from shared_model.instructions import TrainInstructions


class FederationSettings(BaseModel):
    """One run. `instructions` is the first round's request; later ones differ in the round's number only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strategy: str
    strategy_options: dict[str, float | int] = {}
    weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]]
    """Declared, public weight of each platform in the average; a reply from anyone else is refused."""
    min_replies: Annotated[int, Field(ge=1)] = 1
    """A round with fewer good replies is not averaged: it is repeated, or ends the run."""
    attempts: Annotated[int, Field(ge=1)] = 1
    """How often a round is tried that gets too few good replies."""
    member_wait: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Seconds that a round waits for members who are not online."""
    members: Path | None = None
    """The federation's registry of members, from the run's folder: it keeps the heads of their ledgers across runs. None
    in a simulation, whose platforms are enrolled nowhere."""
    log: Literal["lines", "json"] = "lines"
    """What the server app writes to standard error: lines for a person, or JSON for a deployed server's log."""
    round_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 600.0
    """Seconds to wait for a round's replies."""
    instructions: TrainInstructions

    @property
    def silence_limit(self) -> float:
        """Seconds after which a run that reports nothing hangs: what one attempt may take, and some more."""
        return self.member_wait + self.round_timeout + 120

    def save(self, folder: Path) -> None:
        """Write `federation.json`."""
        (folder / "federation.json").write_text(self.model_dump_json(indent=2), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `federation.json`; raise BadInputError that names the file and the problem."""
        path = folder / "federation.json"
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadInputError(
                f"{path}: cannot be read ({error.strerror}). Prepare a run first: fedcart server run, or "
                "fedcart simulate --prepare."
            ) from None
        except (UnicodeDecodeError, ValidationError) as error:
            raise BadInputError(f"{path}: is not a run's settings: {error}.") from None
