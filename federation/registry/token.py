"""What a platform shows with every call to the registry: a short statement, signed with its identity key.

The registry looks the key up among the members in force, so a revoked platform, or one with other keys by now, is
refused at its next call. A token goes over TLS to a server that the federation's authority vouches for, and lets its
bearer read models for ten minutes at most; nothing else takes it.
"""

from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, ValidationError

from federation.errors import TamperedError, WrongPartyError
from federation.keys import SigningKey, signing_text
from federation.request import Name, PublicKey
from federation.signed import parse, sign
from federation.validity import Moment, moment, read_moment, require_valid

FORMAT = "fedcart-token/1"
KEY = "fedcart-token-bin"
"""The metadata key under which it travels."""
LIFETIME = timedelta(minutes=10)
TOKEN_LIMIT = 4096
"""Most bytes of a token."""


class Token(BaseModel):
    """Who calls; believed only if the key is that member's."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    federation: Name
    platform: Name
    identity_key: PublicKey
    issued: Moment
    expires: Moment


def make_token(federation: str, platform: str, identity: SigningKey, time: datetime) -> bytes:
    """Return the bytes of a token, good for `LIFETIME`."""
    token = Token(
        federation=federation,
        platform=platform,
        identity_key=signing_text(identity),
        issued=moment(time),
        expires=moment(time + LIFETIME),
    )
    return sign(FORMAT, token.model_dump(), identity)


def read_token(data: bytes, federation: str, time: datetime) -> Token:
    """Return a token that is whole, of this federation and in its time; raise EnrolmentError."""
    if len(data) > TOKEN_LIMIT:
        raise TamperedError(f"token: has {len(data)} bytes, more than any token.")
    signed = parse(data, FORMAT, "token")
    signed.require(str(signed.body.get("identity_key")), "the identity key that it names")
    try:
        token = Token.model_validate(signed.body)
    except ValidationError:
        raise TamperedError("token: is none that fedcart wrote.") from None
    if token.federation != federation:
        raise WrongPartyError(f"token: is for federation {token.federation!r}, and this is {federation!r}.")
    require_valid(token.issued, token.expires, time, "token", "Set the platform's clock.")
    if read_moment(token.expires) - read_moment(token.issued) > LIFETIME:
        raise TamperedError(f"token: wants to be good for longer than {LIFETIME}.")
    return token
