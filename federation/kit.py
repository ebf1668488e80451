"""A member's kit: what it needs to reach the federation and to know it again. Holds no secret; signed by the operator."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from federation.address import split_address
from federation.certificates import read_certificates
from federation.errors import TamperedError
from federation.keys import SigningKey, fingerprint, signing_text, spoken
from federation.request import Name, PublicKey, Request
from federation.signed import parse, sign
from federation.validity import Moment, moment
from privacy.plain import plain
from shared_model.encoders import EncoderIdentity, identities_from_json
from shared_model.errors import BadInputError
from shared_model.model import ModelSpec

FORMAT = "fedcart-kit/1"
LIFETIME = timedelta(days=30)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelTerms(_Strict):
    """The model that the federation trains: its encoders' names and identities, and its shape."""

    encoders: Annotated[str, Field(max_length=500)]
    encoder_identities: Annotated[str, Field(max_length=5000)]
    width: Annotated[int, Field(ge=0)]
    history_length: Annotated[int, Field(ge=2)]

    @property
    def encoder_names(self) -> tuple[str, ...]:
        """The encoder names in order."""
        return tuple(self.encoders.split(","))

    @property
    def identities(self) -> list[EncoderIdentity]:
        """What every party's encoders must be."""
        return identities_from_json(self.encoder_identities)

    @property
    def spec(self) -> ModelSpec:
        """The shape of the model."""
        return ModelSpec.of(self.identities, self.width, self.history_length)


class Card(_Strict):
    """The federation in public: how it is called and reached, its keys, its model, its versions."""

    federation: Name
    address: Annotated[str, Field(max_length=300)]
    signing_key: PublicKey
    certificates: Annotated[str, Field(max_length=20_000)]
    """The certificate authorities in force, PEM: one, or two while the operator changes them."""
    model: ModelTerms
    fedcart: Annotated[str, Field(max_length=50)]
    flower: Annotated[str, Field(max_length=50)]
    registry: Annotated[str, Field(max_length=300)] | None = None
    """Where published models are served, if anywhere."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            split_address(self.address)
            if self.registry is not None:
                split_address(self.registry)
            read_certificates(self.certificates.encode())
            self.model.spec  # noqa: B018  (raises where the identities cannot be read)
        except (BadInputError, TypeError) as error:
            raise ValueError(str(error)) from None
        return self

    def lines(self) -> list[str]:
        """The card for people: what to compare by another way than the one the kit came by."""
        authorities = [c.fingerprint for c in read_certificates(self.certificates.encode())]
        lines = [
            f"federation       {self.federation}",
            f"address          {self.address}",
            *([f"models           {self.registry}"] if self.registry else []),
            f"FINGERPRINT      {spoken(fingerprint(self.signing_key))}",
            *(f"certificates     {spoken(digits)}" for digits in authorities),
            f"encoders         {', '.join(map(str, self.model.identities))}",
            f"exchange         {self.model.spec.exchange.fingerprint}",
            f"versions         fedcart {self.fedcart}, flwr {self.flower}",
        ]
        return [plain(line) for line in lines]


class Kit(_Strict):
    """A member's kit. `number` grows with every kit of the federation, so an older one cannot come back."""

    card: Card
    number: Annotated[int, Field(ge=1)]
    platform: Name
    identity_key: PublicKey
    node_key: Annotated[str, Field(max_length=400)]
    request: PublicKey
    """SHA-256 of the request that it answers."""
    issued: Moment
    expires: Moment


@dataclass(frozen=True)
class Recipient:
    """Whom a kit is for: a platform, its keys, and the digest of the request that it answers."""

    platform: str
    identity_key: str
    node_key: str
    request: str

    @classmethod
    def of(cls, request: Request, digest: str) -> Self:
        """The sender of a request."""
        return cls(request.platform, request.identity_key, request.node_key, digest)


def make_kit(card: Card, recipient: Recipient, number: int, key: SigningKey, time: datetime) -> bytes:
    """Return the bytes of a signed kit, to be installed within `LIFETIME`."""
    if card.signing_key != signing_text(key):
        raise BadInputError("The card names another signing key than the one that signs it.")
    dates = {"issued": moment(time), "expires": moment(time + LIFETIME)}
    kit = Kit.model_validate({"card": card.model_dump(), "number": number, **recipient.__dict__, **dates})
    return sign(FORMAT, kit.model_dump(), key)


def read_kit(data: bytes, where: str) -> Kit:
    """Return a kit that was signed with the key that its card names; whose key that is, the caller must know.

    Raises TamperedError if it was not, WrongPartyError if it is another kind of file.
    """
    signed = parse(data, FORMAT, where)
    card = signed.body.get("card")
    signed.require(
        str(card.get("signing_key")) if isinstance(card, dict) else "", "the signing key on its card"
    )
    try:
        return Kit.model_validate(signed.body)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, e["loc"])) for e in error.errors())
        raise TamperedError(f"{where}: is no kit that fedcart wrote ({fields}).") from None
