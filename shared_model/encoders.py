"""Text encoders: item text → frozen features, with an identity that all parties must share.

Two platforms can only exchange a model if they turn text into the same numbers. So an encoder has an
identity (name, version, hash of its weights, dimension), it travels with every message and model card, and
a different one is refused (`require_same_identity`).
"""

import hashlib
import itertools
import json
import math
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from shared_model.errors import EncoderError

FloatArray = NDArray[np.float32]
Encode = Callable[[Sequence[str]], FloatArray]
"""Texts → (I, F) float32 unit rows."""


@dataclass(frozen=True)
class EncoderIdentity:
    """What must be equal for two encoders to give the same features, and the same untrained model.

    prior_weight : > 0, how much the encoder's unit rows count in the untrained model, against the others' 1.
    """

    name: str
    version: str
    sha256: str
    dimension: int
    prior_weight: float = field(
        default=1.0, repr=False
    )  # features do not depend on it, nor do their caches' keys

    def __post_init__(self) -> None:
        if not (math.isfinite(self.prior_weight) and self.prior_weight > 0):
            raise EncoderError(
                f"{self.name}: prior_weight must be a finite number above 0, not {self.prior_weight}."
            )

    def __str__(self) -> str:
        prior = "" if self.prior_weight == 1 else f", counts {self.prior_weight:g} before training"
        return f"{self.name}/{self.version} ({self.dimension} wide, weights {self.sha256[:12]}{prior})"


class Encoder(Protocol):
    """Turns texts into unit rows; a text without a known word becomes a zero row.

    `encode` takes I texts, and the texts of the whole public catalogue for an encoder that weighs words by
    how common they are there, and returns (I, F) float32: the same on every machine for the same identity
    and catalogue.
    """

    @property
    def identity(self) -> EncoderIdentity:
        """What must be equal on all sides."""
        ...

    def encode(self, texts: Sequence[str], catalogue: Sequence[str]) -> FloatArray:
        """Return (I, F) float32 unit rows."""
        ...

    def fitted(self, catalogue: Sequence[str]) -> Encode:
        """Return `encode` for one catalogue, which is looked at once: for texts that come one at a time."""
        ...


def identities_to_json(identities: Sequence[EncoderIdentity]) -> str:
    """Return the identities as canonical JSON, as they travel in messages and model cards."""
    return json.dumps([asdict(i) for i in identities], sort_keys=True, separators=(",", ":"))


def identities_from_json(text: str) -> list[EncoderIdentity]:
    """Read what `identities_to_json` wrote; raise EncoderError if it is anything else."""
    try:
        return [EncoderIdentity(**entry) for entry in json.loads(text)]
    except (TypeError, ValueError) as error:
        raise EncoderError(f"The encoder identities {text[:200]!r} cannot be read: {error}.") from None


def require_same_identity(ours: Sequence[EncoderIdentity], theirs: Sequence[EncoderIdentity]) -> None:
    """Raise EncoderError, naming both identities, unless they are equal in every field and in order."""
    if list(ours) != list(theirs):
        raise EncoderError(
            "This side's encoders are not the federation's: "
            f"here [{', '.join(map(str, ours))}], there [{', '.join(map(str, theirs))}]. "
            "Features would not be comparable, so nothing was done. Install the federation's encoders "
            "(same name, version and weights), or ask its operator to change [model] encoders."
        )


_TOKEN = re.compile(r"[a-z]+|\d+(?:\.\d+)?")
# Words of English that say nothing about a product; their weight is 0.
_STOP_WORDS_TEXT = (
    "a an and are as at be but by for from has have in into is it its no not of off on or our per so that the "
    "their them then this to up was we were will with you your"
)
_STOP_WORDS = frozenset(_STOP_WORDS_TEXT.split())


