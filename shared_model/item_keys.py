"""The keys of a whole catalogue, and what is to be said about them. A function of public item data alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from shared_model.product_key import Fault, Kind, ProductKey, product_key

ITEMS_PER_KEY = 100
"""Items of one platform that may share a key. What more of them share is a placeholder or a family, not a product."""


@dataclass(frozen=True, eq=False)
class ItemKeys:
    """The keys of I items.

    texts : (I,) canonical keys, "" for an item without one. kinds : (I,) what each was made of. with_code : items that
    have a code. faults : why codes were passed over → items. overused : key that more than `ITEMS_PER_KEY` items had,
    and that none of them keeps → items.
    """

    texts: tuple[str, ...]
    kinds: tuple[Kind, ...]
    with_code: int
    faults: Mapping[Fault, int]
    overused: Mapping[str, int]

    @cached_property
    def coded(self) -> int:
        """How many items have a valid code for a key."""
        return sum(kind in (Kind.GTIN, Kind.ISBN, Kind.CODE) for kind in self.kinds)

    @cached_property
    def sizes(self) -> Counter[str]:
        """Key → how many items have it."""
        return Counter(text for text in self.texts if text)

    @cached_property
    def shared(self) -> int:
        """How many items have a key that another item has as well: these are one product."""
        return sum(size for size in self.sizes.values() if size > 1)


def item_keys(codes: Sequence[str | None] | None, titles: Sequence[str], brands: Sequence[str]) -> ItemKeys:
    """Return the keys of I items; `codes` is None where the platform has no column of codes.

    A code that more than `ITEMS_PER_KEY` items have is not used: they fall back on title and brand, and have no key
    where that is as common.

    >>> keys = item_keys(["4006381333931", None, "x"], ["Pen", "Pen", ""], ["", "", ""])
    >>> keys.texts, keys.coded
    (('gtin:04006381333931', 'title:pen|', 'code:x'), 2)
    """
    given: Sequence[str | None] = [None] * len(titles) if codes is None else codes
    keys = [product_key(*item) for item in zip(given, titles, brands, strict=True)]
    overused: dict[str, int] = {}
    for _ in range(2):  # codes at first, then titles that codes fell back on
        sizes = Counter(map(str, keys))
        common = {key: size for key, size in sizes.items() if key and size > ITEMS_PER_KEY}
        overused |= common
        keys = [
            _without(key, title, brand) if str(key) in common else key
            for key, title, brand in zip(keys, titles, brands, strict=True)
        ]
    return ItemKeys(
        tuple(map(str, keys)),
        tuple(key.kind for key in keys),
        sum(bool(code and code.strip()) for code in given),
        Counter(key.fault for key in keys if key.fault is not None),
        overused,
    )


def _without(key: ProductKey, title: str, brand: str) -> ProductKey:
    """Return the next best key of an item whose key is too common."""
    return ProductKey(Kind.NONE, "", key.fault) if key.kind is Kind.TITLE else product_key(None, title, brand)
