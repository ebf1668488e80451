"""Keys: Ed25519 signs files, EC P-384 authenticates a node to Flower's SuperLink (OpenSSH files, as it reads them)."""

import base64
import hashlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from federation.errors import KeyFileError
from federation.files import PRIVATE, create, read_private

SigningKey = Ed25519PrivateKey
NodeKey = ec.EllipticCurvePrivateKey
_PLAIN = serialization.NoEncryption()


def make_signing_key(path: Path) -> SigningKey:
    """Make a signing key in a new file of mode 0600."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, _PLAIN)
    create(path, pem, PRIVATE)
    return key


def load_signing_key(path: Path) -> SigningKey:
    """Load a signing key; raise KeyFileError if it cannot be used."""
    try:
        key = serialization.load_pem_private_key(read_private(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path}: holds no Ed25519 private key.")
    return key


def make_node_key(path: Path) -> NodeKey:
    """Make a node key in a new file of mode 0600."""
    key = ec.generate_private_key(ec.SECP384R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, _PLAIN)
    create(path, pem, PRIVATE)
    return key


def load_node_key(path: Path) -> NodeKey:
    """Load a node key; raise KeyFileError if it cannot be used."""
    try:
        key = serialization.load_ssh_private_key(read_private(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise KeyFileError(f"{path}: holds no EC P-384 private key in OpenSSH's format.")
    return key


def signing_text(key: SigningKey | Ed25519PublicKey) -> str:
    """Return the 32 raw bytes of the public key, in hex."""
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    return public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw).hex()


def node_text(key: NodeKey | ec.EllipticCurvePublicKey) -> str:
    """Return the public key as OpenSSH writes it, without a comment."""
    public = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
    return public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def read_node_text(text: str) -> ec.EllipticCurvePublicKey:
    """Read what `node_text` wrote, and nothing else that means the same; raise ValueError."""
    try:
        key = serialization.load_ssh_public_key(text.encode())
    except UnsupportedAlgorithm:
        raise ValueError("not a key of a known kind") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ValueError("not an EC P-384 key")
    if node_text(key) != text:
        raise ValueError("not written in the one way that counts")
    return key


def fingerprint(public: str) -> str:
    """SHA-256 of the 32 bytes of a signing key that are given in hex, as 64 hex digits."""
    return hashlib.sha256(bytes.fromhex(public)).hexdigest()


def spoken(digits: str) -> str:
    """Hex digits in groups of four, to be read out and compared.

    >>> spoken("0123456789abcdef")
    '0123 4567 89ab cdef'
    """
    return " ".join(digits[i : i + 4] for i in range(0, len(digits), 4))


def unspoken(text: str) -> str:
    """Return what a person typed or pasted as plain hex digits.

    >>> unspoken(" 0123 45:67 89AB-cdef ")
    '0123456789abcdef'
    """
    return "".join(c for c in text.lower() if c not in " :-\t\n")


def node_proof(key: NodeKey, message: bytes) -> str:
    """Sign with a node key, to show that one has it (ECDSA with SHA-256, base64)."""
    return base64.b64encode(key.sign(message, ec.ECDSA(hashes.SHA256()))).decode()


def check_node_proof(public: str, message: bytes, proof: str) -> bool:
    """Whether the holder of the node key made `proof` of `message`."""
    try:
        signature = base64.b64decode(proof, validate=True)
        read_node_text(public).verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except (ValueError, InvalidSignature):
        return False
    return True


def check_signature(public: str, message: bytes, signature: str) -> bool:
    """Whether the holder of the signing key made the hex `signature` of `message`."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(bytes.fromhex(signature), message)
    except (ValueError, InvalidSignature):
        return False
    return True