@dataclass(frozen=True)
class HashedWordsEncoder:
    """Hashed words and bigrams with public weights, projected by a fixed random sign matrix. No download.

    Each token (a word, a number, or a pair of neighbouring words) is hashed to one of `buckets` rows of a
    sign matrix, and a text is the weighted sum of its tokens' rows, scaled to unit length. Cosines between
    texts then approximate those of their weighted bags of words: the hashing trick (Weinberger et al. 2009)
    and sparse random projection (Achlioptas 2003).

    A token weighs (weight of its kind) × log(1 + I/df), df being the number of texts of the platform's
    *public catalogue* that hold it (Spärck Jones 1972). It is a statistic of the catalogue, never of events,
    so it says nothing about a shopper; without it, words that every item shares drown the others
    (docs/decisions/0004-text-features.md has the measurement).

    Attributes
    ----------
    dimension : columns of the output, F.
    buckets : rows of the sign matrix; a power of two.
    word_weight, number_weight, bigram_weight : weight of a token by its kind.

    >>> encoder = HashedWordsEncoder(dimension=64)
    >>> catalogue = ["Organic oat milk 1 L", "oat milk organic", "garden hose", ""]
    >>> rows = encoder.encode(catalogue, catalogue)
    >>> bool(rows[0] @ rows[1] > rows[0] @ rows[2]), float(abs(rows[3]).sum())
    (True, 0.0)
    """

    dimension: int = 768
    buckets: int = 2**17
    word_weight: float = 1.0
    number_weight: float = 0.3
    bigram_weight: float = 0.5

    def __post_init__(self) -> None:
        if self.dimension <= 0 or self.dimension % 8:
            raise EncoderError(
                f"hashed-words: dimension must be a positive multiple of 8, not {self.dimension}."
            )

    @cached_property
    def identity(self) -> EncoderIdentity:
        """The identity: the hash covers the sign matrix, the token weights and the stop words."""
        digest = hashlib.sha256(self._packed_signs.tobytes())
        settings = (self.buckets, self.word_weight, self.number_weight, self.bigram_weight, _TOKEN.pattern)
        digest.update(repr((settings, sorted(_STOP_WORDS))).encode())
        return EncoderIdentity("hashed-words", "1", digest.hexdigest(), self.dimension)

    def encode(self, texts: Sequence[str], catalogue: Sequence[str]) -> FloatArray:
        """Return (I, F) float32 unit rows; see the class."""
        return self.fitted(catalogue)(texts)

    def fitted(self, catalogue: Sequence[str]) -> Encode:
        """Return what encodes texts with the weights of a catalogue."""
        frequency = np.zeros(self.buckets, dtype=np.float64)
        for text in catalogue:
            frequency[list(self._bag(text))] += 1
        rarity = np.log1p(max(len(catalogue), 1) / np.maximum(frequency, 1)).astype(np.float32)
        return lambda texts: self._encode(texts, rarity)

    def _encode(self, texts: Sequence[str], rarity: FloatArray) -> FloatArray:
        """Return (I, F) unit rows, given the (buckets,) weights of tokens."""
        bags = [self._bag(text) for text in texts]
        indptr = np.cumsum([0, *map(len, bags)])
        indices = np.fromiter((b for bag in bags for b in bag), dtype=np.int64, count=int(indptr[-1]))
        kinds = np.fromiter((w for bag in bags for w in bag.values()), dtype=np.float32, count=len(indices))
        used, columns = np.unique(indices, return_inverse=True)
        shape = (len(texts), len(used))
        counts = sparse.csr_matrix((kinds * rarity[indices], columns, indptr), shape=shape)
        bits = np.unpackbits(self._packed_signs[used], axis=1)
        signs = bits.astype(np.float32) * 2 - 1
        rows = np.asarray(counts @ signs, dtype=np.float32).reshape(len(texts), self.dimension)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)

    def _bag(self, text: str) -> dict[int, float]:
        """Return bucket → weight of one text."""
        tokens = [t for t in _TOKEN.findall(text.lower()) if t not in _STOP_WORDS]
        bag: dict[int, float] = {}
        for token in tokens:
            weight = self.number_weight if token[0].isdigit() else self.word_weight
            bucket = zlib.crc32(token.encode()) % self.buckets
            bag[bucket] = bag.get(bucket, 0.0) + weight
        for first, second in itertools.pairwise(tokens):
            bucket = zlib.crc32(f"{first} {second}".encode()) % self.buckets
            bag[bucket] = bag.get(bucket, 0.0) + self.bigram_weight
        return bag

    @cached_property
    def _packed_signs(self) -> NDArray[np.uint8]:
        """The (buckets, F/8) sign bits, from SHAKE-256: the same on every machine."""
        width = self.dimension // 8
        stream = hashlib.shake_256(b"fedcart hashed-words 1").digest(self.buckets * width)
        return np.frombuffer(stream, dtype=np.uint8).reshape(self.buckets, width)
