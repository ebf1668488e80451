"""What a server asks of every client in a round: public numbers, each within a range, validated on both sides.

Within these ranges no number of private training leaves float32 (3.4e38), on a platform of up to n = 2³¹ shoppers, so
whether a result is finite says nothing (`tests/clients/test_ranges.py` trains at the corners):

    the noised mean gradient    (n·C + 17.2·σ·C) / (q·N)   ≤ 2.2e17, for C ≤ 100, σ ≤ 1e6, q ≥ 1e-6, N ≥ 1; a normal here
                                                           is below 17.2 (`privacy.noise`), a row that is not finite is 0
    the pull of FedProx         µ·|w − w₀| ≤ µ·reach       ≤ 7.3e8, for µ ≤ 1000 and a reach (`shared_model.reach`) of at
                                                           most 7.3·η·T, η ≤ 10, T ≤ 10,000
    what Adam keeps             (g + pull)²                ≤ 5e34
    what Adam divides by        √v + 1e-8                  ≥ 1e-8; where v underflows to 0, |m| < 1e-17: a small step
    the tensors                 |w₀| + reach               ≤ 1.8e6, for |w₀| ≤ `START_LIMIT`
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared_model.encoders import EncoderIdentity, identities_from_json
from shared_model.errors import BadInputError
from shared_model.model import ModelSpec

Rate = Annotated[float, Field(ge=1e-9, le=10, allow_inf_nan=False)]
Steps = Annotated[int, Field(ge=1, le=10_000)]
START_LIMIT = 1e6
"""The largest number in the tensors that a round begins with."""


class TrainInstructions(BaseModel):
    """One round's request. Everything here is public and equal for all platforms.

    `epsilon` = 0 asks for plain training without any privacy, which a client refuses unless its own site
    says otherwise; it exists for research on public data.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    run_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,100}$")]
    round: Steps
    """The round, from 1 to `rounds`."""
    rounds: Steps
    """How many rounds the run has; with `local_steps` it fixes the noise for the whole run."""
    local_steps: Steps
    epsilon: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
    """Target ε of the whole run for each platform, or 0 for none."""
    delta: Annotated[float, Field(ge=1e-10, le=0.1)]
    clip_norm: Annotated[float, Field(ge=1e-6, le=100, allow_inf_nan=False)]
    sample_rate: Annotated[float, Field(ge=1e-6, le=1, allow_inf_nan=False)]
    learning_rate: Rate
    scalar_learning_rate: Rate
    negatives: Annotated[int, Field(ge=1, le=100_000)]
    targets: Annotated[int, Field(ge=1, le=1000)]
    proximal: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 0.0
    encoders: Annotated[str, Field(max_length=500)]
    """The encoder names in order, comma-separated."""
    encoder_identities: Annotated[str, Field(max_length=5000)]
    """Their identities as JSON; a client whose encoders differ refuses."""
    width: Annotated[int, Field(ge=0, le=4096)]
    history_length: Annotated[int, Field(ge=2, le=1000)]
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)]
    """Seeds the public draws (negatives), and in reproducible simulations everything."""

    @model_validator(mode="after")
    def _within_the_run(self) -> Self:
        if self.round > self.rounds:
            raise ValueError(f"is after the last round, {self.rounds}")
        return self

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Self:
        """Validate received values; raise BadInputError naming the field, the value and what is allowed."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, e['loc'])) or 'round'} = "
                f"{(e['input'] if e['loc'] else values['round'])!r}: {e['msg']}"
                for e in error.errors()
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
