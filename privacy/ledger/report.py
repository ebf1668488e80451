"""What a ledger says about itself: budgets, previews, spend per run, heads and findings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from privacy.errors import LedgerMismatchError, LedgerTamperedError, PlanError
from privacy.ledger.entry import canonical, signed_bytes
from privacy.ledger.keys import public_from_hex, public_hex
from privacy.ledger.state import check_population

HEAD_LIMIT = 1000
"""Most characters of a head as text: names have at most 100, the rest has a fixed length."""
_HEX = {"hash": 64, "public_key": 64, "signature": 128}


@dataclass(frozen=True)
class Budget:
    """ε of record at ``delta``; ε does not add up, so ``reserved`` is what open reservations add.

    Args:
        population: whose budget.
        spent: ε of everything settled.
        reserved: what the open reservations add to it: ``committed − spent``.
        committed: ε of everything settled or open; compared with the cap.
        cap: the cap in force.
        left: ``cap − committed``, at least 0.
        delta: the δ of every ε here.
        entries: how many entries say so.
    """

    population: str
    spent: float
    reserved: float
    committed: float
    cap: float
    left: float
    delta: float
    entries: int


class Preview(NamedTuple):
    """What reserving an event would do: ε before, ε after, and the cap in force."""

    before: float
    after: float
    cap: float

    @property
    def allowed(self) -> bool:
        """Whether a reservation would be granted now."""
        return self.after <= self.cap


@dataclass(frozen=True)
class RunSpend:
    """One run's share. ``epsilon`` is the run's own ε if nothing else had been released."""

    run: str
    reservations: int
    open: int
    steps: int
    epsilon: float


@dataclass(frozen=True)
class Head:
    """A signed statement "entry ``seq`` of ``population`` has this hash", for a witness to keep.

    It reveals how many entries there are. The rest is a function of what the entries record (plans, runs, model
    versions, times) and of the key: no entry holds, or depends on, anything taken from shoppers' data.
    """

    population: str
    seq: int
    hash: str
    public_key: str
    signature: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Head:
        """Read what ``to_json`` wrote. The form is checked, the signature is not: see ``check``.

        Raises:
            LedgerMismatchError: fields are missing, surplus, of the wrong type, or not as a ledger writes them.
        """
        names = {f.name for f in fields(cls)}
        good = set(document) == names and type(document["seq"]) is int
        if not (good and all(isinstance(document[n], str) for n in names - {"seq"})):
            raise LedgerMismatchError(f"a head has exactly the fields {sorted(names)}")
        if not 0 <= document["seq"] < 2**63:
            raise LedgerMismatchError("a head's seq is a whole number from 0 to 2^63 - 1")
        for name, length in _HEX.items():
            if not re.fullmatch(rf"[0-9a-f]{{{length}}}", document[name]):
                raise LedgerMismatchError(f"a head's {name} is {length} digits of lower-case hex")
        try:
            check_population(document["population"])
        except PlanError as error:
            raise LedgerMismatchError(f"a head's {error}") from None
        return cls(**document)

    def to_text(self) -> str:
        """One line of canonical JSON, at most ``HEAD_LIMIT`` characters: what travels beside an update."""
        return canonical(self.to_json())

    @classmethod
    def from_text(cls, text: object) -> Head:
        """Read what ``to_text`` wrote, from a stranger. The signature is not checked: see ``check``.

        Raises:
            LedgerMismatchError: not text, too long, not JSON, or not a head.
        """
        if not isinstance(text, str):
            raise LedgerMismatchError(f"a head is text, not {type(text).__name__}")
        if len(text) > HEAD_LIMIT:
            raise LedgerMismatchError(f"a head has at most {HEAD_LIMIT} characters, not {len(text)}")
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            raise LedgerMismatchError("a head is one JSON object") from None
        if not isinstance(document, dict):
            raise LedgerMismatchError("a head is one JSON object")
        return cls.from_json(document)

    def of_ledger(self, other: Head) -> bool:
        """Whether both name one key and population."""
        return (self.public_key, self.population) == (other.public_key, other.population)

    def check(self, key: Ed25519PublicKey | None = None) -> None:
        """Raise LedgerTamperedError unless ``key`` (by default the key it names) signed this head."""
        if key is not None and self.public_key != public_hex(key):
            raise LedgerMismatchError(f"head of {self.population!r} is signed by another key than expected")
        try:
            signed = signed_bytes(self.population, self.seq, self.hash)
            public_from_hex(self.public_key).verify(bytes.fromhex(self.signature), signed)
        except (InvalidSignature, ValueError) as error:
            raise LedgerTamperedError(
                f"head of {self.population!r} at entry {self.seq}: its signature is not from its key"
            ) from error


@dataclass(frozen=True)
class Finding:
    """One thing wrong: a stable code, the entry, and words."""

    code: str
    seq: int | None
    message: str


@dataclass(frozen=True)
class VerifyReport:
    """The outcome of ``verify``: no findings means the record is whole.

    Args:
        population: whose ledger.
        entries: how many entries were read.
        findings: what is wrong; empty when the ledger is good.
        warnings: what is unusual but leaves the record intact, such as missing triggers.
        head: the last entry as a head, when readable.
        epsilon: recomputed ε of everything released or reserved, when the chain is whole.
        cap: the cap in force, when the chain is whole.
        delta: δ, when the chain is whole.
        counts: how often each unit mechanism was released or reserved, when the chain is whole.
    """

    population: str
    entries: int
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...] = ()
    head: Head | None = None
    epsilon: float | None = None
    cap: float | None = None
    delta: float | None = None
    counts: Mapping[tuple[float, float], int] | None = None

    @property
    def ok(self) -> bool:
        """Whether the record is whole and its numbers are right."""
        return not self.findings
