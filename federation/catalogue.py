"""A published catalogue: what a platform lets the federation know of its products, signed by its identity key.

Key, title, brand and category of each product, and nothing else: no price, count or event.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from federation.errors import TamperedError, WrongPartyError
from federation.keys import SigningKey, signing_text
from federation.request import Name, PublicKey
from federation.signed import digest, parse, sign
from federation.validity import Moment, moment
from shared_model.errors import BadInputError
from shared_model.product_key import Kind, product_key
from shared_model.public_text import public_text
from shared_model.vocabulary import PublicCatalogue

FORMAT = "fedcart-catalogue/1"
LARGEST = 2**29
"""Bytes of a catalogue's file at most: some three million products."""


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    federation: Name
    platform: Name
    identity_key: PublicKey
    issued: Moment
    products: Annotated[list[Any], Field(max_length=2**31 - 1)]


@dataclass(frozen=True)
class ReceivedCatalogue:
    """A catalogue that is whole and signed with `identity_key`; whose key that is, the registry of members says."""

    platform: str
    identity_key: str
    issued: str
    digest: str
    catalogue: PublicCatalogue


def make_catalogue(
    federation: str, platform: str, catalogue: PublicCatalogue, identity: SigningKey, time: datetime
) -> bytes:
    """Return the bytes of a signed catalogue."""
    rows = zip(catalogue.keys, catalogue.titles, catalogue.brands, catalogue.categories, strict=True)
    body = {
        "federation": federation,
        "platform": platform,
        "identity_key": signing_text(identity),
        "issued": moment(time),
        "products": [list(row) for row in rows],
    }
    return sign(FORMAT, body, identity)


def read_catalogue(data: bytes, where: str, federation: str) -> ReceivedCatalogue:
    """Check a catalogue that arrived at `federation`.

    | the catalogue                                                   | outcome         |
    |-----------------------------------------------------------------|-----------------|
    | any byte changed, not signed with the key that it names         | TamperedError   |
    | a key that is not canonical, twice, or not its title's          | TamperedError   |
    | a text that is too long, or has letters that cannot be printed  | TamperedError   |
    | another kind of file, or for another federation                 | WrongPartyError |
    """
    signed = parse(data, FORMAT, where)
    signed.require(str(signed.body.get("identity_key")), "the identity key that it names")
    try:
        header = _Header.model_validate(signed.body)
        catalogue = _catalogue(header.products)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, e["loc"])) or e["msg"] for e in error.errors())
        raise TamperedError(f"{where}: is no catalogue that fedcart wrote ({fields}).") from None
    except BadInputError as error:
        raise TamperedError(f"{where}: is no catalogue that fedcart wrote: {error}") from None
    if header.federation != federation:
        raise WrongPartyError(
            f"{where}: is for federation {header.federation!r}, and this is {federation!r}."
        )
    return ReceivedCatalogue(header.platform, header.identity_key, header.issued, digest(data), catalogue)


def _catalogue(products: list[Any]) -> PublicCatalogue:
    for number, row in enumerate(products, start=1):
        if not (isinstance(row, list) and len(row) == 4 and all(isinstance(text, str) for text in row)):
            raise BadInputError(f"product {number} is not a key, title, brand and category.")
        key, *texts = row
        if not _is_canonical(key, *texts[:2]) or any(public_text(text) != text for text in texts):
            raise BadInputError(f"product {number} has a key or text that is never published: {key[:80]!r}.")
    columns = zip(*products, strict=True) if products else ((), (), (), ())
    return PublicCatalogue(*map(tuple, columns))


def _is_canonical(key: str, title: str, brand: str) -> bool:
    """Whether a key is what its own text, or title and brand, make."""
    kind, _, text = key.partition(":")
    made = product_key(None if kind == Kind.TITLE.value else text, title, brand)
    return str(made) == key and made.kind is not Kind.NONE
