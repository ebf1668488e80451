"""The key that two shops share for the same product: a GTIN or ISBN, a code of the trade, else title and brand.

| what an item has                                        | its key                                   |
|---------------------------------------------------------|-------------------------------------------|
| GTIN-8, UPC-12 (also without its leading 0), EAN-13, GTIN-14 | `gtin:` and 14 digits, zeros in front |
| ISBN-10 or ISBN-13 (an EAN-13 from 978 or 979)          | `isbn:` and 13 digits                     |
| any other text                                          | `code:` and the text, NFKC, case-folded   |
| no code, or one that says nothing (`Fault`)             | `title:` and title and brand, words only  |
| no title either                                         | none: the item is no product that two shops share |

Numbers of 8, 10, 12, 13 and 14 digits are read as GTIN or ISBN, and their check digit must be right: a code that was
mistyped would make two products one, so it is no key and the item falls back on title and brand. A trade that numbers
its products itself in so many digits writes letters before them. Numbers for use within one shop (GS1 restricted
circulation: in-store weights and labels) are another product in the next shop, and so no key either.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from enum import Enum


class Kind(Enum):
    """What a key was made of; the value begins its text."""

    GTIN = "gtin"
    ISBN = "isbn"
    CODE = "code"
    TITLE = "title"
    NONE = "none"


class Fault(Enum):
    """Why a code that an item has is not its key."""

    CHECK_DIGIT = "wrong check digit"
    IN_STORE = "number for use within one shop"
    ROUNDED = "rounded by a spreadsheet"
    PLACEHOLDER = "placeholder"
    TOO_LONG = "longer than a code is"


@dataclass(frozen=True)
class ProductKey:
    """A key in its one spelling; keys are equal if kind and text are.

    text : canonical, without the kind; "" for `Kind.NONE`. fault : why the item's code was passed over, if it was.
    """

    kind: Kind
    text: str
    fault: Fault | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.text}" if self.kind is not Kind.NONE else ""


MAX_CODE, MAX_WORDS = 100, 300
"""Letters of a code at most, and letters of a title or brand that count in a key."""
_LABELS = re.compile(r"(?:(?:urn:)?(?:isbn|gtin|ean|upc|jan)(?:[- ]?(?:8|1[0-4]))?[:# ]+)+")
_PUNCTUATION = re.compile(r"[\s\-\u2010-\u2015\u2212]+")
_FLOAT = re.compile(r"([0-9]+)\.0*")
_DIGITS, _ISBN10 = re.compile(r"[0-9]+"), re.compile(r"[0-9]{9}[0-9X]")
_ROUNDED = re.compile(r"\d[.,]\d+e\+?\d+")
_NO_WORD = re.compile(r"[\W_]+")
_PLACEHOLDERS = frozenset(
    {"n/a", "na", "nan", "none", "null", "unknown", "does not apply", "not available", "tbd"}
)
_IN_STORE = ("002", "004", "02")
"""How numbers begin, as GTIN-14, that each shop gives out itself: EAN 020-029, 040-049, 200-299; UPC 2 and 4."""


def product_key(code: str | None, title: str, brand: str) -> ProductKey:
    """Return an item's key; `code` as the platform spells it, None where it has none.

    >>> str(product_key("0-306-40615-2", "", "")), str(product_key("9780306406157.0", "", ""))
    ('isbn:9780306406157', 'isbn:9780306406157')
    >>> str(product_key("036000291452", "", "")), str(product_key("0036000291452", "", ""))
    ('gtin:00036000291452', 'gtin:00036000291452')
    >>> key = product_key("4006381333932", "Textmarker, gelb", "Stabilo")
    >>> str(key), key.fault.value
    ('title:textmarker gelb|stabilo', 'wrong check digit')
    """
    fault = None
    if code is not None and code.strip():
        read = _read_code(code)
        if isinstance(read, ProductKey):
            return read
        fault = read
    words = _words(title)
    if not words:
        return ProductKey(Kind.NONE, "", fault)
    return ProductKey(Kind.TITLE, f"{words[:MAX_WORDS]}|{_words(brand)[:MAX_WORDS]}", fault)


def check_digit(digits: str) -> str:
    """Return the GS1 check digit of the digits before it, whatever zeros stand in front.

    >>> check_digit("400638133393")
    '1'
    """
    total = sum(int(d) * (3 if place % 2 == 0 else 1) for place, d in enumerate(reversed(digits)))
    return str(-total % 10)


def _read_code(code: str) -> ProductKey | Fault:
    text = " ".join(_folded(code).split())
    label = _LABELS.match(text)
    text = text[label.end() :] if label else text
    if _ROUNDED.fullmatch(text):
        return Fault.ROUNDED
    whole = _FLOAT.fullmatch(text)
    text = whole[1] if whole else text
    return _number(_PUNCTUATION.sub("", text).upper()) or _text_code(text)


def _number(digits: str) -> ProductKey | Fault | None:
    """Return the key of a GTIN or ISBN, why it is none, or None for what is no such number."""
    if _ISBN10.fullmatch(digits) and digits.strip("0"):
        return _isbn10(digits)
    if not _DIGITS.fullmatch(digits):
        return None
    if not digits.strip("0"):
        return Fault.PLACEHOLDER
    lost_zero = len(digits) == 11 and check_digit(digits[:-1]) == digits[-1]  # a UPC in a column of numbers
    return _gtin(digits) if len(digits) in {8, 12, 13, 14} or lost_zero else None


def _text_code(folded: str) -> ProductKey | Fault:
    if folded in _PLACEHOLDERS or not _words(folded):
        return Fault.PLACEHOLDER
    return Fault.TOO_LONG if len(folded) > MAX_CODE else ProductKey(Kind.CODE, folded)


def _gtin(digits: str) -> ProductKey | Fault:
    if check_digit(digits[:-1]) != digits[-1]:
        return Fault.CHECK_DIGIT
    number = digits.zfill(14)
    if digits[0] in "02" if len(digits) == 8 else number.startswith(_IN_STORE):
        return Fault.IN_STORE
    if number.startswith(("0978", "0979")) and not number.startswith("09790"):  # 979-0 is printed music
        return ProductKey(Kind.ISBN, number[1:])
    return ProductKey(Kind.GTIN, number)


def _isbn10(digits: str) -> ProductKey | Fault:
    values = [10 if d == "X" else int(d) for d in digits]
    if sum(weight * value for weight, value in zip(range(10, 0, -1), values, strict=True)) % 11:
        return Fault.CHECK_DIGIT
    body = "978" + digits[:9]
    return ProductKey(Kind.ISBN, body + check_digit(body))


def _words(text: str) -> str:
    """Return the words of a text, case-folded, single blanks between them."""
    return _NO_WORD.sub(" ", _folded(text)).strip()


def _folded(text: str) -> str:
    """Return a text without regard to width and case of letters, and without letters that are not seen."""
    text = "".join(letter for letter in text if letter.isspace() or unicodedata.category(letter)[0] != "C")
    while (again := unicodedata.normalize("NFKC", text).casefold()) != text:
        text = again
    return text
