"""The list of published versions: signed, numbered, and the only thing that changes when a model is published.

`serial` grows with every change, so a platform that saw one list can tell an older one, also where the operator
made an older version current on purpose.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from federation.errors import TamperedError
from federation.keys import SigningKey, signing_text
from federation.registry.card import Sha256
from federation.registry.errors import UnknownVersionError
from federation.request import Name, PublicKey
from federation.signed import parse, sign
from federation.validity import Moment, moment
from shared_model.errors import BadInputError

FORMAT = "fedcart-models/1"
MOST = 5000
"""Most versions of one federation."""
LIST_LIMIT = 524_288
"""Most bytes of a list."""
_SHORTEST = 8


class VersionList(BaseModel):
    """All versions in their order, each the parent of the next, and the one that is current."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    federation: Name
    signing_key: PublicKey
    serial: Annotated[int, Field(ge=1)]
    time: Moment
    current: Sha256
    reason: Annotated[str, Field(max_length=300)]
    """Why the operator made it current; empty after a publication."""
    versions: Annotated[list[Sha256], Field(min_length=1, max_length=MOST)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.versions)) != len(self.versions) or self.current not in self.versions:
            raise ValueError("each version stands once, and the current one among them")
        if not self.reason.isprintable():
            raise ValueError("reason: has characters that cannot be printed")
        return self

    def number(self, version: str) -> int:
        """The number of a listed version, from 1."""
        return self.versions.index(version) + 1

    def parent(self, number: int) -> str | None:
        """The version before number `number`."""
        return self.versions[number - 2] if number > 1 else None

    def find(self, wanted: str) -> str:
        """Return the version with this number, name, or beginning of a name; raise UnknownVersionError."""
        return find_version(wanted, self.versions)


def find_version(wanted: str, versions: Sequence[str]) -> str:
    """Return the version that a person means, of versions in their order; raise UnknownVersionError.

    >>> find_version("2", ["aa" * 32, "bb" * 32])[:4], find_version("aaaaaaaa", ["aa" * 32])[:4]
    ('bbbb', 'aaaa')
    """
    if wanted.isascii() and wanted.isdigit() and len(wanted) < _SHORTEST:
        if 1 <= int(wanted) <= len(versions):
            return versions[int(wanted) - 1]
    else:
        found = [v for v in versions if v.startswith(wanted.lower())] if len(wanted) >= _SHORTEST else []
        if len(found) == 1:
            return found[0]
    raise UnknownVersionError(
        f"There is no version {wanted!r}: give a number from 1 to {len(versions)}, or at least {_SHORTEST} digits "
        "of a version's name."
    )


def make_list(
    federation: str,
    key: SigningKey,
    versions: Sequence[str],
    current: str,
    serial: int,
    time: datetime,
    reason: str = "",
) -> bytes:
    """Return the bytes of a signed list; raise BadInputError for what no list can hold."""
    values = {
        "federation": federation,
        "signing_key": signing_text(key),
        "serial": serial,
        "time": moment(time),
        "current": current,
        "reason": reason,
        "versions": list(versions),
    }
    try:
        document = VersionList.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise BadInputError(f"The list of versions cannot be written: {problems}.") from None
    return sign(FORMAT, document.model_dump(), key)


def read_list(data: bytes, where: str) -> VersionList:
    """Return a list that the key which it names has signed; whose key that is, `card.require_signer` must say.

    Raises TamperedError if any byte was changed, WrongPartyError if it is another kind of file.
    """
    signed = parse(data, FORMAT, where)
    signed.require(str(signed.body.get("signing_key")), "the signing key that it names")
    try:
        return VersionList.model_validate(signed.body)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, e["loc"])) or e["msg"] for e in error.errors())
        raise TamperedError(f"{where}: is no list of versions that fedcart wrote ({fields}).") from None
