"""Versions of the vocabulary as signed files: a record that names a digest, beside the vocabulary that has it."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from federation.errors import TamperedError, WrongPartyError
from federation.keys import SigningKey
from federation.request import Name, PublicKey
from federation.signed import parse, sign
from federation.validity import Moment
from shared_model.encoders import EncoderIdentity, identities_from_json
from shared_model.errors import BadInputError
from shared_model.vocabulary import Vocabulary
from shared_model.vocabulary_file import load_vocabulary

FORMAT = "fedcart-vocabulary/1"
Count = Annotated[int, Field(ge=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Share(_Strict):
    """One platform's part in a version: its catalogue's file (SHA-256), how many products it published and of when."""

    catalogue: PublicKey
    issued: Moment
    products: Count


class VocabularyRecord(_Strict):
    """What the operator signs of a version. `digest` covers all of the vocabulary; `shares` are by platform's name."""

    federation: Name
    number: Annotated[int, Field(ge=1)]
    parent: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
    digest: PublicKey
    products: Count
    edges: Count
    neighbours: Annotated[int, Field(ge=1)]
    encoders: Annotated[str, Field(max_length=5000)]
    issued: Moment
    shares: dict[Name, Share]

    @property
    def identities(self) -> list[EncoderIdentity]:
        """The encoders whose text features the edges were made with."""
        return identities_from_json(self.encoders)


def make_record(record: VocabularyRecord, key: SigningKey) -> bytes:
    """Return the bytes of a signed record."""
    return sign(FORMAT, record.model_dump(), key)


def read_record(data: bytes, where: str, federation: str, signing_key: str) -> VocabularyRecord:
    """Return a record that the federation's key signed.

    Raises TamperedError if it did not, or any byte is changed; WrongPartyError for another kind of file or federation.
    """
    signed = parse(data, FORMAT, where)
    signed.require(signing_key, "the federation's signing key")
    try:
        record = VocabularyRecord.model_validate(signed.body)
        record.identities  # noqa: B018  (raises where they cannot be read)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, e["loc"])) for e in error.errors())
        raise TamperedError(f"{where}: is no record that fedcart wrote ({fields}).") from None
    except BadInputError as error:
        raise TamperedError(f"{where}: is no record that fedcart wrote: {error}") from None
    if record.federation != federation:
        raise WrongPartyError(f"{where}: is of federation {record.federation!r}, and this is {federation!r}.")
    return record


def recorded_vocabulary(path: Path, record: VocabularyRecord) -> Vocabulary:
    """Return the vocabulary in a file; raise CheckpointError if it is damaged, WrongPartyError if it is another one."""
    vocabulary = load_vocabulary(path)
    if vocabulary.digest != record.digest:
        raise WrongPartyError(
            f"{path}: is vocabulary {vocabulary.digest[:12]}, and the signed record names {record.digest[:12]}. "
            "Get both files of one version from the operator."
        )
    return vocabulary
