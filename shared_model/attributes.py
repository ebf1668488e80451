"""Item attributes as features: brand, category path, price, image. Each is a block of its own, of its own weight.

| name in `[model] encoders` | unit row                                                          | zero row where     |
|----------------------------|-------------------------------------------------------------------|--------------------|
| `brand`                    | the brand, hashed                                                 | there is no brand  |
| `category`                 | every prefix of the category path, hashed, weighed by rarity      | there is no path   |
| `price`                    | the quantile of the price within the platform's own catalogue     | no price is known  |
| `image:MODEL:WIDTH`        | the item's vector by image model MODEL, made elsewhere            | there is no vector |

A zero row counts nothing: the fused item is scaled to unit length over the blocks that it has
(`shared_model.model`), so an item without an image is compared by its text alone. A platform without any brand, price
or image still has the blocks, all zero, and so the model that everyone else has. A text alone has no attributes.

Everything comes from the public catalogue, never from events. There are no stored vocabularies: names are hashed.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np

from shared_model.encoders import Encode, EncoderIdentity, FloatArray, HashedWordsEncoder
from shared_model.errors import EncoderError


@dataclass(frozen=True, eq=False)
class Attributes:
    """What a catalogue says about its I items beside their texts; None where the platform has no such column.

    brands, categories : I texts, "" where unknown; a path is written from the root, such as "Beauty > Hair > Brushes".
    prices : I numbers ≥ 0 in one currency, NaN where unknown. images : (I, F) rows by image model, zero for none.
    """

    brands: Sequence[str] | None = None
    categories: Sequence[str] | None = None
    prices: Sequence[float] | None = None
    images: Mapping[str, FloatArray] = field(default_factory=dict)


@runtime_checkable
class AttributeEncoder(Protocol):
    """An encoder that looks at attributes. As an `Encoder` it sees texts alone, and so gives zero rows."""

    @property
    def identity(self) -> EncoderIdentity:
        """What must be equal on all sides."""
        ...

    def encode(self, texts: Sequence[str], catalogue: Sequence[str]) -> FloatArray:
        """Return (I, F) float32 zero rows."""
        ...

    def fitted(self, catalogue: Sequence[str]) -> Encode:
        """Return `encode` for one catalogue."""
        ...

    def encode_attributes(self, attributes: Attributes) -> FloatArray | None:
        """Return (I, F) float32 rows of length 1 or 0, or None where the platform has no such attribute."""
        ...


def zero_rows(texts: Sequence[str], identity: EncoderIdentity) -> FloatArray:
    """Return (I, F) float32 zeros."""
    return np.zeros((len(texts), identity.dimension), dtype=np.float32)


_SEPARATOR = re.compile(r"\s*[>|›»]\s*")


def brand_tokens(brand: str) -> list[str]:
    """Return the one token of a brand, whatever its case and spaces; none for an empty one.

    >>> brand_tokens(" Vive  Health"), brand_tokens(" ")
    (['vive health'], [])
    """
    name = " ".join(unicodedata.normalize("NFKC", brand).casefold().split())
    return [name] if name else []


def category_tokens(path: str) -> list[str]:
    """Return one token for every prefix of a path; levels are parted by one of ``> | › »``.

    >>> category_tokens("Beauty > Hair Care > Brushes")
    ['beauty', 'beauty > hair care', 'beauty > hair care > brushes']
    """
    levels = [token for level in _SEPARATOR.split(path) for token in brand_tokens(level)]
    return [" > ".join(levels[:depth]) for depth in range(1, len(levels) + 1)]


@dataclass(frozen=True)
class HashedAttributeEncoder:
    """A column of names, hashed: `HashedWordsEncoder` over whole tokens, each of which stands as one word.

    Attributes
    ----------
    name : of the encoder. column : which attribute it reads. tokens : what stands for one value.
    dimension : F. prior_weight : how much the block counts before training.
    """

    name: str
    column: Callable[[Attributes], Sequence[str] | None]
    tokens: Callable[[str], list[str]]
    dimension: int
    prior_weight: float

    @cached_property
    def _words(self) -> HashedWordsEncoder:
        return HashedWordsEncoder(dimension=self.dimension, buckets=2**15, bigram_weight=0.0)

    @cached_property
    def identity(self) -> EncoderIdentity:
        """The identity: the hash covers the hashing and how values are parted."""
        parts = f"{self.name} {self._words.identity.sha256} {_SEPARATOR.pattern}"
        digest = hashlib.sha256(parts.encode()).hexdigest()
        return EncoderIdentity(self.name, "1", digest, self.dimension, self.prior_weight)

    def encode(self, texts: Sequence[str], catalogue: Sequence[str]) -> FloatArray:
        """Return zero rows: a text has no attributes."""
        return zero_rows(texts, self.identity)

    def fitted(self, catalogue: Sequence[str]) -> Encode:
        """Return `encode`; the catalogue plays no part."""
        return lambda texts: self.encode(texts, catalogue)

    def encode_attributes(self, attributes: Attributes) -> FloatArray | None:
        """Return (I, F) unit rows, zero where there is no value."""
        values = self.column(attributes)
        if values is None:
            return None
        texts = [" ".join(map(_word, self.tokens(value))) for value in values]
        return self._words.encode(texts, texts)


_LETTERS = str.maketrans("0123456789", "ghijklmnop")


def _word(token: str) -> str:
    """Return a word of 16 letters that stands for a token."""
    return hashlib.sha256(token.encode()).hexdigest()[:16].translate(_LETTERS)


PRICE_CENTRES = 8


@dataclass(frozen=True)
class PriceEncoder:
    """The quantile of a price within its own catalogue, as Gaussian bumps on 8 centres: cosine about exp(−(Δ/0.29)²).

    A quantile has no currency and no scale, so a catalogue in yen and one in euros agree. Only a price of the public
    catalogue may stand here, never one that is read off receipts.

    >>> rows = PriceEncoder().encode_attributes(Attributes(prices=[1.0, 2.0, 900.0, float("nan")]))
    >>> bool(rows[0] @ rows[1] > rows[0] @ rows[2]), float(rows[3] @ rows[3])
    (True, 0.0)
    """

    prior_weight: float = 0.1

    @property
    def identity(self) -> EncoderIdentity:
        """The identity: the hash covers the number of centres."""
        digest = hashlib.sha256(f"fedcart price quantile {PRICE_CENTRES}".encode()).hexdigest()
        return EncoderIdentity("price", "1", digest, PRICE_CENTRES, self.prior_weight)

    def encode(self, texts: Sequence[str], catalogue: Sequence[str]) -> FloatArray:
        """Return zero rows: a text has no attributes."""
        return zero_rows(texts, self.identity)

    def fitted(self, catalogue: Sequence[str]) -> Encode:
        """Return `encode`; the catalogue plays no part."""
        return lambda texts: self.encode(texts, catalogue)

    def encode_attributes(self, attributes: Attributes) -> FloatArray | None:
        """Return (I, 8) unit rows, zero where there is no price. Equal prices have equal rows."""
        if attributes.prices is None:
            return None
        prices = np.asarray(attributes.prices, dtype=np.float64)
        known = np.isfinite(prices)
        rows = np.zeros((len(prices), PRICE_CENTRES), dtype=np.float32)
        if known.any():
            from scipy.stats import rankdata  # here: starts without prices need not wait for it

            quantile = (rankdata(prices[known]) - 0.5) / known.sum()
            centres = np.linspace(0, 1, PRICE_CENTRES)
            bumps = np.exp(-0.5 * ((quantile[:, None] - centres) * (PRICE_CENTRES - 1)) ** 2)
            rows[known] = bumps / np.linalg.norm(bumps, axis=1, keepdims=True)
        return rows


IMAGE_NAME = re.compile(r"image:(?P<model>[A-Za-z0-9._-]{1,64}):(?P<width>[1-9]\d{0,3})")


@dataclass(frozen=True)
class ImageEncoder:
    """Vectors that an image model made elsewhere, scaled to unit length.

    fedcart cannot see who made a vector. The identity is the model's name and width, on which a federation agrees.
    """

    model: str
    dimension: int
    prior_weight: float = 0.5

    @classmethod
    def named(cls, name: str) -> "ImageEncoder":
        """Return the encoder called `image:MODEL:WIDTH`; raise EncoderError for a name that is none."""
        match = IMAGE_NAME.fullmatch(name)
        if match is None:
            raise EncoderError(
                f"The encoder {name!r} cannot be used: write image:MODEL:WIDTH, the name of the model that made the "
                "vectors and how long they are, such as image:clip-vit-b-32:512."
            )
        return cls(match["model"], int(match["width"]))

    @property
    def identity(self) -> EncoderIdentity:
        """The identity: the hash covers the declared name."""
        name = f"image:{self.model}:{self.dimension}"
        digest = hashlib.sha256(f"fedcart {name}".encode()).hexdigest()
        return EncoderIdentity(name, "1", digest, self.dimension, self.prior_weight)

    def encode(self, texts: Sequence[str], catalogue: Sequence[str]) -> FloatArray:
        """Return zero rows: a text has no image."""
        return zero_rows(texts, self.identity)

    def fitted(self, catalogue: Sequence[str]) -> Encode:
        """Return `encode`; the catalogue plays no part."""
        return lambda texts: self.encode(texts, catalogue)

    def encode_attributes(self, attributes: Attributes) -> FloatArray | None:
        """Return (I, F) unit rows, zero where there is no vector; raise EncoderError for vectors of another width."""
        vectors = attributes.images.get(self.model)
        if vectors is None:
            return None
        if vectors.shape[1] != self.dimension:
            raise EncoderError(
                f"The vectors of images.{self.model} are {vectors.shape[1]} wide, and the federation's encoder "
                f"{self.identity.name} is {self.dimension} wide. Make them with the federation's image model."
            )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
