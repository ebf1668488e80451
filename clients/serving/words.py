"""Words of items: which stand out, and how a score's part is shared out among them."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared_model.encoders import Encode

_WORD = re.compile(r"[^\W\d_]{2,}")
_COMMON = 0.2
"""A word of more than so many of the items says nothing about a shopper."""


def words_of(text: str) -> list[str]:
    """Return the distinct words of a text, in order, in lower case.

    >>> words_of("Oat milk, 1 L: oat")
    ['oat', 'milk']
    """
    return list(dict.fromkeys(_WORD.findall(text.lower())))


def document_frequencies(texts: Sequence[str]) -> Counter[str]:
    """Return in how many of the catalogue's texts each word is."""
    return Counter(itertools.chain.from_iterable(map(words_of, texts)))


def standing_out(
    texts: Sequence[str], weights: NDArray[np.float64], frequencies: Counter[str], size: int, count: int
) -> list[tuple[str, float]]:
    """Return the words that weighted texts have and the catalogue's `size` texts seldom (tf-idf, Spärck Jones 1972)."""
    total: dict[str, float] = {}
    for text, weight in zip(texts, weights, strict=True):
        for word in words_of(text):
            often = frequencies[word]
            if size < 10 or often <= _COMMON * size:
                total[word] = total.get(word, 0.0) + float(weight) * math.log(1 + size / max(often, 1))
    best = sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))[:count]
    together = math.fsum(value for _, value in best)
    return [(word, value / together) for word, value in best] if together > 0 else []


def share_out(amount: float, text: str, direction: NDArray[np.float32], encode: Encode) -> dict[str, float]:
    """Share `amount` out among the words of an item's text, in proportion to how far each alone goes along `direction`
    (F,), the gradient of the score in the item's features; words that lead away get nothing.

    An apportionment, exact in its sum: for an encoder that is linear in words it is each word's own part, up to pairs
    of words. A text without words gets {"": amount}, and one in which every word leads away shares equally.
    """
    words = words_of(text)
    if not words:
        return {"": amount}
    along = np.maximum(encode(words).astype(np.float64) @ direction.astype(np.float64), 0.0)
    shares = along / along.sum() if along.sum() > 0 else np.full(len(words), 1 / len(words))
    return {word: amount * float(share) for word, share in zip(words, shares, strict=True)}
