"""What a server asks of every client in a round: public numbers, validated on both sides."""

from hashlib import sha256
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared_model.encoders import EncoderIdentity, identities_from_json
from shared_model.errors import BadInputError
from shared_model.model import ModelSpec

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class TrainInstructions(BaseModel):
    """One round's request. Everything here is public and equal for all platforms.

    `epsilon` = 0 asks for plain training without any privacy, which a client refuses unless its own site
    says otherwise; it exists for research on public data.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    run_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,100}$")]
    round: Count
    """The round, from 1."""
    rounds: Count
    """How many rounds the run has; with `local_steps` it fixes the noise for the whole run."""
    local_steps: Count
    epsilon: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Target ε of the whole run for each platform, or 0 for none."""
    delta: Annotated[float, Field(gt=0, lt=1)]
    clip_norm: Positive
    sample_rate: Fraction
    learning_rate: Positive
    scalar_learning_rate: Positive
    negatives: Count
    targets: Count
    proximal: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    encoders: str
    """The encoder names in order, comma-separated."""
    encoder_identities: str
    """Their identities as JSON; a client whose encoders differ refuses."""
    width: Annotated[int, Field(ge=0)]
    history_length: Annotated[int, Field(ge=2)]
    seed: int
    """Seeds the public draws (negatives), and in reproducible simulations everything."""

    @classmethod
    def from_mapping(cls, values: dict[str, object]) -> Self:
        """Validate received values; raise BadInputError naming the field, the value and what is allowed."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}" for e in error.errors()
            )
            raise BadInputError(f"The training instructions cannot be used: {problems}.") from None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that is asked: two requests with the same one ask for the same."""
        return sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def encoder_names(self) -> tuple[str, ...]:
        """The encoder names in order."""
        return tuple(self.encoders.split(","))

    @property
    def identities(self) -> list[EncoderIdentity]:
        """The identities that every party must share."""
        return identities_from_json(self.encoder_identities)

    @property
    def spec(self) -> ModelSpec:
        """The public shape of the model."""
        return ModelSpec.of(self.identities, self.width, self.history_length)
