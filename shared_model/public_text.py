"""What of an item's text is published: printable, of bounded length, and the one text that neighbours are found by."""

from collections.abc import Sequence

MAX_TEXT = 500
"""Letters of a published title, brand or category at most."""


def public_text(text: str) -> str:
    """Return a text as it may be published: at most `MAX_TEXT` letters, all of them printable, single blanks.

    >>> public_text("Oat milk\\u202e,\\n 1 l")
    'Oat milk, 1 l'
    """
    shown = "".join(letter for letter in text if letter.isprintable() or letter.isspace())
    return " ".join(shown.split())[:MAX_TEXT].rstrip()


def public_texts(titles: Sequence[str], brands: Sequence[str], categories: Sequence[str]) -> list[str]:
    """Return (I,) the text that neighbours are found by: title, category, brand.

    >>> public_texts(["Oat milk"], [""], ["Food > Drinks"])
    ['Oat milk Food > Drinks']
    """
    return [" ".join(" ".join(parts).split()) for parts in zip(titles, categories, brands, strict=True)]
