"""The model card: what a published model is, who trained it, what that cost, and what may not be claimed.

A signed file (`federation.signed`), so it has one form, and the SHA-256 of its bytes names the version. It holds the
SHA-256 of the model file and the name of the version before it: versions are content-addressed and chained.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.numpy import load, save

from federation.errors import TamperedError
from federation.keys import SigningKey, signing_text
from federation.kit import ModelTerms
from federation.registry.errors import WrongFederationError, WrongSignerError
from federation.request import Name, PublicKey
from federation.signed import digest, parse, sign
from federation.validity import Moment
from privacy.errors import LedgerError
from privacy.ledger import Head, Receipt
from shared_model.errors import BadInputError
from shared_model.exchange import fingerprint
from shared_model.stages import TableShape

FORMAT = "fedcart-model/1"
CARD_LIMIT = 262_144
"""Most bytes of a card."""
HEADER_LIMIT = 65_536
"""Most bytes of a model file beside its numbers."""
Sha256 = PublicKey
"""64 hex digits."""
Count = Annotated[int, Field(ge=1, le=10**9)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Line = Annotated[str, Field(min_length=1, max_length=1000)]
Short = Annotated[str, Field(min_length=1, max_length=100)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RunFacts(_Strict):
    """The run that made the model, and the public plan that every member followed."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,100}$")]
    origin: Literal["federation", "simulation"]
    """A simulation trains where all platforms' data lies."""
    rounds: Count
    share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
    """The part of the budget that popularity got."""
    epsilon: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
    """What the whole run may cost a member's shoppers; 0: trained without differential privacy."""
    delta: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
    versions: Annotated[dict[Short, Short], Field(max_length=20)]
    """Versions of the server that ran it; empty if the run does not say."""


class MemberFacts(_Strict):
    """What the server knows of a member's privacy, and how."""

    platform: Name
    rounds: Count
    """In how many rounds an update of it was received."""
    epsilon_run: Number | None
    """ε of these rounds, computed from the run's public plan; None without privacy."""
    epsilon_ledger: Number | None
    """ε of all that its ledger ever released or reserved, as its last receipt says; None without a receipt."""
    noise: Annotated[str, Field(max_length=40)]
    """Where its receipts say that its noise came from; empty if that is not recorded."""
    head: Annotated[dict[str, Any], Field(max_length=10)] | None
    """The last signed head of its ledger that the server's witness holds."""
    receipt: Annotated[dict[str, Any], Field(max_length=20)] | None
    """Its receipt for its last round, signed by the key of its ledger; None without privacy, or without a good one."""
    new_ledgers: Annotated[list[Moment], Field(max_length=100)] = []
    """When the operator admitted ledgers of it that did not continue the one before: what was spent earlier is in no ε
    here."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            if self.head is not None:
                Head.from_json(self.head).check()
            if self.receipt is not None:
                self._check_receipt(Receipt.from_mapping(self.receipt))
        except LedgerError as error:
            raise ValueError(str(error)) from None
        if self.receipt is None and self.epsilon_ledger is not None:
            raise ValueError("an ε of a ledger needs the receipt that says it")
        return self

    def _check_receipt(self, receipt: Receipt) -> None:
        receipt.check()
        if self.head is not None and not receipt.head.of_ledger(Head.from_json(self.head)):
            raise ValueError("the receipt is of another ledger than the head")
        if (receipt.statement.platform, receipt.committed) != (self.platform, self.epsilon_ledger):
            raise ValueError("the receipt is of another platform, or says another ε")


class PlatformResult(_Strict):
    """Metrics of the published model on one platform's test shoppers, such as "ndcg@10"."""

    platform: Name
    role: Literal["member", "newcomer"]
    metrics: Annotated[dict[Short, Number], Field(max_length=50)]


