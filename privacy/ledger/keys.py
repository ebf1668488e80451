"""The platform's Ed25519 signing key: a file beside a SQLite ledger, or given by the caller."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from privacy.errors import LedgerMismatchError, LedgerUnreadableError


def public_hex(key: Ed25519PublicKey) -> str:
    """The 32 raw bytes of a public key, in hex."""
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw).hex()


def public_from_hex(text: str) -> Ed25519PublicKey:
    """Read what ``public_hex`` wrote.

    Raises:
        LedgerMismatchError: not 32 bytes in hex.
    """
    try:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
    except ValueError as error:
        raise LedgerMismatchError(f"public key {text!r} is not 32 bytes in hex") from error


def key_path(ledger: Path) -> Path:
    """Where the key of a SQLite ledger lies: ``<name>.key`` beside it."""
    return ledger.with_name(ledger.name + ".key")


def make_key_file(path: Path) -> Ed25519PrivateKey:
    """Create a key file with mode 0600, or load the one that is there."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)  # atomic, and never over an existing key
    except FileExistsError:
        return load_key_file(path)
    except OSError as error:
        raise LedgerUnreadableError(f"key file {path} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return key


def load_key_file(path: Path) -> Ed25519PrivateKey:
    """Load a key file that nobody else can read.

    Raises:
        LedgerUnreadableError: missing, not an Ed25519 key, or readable by others.
    """
    try:
        mode = path.stat().st_mode
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError as error:
        raise LedgerUnreadableError(
            f"key file {path} is missing: restore it from backup; without it the ledger cannot be continued"
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise LedgerUnreadableError(f"key file {path} cannot be read ({type(error).__name__})") from error
    if stat.S_IMODE(mode) & 0o077:
        raise LedgerUnreadableError(
            f"key file {path} has mode {stat.S_IMODE(mode):04o}: others can sign; run chmod 600 on it"
        )
    if not isinstance(key, Ed25519PrivateKey):
        raise LedgerUnreadableError(f"key file {path} holds no Ed25519 key")
    return key
