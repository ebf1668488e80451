"""A platform's signed word on one update: for what it was made, and what its ledger holds after it.

The key of the ledger signs the whole receipt, which contains the ledger's head: so ε, δ and noise are said by whoever
keeps the ledger, for one run, round, plan and model, and can be shown to others later. It stays a word: a key can sign
what is not so, and only the ledger itself shows ε (``verify`` recomputes it).

| a receipt                                          | outcome of ``check``          |
|----------------------------------------------------|-------------------------------|
| signed, and its head too, by the key in the head   | good                          |
| any field changed, or another ledger's head put in | LedgerTamperedError           |
| of other fields, types, NaN or inf                 | LedgerMismatchError, when read |
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.errors import LedgerMismatchError, LedgerTamperedError
from privacy.ledger.entry import canonical
from privacy.ledger.keys import public_from_hex
from privacy.ledger.report import Budget, Head

_DOMAIN = "fedcart receipt 1"
_SIGNATURE = re.compile(r"[0-9a-f]{128}")
TEXT_LIMIT = 200
"""Most characters of a text in a statement."""


@dataclass(frozen=True)
class Statement:
    """What an update was made for, and how.

    Args:
        platform: who sends it.
        run: the run's id.
        round: the round, from 1.
        plan: fingerprint of the instructions.
        base: fingerprint of the tensors that training began with.
        update: fingerprint of the tensors that it sends; with privacy, what its ledger settled the round with.
        noise: the name of the source of its noise.
    """

    platform: str
    run: str
    round: int
    plan: str
    base: str
    update: str
    noise: str


@dataclass(frozen=True)
class Receipt:
    """A statement, the budget after it (``committed`` and ``cap`` are ε at ``delta``), and the signatures over both."""

    statement: Statement
    committed: float
    cap: float
    delta: float
    head: Head
    signature: str

    @classmethod
    def sign(cls, statement: Statement, budget: Budget, head: Head, key: Ed25519PrivateKey) -> Receipt:
        """Return the receipt, signed by the ledger's ``key``."""
        unsigned = cls(statement, budget.committed, budget.cap, budget.delta, head, "")
        return replace(unsigned, signature=key.sign(unsigned._signed()).hex())

    def to_mapping(self) -> dict[str, str | int | float]:
        """Return what travels beside an update: one level of text and numbers."""
        numbers = {"committed": self.committed, "cap": self.cap, "delta": self.delta}
        return asdict(self.statement) | numbers | {"head": self.head.to_text(), "signature": self.signature}

    @classmethod
    def from_mapping(cls, document: Mapping[str, object]) -> Receipt:
        """Read what ``to_mapping`` returned, from a stranger. No signature is checked: see ``check``.

        Raises:
            LedgerMismatchError: fields are missing, surplus, of the wrong type, too long, NaN or infinite.
        """
        texts = {f.name for f in fields(Statement)} - {"round"}
        numbers = {"committed", "cap", "delta"}
        names = texts | numbers | {"round", "head", "signature"}
        if set(document) != names:
            raise LedgerMismatchError(f"a receipt has exactly the fields {sorted(names)}")
        for name in sorted(texts):
            value = document[name]
            if not isinstance(value, str) or len(value) > TEXT_LIMIT:
                raise LedgerMismatchError(f"a receipt's {name} is text of at most {TEXT_LIMIT} characters")
        for name in sorted(numbers):
            value = document[name]
            if not isinstance(value, float) or not math.isfinite(value):
                raise LedgerMismatchError(f"a receipt's {name} is a finite number, not {value!r}")
        if type(document["round"]) is not int:
            raise LedgerMismatchError("a receipt's round is a whole number")
        signature = document["signature"]
        if not isinstance(signature, str) or not _SIGNATURE.fullmatch(signature):
            raise LedgerMismatchError("a receipt's signature is 128 digits of lower-case hex")
        said = {f.name: document[f.name] for f in fields(Statement)}
        budget = {name: document[name] for name in numbers}
        return cls(
            statement=Statement(**said),  # type: ignore[arg-type]  # the types were looked at above
            **budget,  # type: ignore[arg-type]
            head=Head.from_text(document["head"]),
            signature=signature,
        )

    def check(self) -> None:
        """Raise LedgerTamperedError unless the key that the head names signed head and receipt."""
        self.head.check()
        try:
            key = public_from_hex(self.head.public_key)
            key.verify(bytes.fromhex(self.signature), self._signed())
        except (InvalidSignature, ValueError) as error:
            raise LedgerTamperedError(
                f"receipt of {self.statement.platform!r} for round {self.statement.round} of "
                f"{self.statement.run!r}: its signature is not from the key of its ledger"
            ) from error

    def _signed(self) -> bytes:
        said = {name: value for name, value in self.to_mapping().items() if name != "signature"}
        return canonical({"domain": _DOMAIN, "receipt": said}).encode()
