"""Signed files: readable JSON that is accepted in exactly one form, byte for byte.

    {"body": {…}, "format": "fedcart-kit/1", "signature": "<Ed25519, hex>"}

The signature covers the format and the canonical JSON of the body. A reader renders what it parsed and demands
the same bytes, so that no second file means the same: another blank, another order of keys, an escape, capital
hex digits, a key twice. Any changed byte is therefore refused, also outside of what the signature covers.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from federation.errors import TamperedError, WrongPartyError
from federation.keys import SigningKey, check_signature

_FORMAT = re.compile(r"fedcart-[a-z]+/\d+")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")


@dataclass(frozen=True)
class Signed:
    """A signed file that was parsed; its signature is not checked before `require`."""

    format: str
    body: Mapping[str, Any]
    signature: str
    where: str

    def require(self, public: str, whose: str) -> Mapping[str, Any]:
        """Return the body; raise TamperedError unless the key `public` (hex), which is `whose`, signed it."""
        if not check_signature(public, _message(self.format, self.body), self.signature):
            raise TamperedError(
                f"{self.where}: is not signed by {whose}, or was changed since. Ask for it again, by another way."
            )
        return self.body


def canonical(body: Mapping[str, Any]) -> bytes:
    """The one text of a body that is signed."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _message(format: str, body: Mapping[str, Any]) -> bytes:
    return format.encode() + b"\n" + canonical(body)


def _render(format: str, body: Mapping[str, Any], signature: str) -> bytes:
    document = {"format": format, "body": body, "signature": signature}
    return json.dumps(document, sort_keys=True, indent=2, allow_nan=False).encode() + b"\n"


def sign(format: str, body: Mapping[str, Any], key: SigningKey) -> bytes:
    """Return the bytes of a signed file."""
    return _render(format, body, key.sign(_message(format, body)).hex())


def digest(data: bytes) -> str:
    """SHA-256 of a signed file, in hex: its name in records."""
    return sha256(data).hexdigest()


def parse(data: bytes, format: str, where: str) -> Signed:
    """Parse a signed file of this format.

    Raises TamperedError if it is not in its one form, WrongPartyError if it is another kind of file.
    """
    try:
        document = json.loads(data)
        kind, body, signature = document["format"], document["body"], document["signature"]
        known = isinstance(kind, str) and _FORMAT.fullmatch(kind) is not None and isinstance(body, dict)
        whole = (
            known and _SIGNATURE.fullmatch(signature) is not None and _render(kind, body, signature) == data
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        known = whole = False
    if known and kind != format:
        raise WrongPartyError(f"{where}: is a {kind} file; this command takes {format}.")
    if not whole:
        raise TamperedError(
            f"{where}: is not byte for byte a {format} file. Send it as an attachment, not as text, and again."
        )
    return Signed(kind, body, signature, where)
