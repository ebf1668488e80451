"""The products that the platforms of a trade share: public, versioned, named by a digest, all that a table is over.

Made from what platforms publish of their catalogues (`PublicCatalogue`: key, title, brand, category), and from nothing
else: no purchase plays a part. V products, E public edges: pairs of a product and one of its nearest by public text.
A newer version keeps the products of the old one in place, and its edges, so that what was released under an old
version carries over (`carried`, `carried_products`).

A product that one platform has under a code and another by title and brand alone is one: its title and brand stand
for the code where no two coded products share them.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from shared_model.encoders import Encoder
from shared_model.errors import BadInputError
from shared_model.neighbours import Progress, near_pairs, nearest, packed, silent, text_rows, unpacked
from shared_model.product_key import Kind, product_key
from shared_model.public_text import public_text, public_texts

NEIGHBOURS = 100
"""K, neighbours by text that each product has an edge with, at least."""
TEXT_MATCH = 0.95
"""Cosine by public text from which on an item without a product's key is that product."""


@dataclass(frozen=True, eq=False)
class PublicCatalogue:
    """What a platform publishes: P different products, each once, with its canonical key.

    Raises BadInputError where columns differ in length, a text has a line break, or a key is empty or there twice.
    """

    keys: tuple[str, ...]
    titles: tuple[str, ...]
    brands: tuple[str, ...]
    categories: tuple[str, ...]

    def __post_init__(self) -> None:
        columns = (self.keys, self.titles, self.brands, self.categories)
        lengths = sorted({len(column) for column in columns})
        if len(lengths) > 1:
            raise BadInputError(f"A published catalogue has columns of {lengths} lines; make it again.")
        broken = next((text for column in columns for text in column if "\n" in text), None)
        if broken is not None:
            raise BadInputError(f"A published text holds a line break: {broken[:80]!r}. Make it again.")
        _require_keys(self.keys)

    @classmethod
    def of(
        cls, keys: Sequence[str], titles: Sequence[str], brands: Sequence[str], categories: Sequence[str]
    ) -> Self:
        """Return what is published of I items, in the order of keys: the first item of each key describes it."""
        first = {key: row for row, key in reversed(list(enumerate(keys))) if key}
        rows = [first[key] for key in sorted(first)]
        picked = [tuple(public_text(column[row]) for row in rows) for column in (titles, brands, categories)]
        return cls(tuple(keys[row] for row in rows), *picked)

    def __len__(self) -> int:
        return len(self.keys)