class ModelCard(_Strict):
    """See the module. Fields that are None are not known, or were left out on purpose."""

    federation: Name
    signing_key: PublicKey
    number: Count
    """1 for a federation's first version, then one more each."""
    parent: Sha256 | None
    """The version before it; None for the first."""
    published: Moment
    run: RunFacts
    model: ModelTerms
    vocabulary: Sha256
    """Digest of the vocabulary that the table is over."""
    products: Annotated[int, Field(ge=0, le=10**8)]
    edges: Annotated[int, Field(ge=0, le=10**9)]
    runs: Annotated[list[Short], Field(min_length=1, max_length=10_000)]
    """The runs whose sums were added up, the last one last."""
    shoppers: Annotated[int, Field(ge=0, le=10**12)]
    """What the members that contributed to the last run declare together."""
    noise: Annotated[dict[Literal["popularity", "edges"], Number], Field(max_length=2)]
    """Standard deviation of the noise on each number of a sum."""
    standing_out: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    """The share of the edges whose number is above three standard deviations of noise, or above 0 without noise."""
    tensors: Sha256
    """Fingerprint of the shared tensors, as events and ledgers name them."""
    file: Sha256
    """SHA-256 of the model file."""
    size: Count
    """Bytes of the model file."""
    members: Annotated[list[MemberFacts], Field(min_length=1, max_length=10_000)]
    taints: Annotated[list[Line], Field(max_length=100)]
    """Every reason why the model must not be called private."""
    evaluation: Annotated[list[PlatformResult], Field(max_length=10_000)] | None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.number == 1) != (self.parent is None):
            raise ValueError("the first version, and no other, has no parent")
        if self.size > self.shape.exchange.parameters * 4 + HEADER_LIMIT:
            raise ValueError("the model file is larger than such a model is")
        if self.run.epsilon == 0 and not self.taints:
            raise ValueError("a model without privacy must say so")
        if not all(text.isprintable() for text in self.taints):
            raise ValueError("a taint has characters that cannot be printed")
        return self

    @property
    def shape(self) -> TableShape:
        """The shape of the table."""
        return TableShape(self.products, self.edges)

    @property
    def private(self) -> bool:
        """Whether nothing speaks against calling the model private."""
        return self.run.epsilon > 0 and not self.taints

    @property
    def epsilon(self) -> float | None:
        """The largest ε of this run over its members; None without privacy."""
        known = [m.epsilon_run for m in self.members if m.epsilon_run is not None]
        return max(known, default=None)


def make_card(values: Mapping[str, Any], key: SigningKey) -> bytes:
    """Return the bytes of a signed card; raise BadInputError for values that no card can hold."""
    try:
        card = ModelCard.model_validate({**values, "signing_key": signing_text(key)})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise BadInputError(f"No model card can be written: {problems}.") from None
    data = sign(FORMAT, card.model_dump(), key)
    if len(data) > CARD_LIMIT:
        raise BadInputError(f"The model card has {len(data)} bytes; at most {CARD_LIMIT} can be published.")
    return data


def read_card(data: bytes, where: str) -> ModelCard:
    """Return a card that the key which it names has signed; whose key that is, `require_signer` must say.

    Raises TamperedError if any byte was changed, WrongPartyError if it is another kind of file.
    """
    signed = parse(data, FORMAT, where)
    signed.require(str(signed.body.get("signing_key")), "the signing key that it names")
    try:
        return ModelCard.model_validate(signed.body)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, e["loc"])) or e["msg"] for e in error.errors())
        raise TamperedError(f"{where}: is no model card that fedcart wrote ({fields}).") from None


def require_signer(document: Any, federation: str, key: str, where: str) -> None:
    """Raise unless a card or list is of this federation and signed by its key, as a person confirmed it."""
    if document.federation != federation:
        raise WrongFederationError(
            f"{where}: is of federation {document.federation!r}, and this is {federation!r}. Nothing was changed."
        )
    if document.signing_key != key:
        raise WrongSignerError(
            f"{where}: says that it is of {federation!r}, but is signed by key {document.signing_key[:16]}…, not by "
            f"the federation's, {key[:16]}…. Do not use it, and tell the operator. If the operator has a new key, "
            "install its kit first: fedcart client join."
        )


def version_of(card: bytes) -> str:
    """The name of a version: the SHA-256 of its card's bytes."""
    return digest(card)


def model_file(arrays: Mapping[str, NDArray]) -> bytes:
    """Return the bytes of a model file; the same arrays give the same bytes."""
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def read_model(data: bytes, card: ModelCard, where: str) -> dict[str, NDArray]:
    """Return the shared tensors of a model file that is byte for byte the card's.

    Raises TamperedError if it is not, ExchangeError if a tensor is not what the exchange spec says.
    """
    if len(data) != card.size or sha256(data).hexdigest() != card.file:
        raise TamperedError(
            f"{where}: is not the model of version {card.number}: its card says {card.size} bytes with SHA-256 "
            f"{card.file}, and these {len(data)} bytes have {sha256(data).hexdigest()}. Fetch it again."
        )
    try:
        arrays = load(data)
    except SafetensorError as error:
        raise TamperedError(f"{where}: cannot be read ({error}).") from None
    card.shape.exchange.validate(arrays, where)
    if fingerprint(arrays) != card.tensors:
        raise TamperedError(f"{where}: its tensors are not those of the card.")
    return arrays
