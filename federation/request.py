"""A platform's request to join, or to change its keys: signed by its identity key, with proof of each key it names."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from federation.errors import TamperedError, WrongPartyError
from federation.keys import (
    NodeKey,
    SigningKey,
    check_node_proof,
    check_signature,
    node_proof,
    node_text,
    read_node_text,
    signing_text,
)
from federation.signed import canonical, digest, parse, sign
from federation.validity import Moment, moment, require_valid
from privacy.errors import LedgerError
from privacy.ledger import Head
from privacy.ledger.report import HEAD_LIMIT
from shared_model.errors import BadInputError

FORMAT = "fedcart-request/1"
LIFETIME = timedelta(days=7)
NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME)]
PublicKey = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Signature = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class Request(BaseModel):
    """What a platform declares. Everything here may be published.

    `kind` is "join", or "rotate" for a member that changes its keys: then `replaces` is the identity key in
    force, and `replaces_proof` its signature. `ledger` is the signed head of its shoppers' ledger as text. `node_proof`
    is made with the node key, `ledger_proof` with the ledger's. The proofs cover every other field.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: Literal["join", "rotate"]
    federation: Name
    platform: Name
    contact: Annotated[str, Field(max_length=200)]
    population_size: Annotated[int, Field(ge=1, le=10**12)]
    identity_key: PublicKey
    node_key: Annotated[str, Field(max_length=400)]
    ledger: Annotated[str, Field(max_length=HEAD_LIMIT)]
    replaces: PublicKey | None
    issued: Moment
    expires: Moment
    nonce: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    fedcart: Annotated[str, Field(max_length=50)]
    flower: Annotated[str, Field(max_length=50)]
    node_proof: Annotated[str, Field(max_length=400)]
    ledger_proof: Signature
    replaces_proof: Signature | None

    @model_validator(mode="after")
    def _check(self) -> Self:
        read_node_text(self.node_key)
        if (self.kind == "rotate") != (self.replaces is not None and self.replaces_proof is not None):
            raise ValueError("a rotation, and nothing else, names the key that it replaces and proves it")
        if not self.contact.isprintable():
            raise ValueError("contact: has characters that cannot be printed")
        try:
            self.head.check()
        except LedgerError as error:
            raise ValueError(f"ledger: {error}") from None
        return self

    @property
    def head(self) -> Head:
        """The last entry of the ledger when the request was made: its population, key, position and hash."""
        return Head.from_text(self.ledger)


@dataclass(frozen=True)
class Declaration:
    """What a platform says of itself in a request."""

    federation: str
    platform: str
    contact: str
    population_size: int
    head: Head
    fedcart: str
    flower: str


@dataclass(frozen=True)
class RequestKeys:
    """The private keys of a platform that prove what its request names."""

    identity: SigningKey
    node: NodeKey
    ledger: SigningKey


@dataclass(frozen=True)
class ReceivedRequest:
    """A request that is whole and signed, and the digest of its file."""

    request: Request
    digest: str


def make_request(
    declaration: Declaration,
    keys: RequestKeys,
    time: datetime,
    replaces: SigningKey | None = None,
) -> bytes:
    """Return the bytes of a signed request, good for `LIFETIME`; raise BadInputError for what cannot be declared."""
    said = dict(declaration.__dict__)
    claims: dict[str, Any] = {
        "ledger": said.pop("head").to_text(),
        **said,
        "kind": "join" if replaces is None else "rotate",
        "identity_key": signing_text(keys.identity),
        "node_key": node_text(keys.node),
        "replaces": None if replaces is None else signing_text(replaces),
        "issued": moment(time),
        "expires": moment(time + LIFETIME),
        "nonce": secrets.token_hex(16),
    }
    message = _claims(claims)
    proofs = {
        "node_proof": node_proof(keys.node, message),
        "ledger_proof": keys.ledger.sign(message).hex(),
        "replaces_proof": None if replaces is None else replaces.sign(message).hex(),
    }
    try:
        request = Request.model_validate(claims | proofs)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise BadInputError(f"The request cannot be written: {problems}.") from None
    return sign(FORMAT, request.model_dump(), keys.identity)


def _claims(body: Mapping[str, Any]) -> bytes:
    """What the proofs cover: everything but the proofs."""
    claims = {key: value for key, value in body.items() if not key.endswith("_proof")}
    return FORMAT.encode() + b" proof\n" + canonical(claims)


def read_request(data: bytes, where: str, federation: str, time: datetime) -> ReceivedRequest:
    """Check a request that arrived at `federation`.

    | the request                                   | outcome         |
    |-----------------------------------------------|-----------------|
    | any byte changed, any signature or proof not of its key | TamperedError |
    | another kind of file, or for another federation | WrongPartyError |
    | too old, or from the future                   | ExpiredError    |

    That it is *this* platform's is for a person to see: compare the fingerprint of `identity_key`.
    """
    signed = parse(data, FORMAT, where)
    signed.require(str(signed.body.get("identity_key")), "the identity key that it names")
    try:
        request = Request.model_validate(signed.body)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, e["loc"])) or e["msg"] for e in error.errors())
        raise TamperedError(f"{where}: is no request that fedcart wrote ({fields}).") from None
    message = _claims(signed.body)
    if not check_node_proof(request.node_key, message, request.node_proof):
        raise TamperedError(f"{where}: its sender does not have the node key that it names.")
    if not check_signature(request.head.public_key, message, request.ledger_proof):
        raise TamperedError(f"{where}: its sender does not have the key of the ledger that it names.")
    old, proof = request.replaces, request.replaces_proof
    if old is not None and proof is not None and not check_signature(old, message, proof):
        raise TamperedError(f"{where}: its sender does not have the key that it wants to replace.")
    if request.federation != federation:
        raise WrongPartyError(
            f"{where}: is for federation {request.federation!r}, and this is {federation!r}."
        )
    fix = "Ask the platform for a new one: fedcart client request."
    require_valid(request.issued, request.expires, time, where, fix)
    return ReceivedRequest(request, digest(data))
