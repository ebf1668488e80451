"""Keyed hashes: an order without meaning that anyone with the seed can repeat.

The hash of a pair depends on that pair and the seed only, so removing one shopper changes no other's order.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]


def keyed_hash(seed: int, purpose: str, names: Sequence[str]) -> Hashes:
    """64-bit BLAKE2b of each name, keyed by the seed and the purpose. Shape (len(names),)."""
    key = hashlib.blake2b(f"{purpose}\0{seed}".encode(), digest_size=32).digest()
    digests = [hashlib.blake2b(name.encode(), digest_size=8, key=key).digest() for name in names]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def combine(first: Hashes, second: Hashes) -> Hashes:
    """Mix two arrays of hashes into one (splitmix64's finaliser); the order of the arguments matters."""
    mixed = first + np.uint64(0x9E3779B97F4A7C15) * (second | np.uint64(1)) + (second >> np.uint64(1))
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
