"""Where noise and sampling come from: a cryptographic keystream by default.

A Gaussian mechanism is only as private as its randomness. ``torch.manual_seed`` has 32 bits and was
recovered from one update by search; the same seed in two rounds cancels. ``SecureNoise`` draws a ChaCha20
keystream under a 256-bit key from the operating system, and costs a few milliseconds per 100,000 normals.

Floating point, honestly: textbook samplers leave gaps in the set of doubles they can return, and Mironov
(2012) showed that gaps can give a secret away. As Opacus' secure mode does (after Holohan & Braghin 2021),
every normal here is the sum of four independent ones over two, which makes the attack cost about 2^159
trials instead of 2^53. It is a guard, not a proof: an exact proof needs a discrete mechanism.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any, NoReturn, Protocol

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from privacy.checks import real, whole

_SUMMED = 4
_STREAM_BYTES = 1 << 30  # re-key well before ChaCha20's 32-bit block counter (256 GiB) wraps


class NoiseSource(Protocol):
    """Random numbers for mechanisms. ``private`` says whether a DP claim may rest on them."""

    @property
    def private(self) -> bool:
        """False taints the run: its card must not claim differential privacy."""

    @property
    def name(self) -> str:
        """A short name for cards and logs."""

    def normal(self, n: int) -> np.ndarray:
        """``n`` independent standard normals, (n,) float64."""

    def poisson_mask(self, n: int, q: float) -> np.ndarray:
        """``n`` independent Bernoulli(q) draws, (n,) bool: true Poisson sampling, often of uneven size."""


class _KeyStream:
    """Bytes of a ChaCha20 keystream; one 256-bit key serves many 96-bit nonces."""

    def __init__(self, key: bytes) -> None:
        self._key, self._nonce, self._left = key, 0, 0

    def take(self, n: int) -> bytes:
        parts = []
        while n:
            if not self._left:
                nonce = bytes(4) + self._nonce.to_bytes(12, "little")
                self._cipher = Cipher(algorithms.ChaCha20(self._key, nonce), mode=None).encryptor()
                self._nonce, self._left = self._nonce + 1, _STREAM_BYTES
            size = min(n, self._left)
            parts.append(self._cipher.update(bytes(size)))
            self._left -= size
            n -= size
        return b"".join(parts)


def _uniform(stream: _KeyStream, n: int) -> np.ndarray:
    """(n,) multiples of 2^-53 in [0, 1)."""
    words = np.frombuffer(stream.take(8 * n), dtype="<u8")
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _normal(stream: _KeyStream, n: int) -> np.ndarray:
    pairs = (n + 1) // 2
    total = np.zeros(2 * pairs)
    for _ in range(_SUMMED):
        # 1 - u lies in (0, 1]: the logarithm is finite.
        radius = np.sqrt(-2.0 * np.log(1.0 - _uniform(stream, pairs)))
        angle = 2.0 * np.pi * _uniform(stream, pairs)
        total += np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))
    return total[:n] / np.sqrt(_SUMMED)


def _mask(stream: _KeyStream, n: int, q: float) -> np.ndarray:
    hint = "give the probability that a user joins one batch"
    return _uniform(stream, n) < real("sample_rate", q, above=0.0, at_most=1.0, hint=hint)


def _size(n: int) -> int:
    return whole("n", n, at_least=0, at_most=1 << 40, hint="give how many numbers to draw")


class SecureNoise:
    """Cryptographically secure noise under a fresh key from the operating system; the default.

    A copy, an unpickled copy and a forked child each get a key of their own, so noise never repeats.
    """

    private = True
    name = "chacha20-os-entropy"

    def __init__(self) -> None:
        self._rekey()

    def _rekey(self) -> None:
        self._stream, self._process = _KeyStream(os.urandom(32)), os.getpid()

    def _own(self) -> _KeyStream:
        if self._process != os.getpid():
            self._rekey()
        return self._stream

    def normal(self, n: int) -> np.ndarray:
        """``n`` independent standard normals, (n,) float64."""
        return _normal(self._own(), _size(n))

    def poisson_mask(self, n: int, q: float) -> np.ndarray:
        """``n`` independent Bernoulli(q) draws, (n,) bool."""
        return _mask(self._own(), _size(n), q)

    def __reduce__(self) -> tuple[Any, ...]:
        return SecureNoise, ()


class ReproducibleNoise:
    """The same numbers for the same seed and labels: for simulations and tests, **never private**.

    Args:
        seed: any int.
        labels: what tells streams apart, such as platform and round; each label sequence is its own stream.
    """

    private = False
    name = "chacha20-reproducible"

    def __init__(self, seed: int, *labels: str | int) -> None:
        whole("seed", seed, at_least=-(1 << 255), at_most=1 << 255, hint="give a whole number")
        text = repr(("fedcart noise 1", seed, *labels))
        self._stream = _KeyStream(hashlib.sha256(text.encode()).digest())

    def normal(self, n: int) -> np.ndarray:
        """``n`` standard normals, (n,) float64."""
        return _normal(self._stream, _size(n))

    def poisson_mask(self, n: int, q: float) -> np.ndarray:
        """``n`` Bernoulli(q) draws, (n,) bool."""
        return _mask(self._stream, _size(n), q)

    def __reduce__(self) -> NoReturn:
        raise TypeError("ReproducibleNoise is not copied: the copy would repeat its noise; make a new one")


def normal_like(source: NoiseSource, reference: torch.Tensor) -> torch.Tensor:
    """Standard normals in float64 with the shape and device of ``reference``."""
    flat = torch.from_numpy(source.normal(reference.numel()))
    return flat.view(reference.shape).to(reference.device)