def _require_keys(keys: Sequence[str]) -> None:
    if len(set(keys)) < len(keys) or "" in keys:
        twice = [key for key, times in Counter(keys).items() if times > 1 or not key]
        raise BadInputError(f"Product keys must differ and not be empty; {twice[:3]!r} are not so.")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """One version. Raises BadInputError where its parts do not fit together.

    number : 1, 2, …; 0 for the vocabulary of nothing. parent : digest of the version that it grew from, "" for the
    first. keys : (V,) canonical product keys, which a newer version keeps in place. titles, brands, categories : (V,).
    edges : (E, 2) int32, a < b, sorted and unique; a newer version keeps all.
    """

    number: int
    parent: str
    keys: tuple[str, ...]
    titles: tuple[str, ...]
    brands: tuple[str, ...]
    categories: tuple[str, ...]
    edges: NDArray[np.int32]

    def __post_init__(self) -> None:
        PublicCatalogue(self.keys, self.titles, self.brands, self.categories)
        shape, kind = self.edges.shape, self.edges.dtype
        if self.edges.ndim != 2 or shape[1] != 2 or kind != np.int32:
            raise BadInputError(f"Edges are pairs of 32-bit product numbers, not {kind} of shape {shape}.")
        low, high = self.edges[:, 0], self.edges[:, 1]
        inside = not len(self.edges) or bool(
            low.min() >= 0 and high.max() < len(self.keys) and (low < high).all()
        )
        if not inside or not bool((np.diff(self._edge_numbers) > 0).all()):
            raise BadInputError(
                f"The edges of a vocabulary are pairs a < b of its {len(self.keys)} products, sorted, each once; "
                "these are not. Ask the federation's operator for the file again."
            )

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def empty(cls) -> Self:
        """Return the vocabulary that has no product yet, from which the first version grows."""
        return cls(0, "", (), (), (), (), np.zeros((0, 2), dtype=np.int32))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything in it, in hex: the version's name, the same on every machine."""
        total = hashlib.sha256(f"fedcart-vocabulary/1 {self.number} {self.parent} {len(self)}\n".encode())
        for column in (self.keys, self.titles, self.brands, self.categories):
            total.update("\n".join(column).encode() + b"\n\n")
        total.update(np.ascontiguousarray(self.edges, dtype="<i4").data)
        return total.hexdigest()

    @property
    def texts(self) -> list[str]:
        """The public text of each product: title, category and brand."""
        return public_texts(self.titles, self.brands, self.categories)

    @cached_property
    def _edge_numbers(self) -> NDArray[np.int64]:
        return packed(self.edges[:, 0], self.edges[:, 1])

    @cached_property
    def _products(self) -> dict[str, int]:
        """Key → product; and the title and brand of a coded product → it, where no other has them."""
        return _titles_of_coded(self.keys, self.titles, self.brands) | {
            key: number for number, key in enumerate(self.keys)
        }

    def products(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """Return (I,) the product of each item's key, −1 where there is none."""
        return np.fromiter((self._products.get(key, -1) for key in keys), dtype=np.int64, count=len(keys))

    def products_by_text(
        self,
        keys: Sequence[str],
        texts: Sequence[str],
        encoders: Sequence[Encoder],
        at_least: float = TEXT_MATCH,
    ) -> NDArray[np.int64]:
        """Return (I,) what `products` does, and for items that it finds none for the nearest by text.

        texts : (I,) as `public_texts` makes them. at_least : cosine below which an item has no product.
        """
        found = self.products(keys)
        open_ = np.flatnonzero(found < 0)
        if len(open_) and len(self):
            near, cosine = nearest(
                text_rows(encoders, self.texts), [texts[int(row)] for row in open_], self.texts
            )
            found[open_] = np.where(cosine >= at_least, near, -1)
        return found

    def grown(
        self,
        catalogues: Sequence[PublicCatalogue],
        encoders: Sequence[Encoder],
        neighbours: int = NEIGHBOURS,
        progress: Progress = silent,
    ) -> "Vocabulary":
        """Return the next version: this one's products, those of the catalogues that are new, and all edges.

        New products follow in the order of their keys, and one that several catalogues describe is described as most
        do, so the order of the catalogues plays no part. Where there is nothing new, this version itself comes back.
        """
        kept = set(self.keys)
        described: dict[str, Counter[tuple[str, str, str]]] = {}
        for catalogue in catalogues:
            rows = zip(catalogue.titles, catalogue.brands, catalogue.categories, strict=True)
            for key, row in zip(catalogue.keys, rows, strict=True):
                if key not in kept:
                    described.setdefault(key, Counter())[row] += 1
        new = {key: min(said, key=lambda row: (-said[row], row)) for key, said in described.items()}
        coded = {key: row for key, row in new.items() if not _by_title(key)}
        known = _titles_of_coded(
            (*self.keys, *coded),
            (*self.titles, *(row[0] for row in coded.values())),
            (*self.brands, *(row[1] for row in coded.values())),
        )
        added = sorted(key for key in new if key not in known)
        if not added:
            return self
        columns = list(zip(*(new[key] for key in added), strict=True))
        titles, brands, categories = (
            self.titles + columns[0],
            self.brands + columns[1],
            self.categories + columns[2],
        )
        texts = public_texts(titles, brands, categories)
        edges = near_pairs(text_rows(encoders, texts), texts, neighbours, progress)
        if len(self.edges):
            edges = unpacked(np.union1d(packed(edges[:, 0], edges[:, 1]), self._edge_numbers))
        parent = self.digest if self.number else ""
        return Vocabulary(self.number + 1, parent, (*self.keys, *added), titles, brands, categories, edges)


def carried(old: Vocabulary, new: Vocabulary, values: NDArray[Any]) -> NDArray[Any]:
    """Return (E_new,) of a newer version from (E_old,) values on an older one's edges: 0 on edges that came since.

    Raises BadInputError where `new` did not grow from `old`.
    """
    _require_grown(old, new)
    at = np.searchsorted(new._edge_numbers, old._edge_numbers)
    out = np.zeros(len(new.edges), dtype=values.dtype)
    out[at] = values
    return out


def carried_products(old: Vocabulary, new: Vocabulary, values: NDArray[Any]) -> NDArray[Any]:
    """Return (V_new,) of a newer version from (V_old,) values: 0 for products that came since. Raises as `carried`."""
    _require_grown(old, new)
    return np.concatenate([values, np.zeros(len(new) - len(old), dtype=values.dtype)])


def _require_grown(old: Vocabulary, new: Vocabulary) -> None:
    kept = new.keys[: len(old)] == old.keys
    if not kept or not np.isin(old._edge_numbers, new._edge_numbers, assume_unique=True).all():
        raise BadInputError(
            f"Vocabulary {new.number} ({new.digest[:12]}) did not grow from {old.number} ({old.digest[:12]}): "
            "nothing that was made under one carries over to the other."
        )


def _by_title(key: str) -> bool:
    return key.startswith(f"{Kind.TITLE.value}:")


def _titles_of_coded(keys: Sequence[str], titles: Sequence[str], brands: Sequence[str]) -> dict[str, int]:
    """Return the key by title and brand → the product with a code that alone has them."""
    found: dict[str, int] = {}
    several: set[str] = set()
    for number, (key, title, brand) in enumerate(zip(keys, titles, brands, strict=True)):
        if _by_title(key):
            continue
        name = str(product_key(None, title, brand))
        if name in found:
            several.add(name)
        found[name] = number
    return {name: number for name, number in found.items() if name and name not in several}
