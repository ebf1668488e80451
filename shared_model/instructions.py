"""What a server asks of every client in a round: public numbers, each within a range, validated on both sides.

Within these ranges no number of a private release leaves float32 (3.4e38), on a platform of up to n = 2³¹ shoppers, so
whether a result is finite says nothing (`tests/clients/test_ranges.py` releases at the corners):

    a row             norm ≤ 1 for every temper from 1 to `MOST_TEMPER`: its weights lie within 1e-6 and 20 before scaling
    the noised sum    n + 17.2·σ/√s ≤ 2e9, for σ ≤ 1e6 and s ≥ 0.01; a normal here is below 17.2 (`privacy.noise`)
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared_model.errors import BadInputError
from shared_model.stages import Stage, TableShape

MOST_PRODUCTS, MOST_EDGES = 10_000_000, 200_000_000
MOST_TEMPER = 1e12
"""The largest popularity that rows of edges are weighed with."""


class TrainInstructions(BaseModel):
    """One round's request. Everything here is public and equal for all platforms.

    `epsilon` = 0 asks for plain training without any privacy, which a client refuses unless its own site
    says otherwise; it exists for research on public data.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    run_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,100}$")]
    round: Annotated[int, Field(ge=1, le=2)]
    """The round, from 1: popularity is released in the first, edges in the second."""
    rounds: Annotated[int, Field(ge=1, le=2)]
    """2; or 1, for popularity alone."""
    epsilon: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
    """Target ε of the whole run for each platform, or 0 for none."""
    delta: Annotated[float, Field(ge=1e-10, le=0.1)]
    share: Annotated[float, Field(ge=0.01, le=1, allow_inf_nan=False)]
    """The part of the budget that popularity gets; 1 in a run of one round."""
    encoders: Annotated[str, Field(max_length=500)]
    """The federation's encoder names in order, comma-separated: items without a product's key are found by text."""
    vocabulary: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of the vocabulary, whose products and edges the sums are over."""
    products: Annotated[int, Field(ge=0, le=MOST_PRODUCTS)]
    """V."""
    edges: Annotated[int, Field(ge=0, le=MOST_EDGES)]
    """E."""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)]
    """Seeds the noise of reproducible simulations, and nothing else."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.round > self.rounds:
            raise ValueError(f"round {self.round} of a run of {self.rounds} is none")
        if (self.rounds == 1) != (self.share == 1.0):
            raise ValueError(
                f"share = {self.share:g} in a run of {self.rounds} rounds: popularity alone has all of the budget, and "
                "with edges less than all"
            )
        return self

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Self:
        """Validate received values; raise BadInputError naming the field, the value and what is allowed."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}" if e["loc"] else e["msg"]
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
    def stage(self) -> Stage:
        """What this round releases."""
        return Stage.POPULARITY if self.round == 1 else Stage.EDGES

    @property
    def shape(self) -> TableShape:
        """The public shape of the table."""
        return TableShape(self.products, self.edges)

    @property
    def shares(self) -> tuple[float, ...]:
        """The part of the budget of each round's sum."""
        return (1.0,) if self.rounds == 1 else (self.share, 1.0 - self.share)
