"""What is said of the items beside their features: ids, names, prices, stock; and the filters that ask for it."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clients.data.catalogue import Catalogue
from clients.data.ids import one_spelling
from clients.serving.errors import AskError
from clients.serving.words import document_frequencies

Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Labels:
    """One label an item, as codes (I,) into `names`; −1 for none."""

    codes: NDArray[np.int32]
    names: tuple[str, ...]

    @classmethod
    def of(cls, catalogue: Catalogue, column: str) -> "Labels":
        """Return a column's labels; all −1 where the catalogue has no such column."""
        if column not in catalogue.frame:
            return cls(np.full(len(catalogue), -1, dtype=np.int32), ())
        codes, names = pd.factorize(catalogue.frame[column])
        return cls(codes.astype(np.int32), tuple(str(name) for name in names))

    def among(self, wanted: Collection[str]) -> Bools:
        """Return (I,): whether an item's label is one of `wanted`."""
        chosen = np.array([name in wanted for name in self.names] + [False])
        return chosen[self.codes]  # −1 is the last, which is False


@dataclass(frozen=True)
class Filters:
    """What may be in a list. `None` and empty do not filter."""

    in_stock: bool = True
    categories: frozenset[str] = frozenset()
    brands: frozenset[str] = frozenset()
    min_price: float | None = None
    max_price: float | None = None
    leave_out_seen: bool = True
    exclude: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in ("min_price", "max_price"):
            price = getattr(self, name)
            if price is not None and not 0 <= price < np.inf:
                raise AskError(f"filters.{name} = {price}: give a price of 0 or more, or leave it out.")
        if self.min_price is not None and self.max_price is not None and self.min_price > self.max_price:
            raise AskError(
                f"filters.min_price = {self.min_price:g} is above max_price = {self.max_price:g}: exchange them."
            )


@dataclass(frozen=True)
class Boost:
    """`add` to the score of an item, or of all items of a category or brand: exactly one of the three is set."""

    add: float
    item: str | None = None
    category: str | None = None
    brand: str | None = None

    def __post_init__(self) -> None:
        if not -100 <= self.add <= 100:
            raise AskError(f"boosts.add = {self.add}: give a number between -100 and 100.")
        if sum(name is not None for name in (self.item, self.category, self.brand)) != 1:
            raise AskError("boosts: name an item_id, a category or a brand to add to.")


@dataclass(frozen=True, eq=False)
class Shelf:
    """`I` items in the catalogue's order. prices: (I,) float64, NaN where unknown. in_stock: (I,)."""

    ids: tuple[str, ...]
    rows: dict[str, int]
    titles: Sequence[str]
    texts: Sequence[str]
    categories: Labels
    brands: Labels
    prices: NDArray[np.float64]
    in_stock: Bools

    @classmethod
    def of(cls, catalogue: Catalogue, out_of_stock: Collection[str] = ()) -> "Shelf":
        """Build the shelf of a catalogue; an id of `out_of_stock` that it does not have plays no part."""
        frame, texts = catalogue.frame, catalogue.texts()
        titles = frame["title"].fillna("").tolist() if "title" in frame else [text[:80] for text in texts]
        size = len(catalogue)
        prices = frame["price"].to_numpy(dtype=np.float64) if "price" in frame else np.full(size, np.nan)
        rows = {item: row for row, item in enumerate(catalogue.item_ids)}
        in_stock = np.ones(size, dtype=bool)
        gone = map(one_spelling, out_of_stock)
        in_stock[[rows[item] for item in gone if item in rows]] = False
        return cls(
            catalogue.item_ids,
            rows,
            titles,
            texts,
            Labels.of(catalogue, "category"),
            Labels.of(catalogue, "brand"),
            prices,
            in_stock,
        )

    def find(self, item: str) -> int | None:
        """Return an item's row, None where the catalogue does not have it; any certain spelling of its id will do."""
        return self.rows.get(one_spelling(item))

    @cached_property
    def frequencies(self) -> Counter[str]:
        """In how many items each word is; computed when first asked for."""
        return document_frequencies(self.texts)

    def __len__(self) -> int:
        return len(self.ids)

    def allowed(self, filters: Filters, seen: Collection[int]) -> Bools | None:
        """Return (I,): which items may be in a list; None where all may."""
        masks = []
        if filters.in_stock and not self.in_stock.all():
            masks.append(self.in_stock)
        if filters.categories:
            masks.append(self.categories.among(filters.categories))
        if filters.brands:
            masks.append(self.brands.among(filters.brands))
        if filters.min_price is not None:
            masks.append(self.prices >= filters.min_price)
        if filters.max_price is not None:
            masks.append(self.prices <= filters.max_price)
        out = [row for row in map(self.find, filters.exclude) if row is not None]
        if filters.leave_out_seen:
            out.extend(seen)
        if out:
            left = np.ones(len(self), dtype=bool)
            left[out] = False
            masks.append(left)
        return np.logical_and.reduce(masks) if masks else None

    def boosted(self, boosts: Sequence[Boost]) -> NDArray[np.float32] | None:
        """Return (I,): what boosts add; None without any."""
        if not boosts:
            return None
        total = np.zeros(len(self), dtype=np.float32)
        for boost in boosts:
            if boost.item is not None:
                row = self.find(boost.item)
                if row is not None:
                    total[row] += boost.add
            elif boost.category is not None:
                total[self.categories.among({boost.category})] += boost.add
            elif boost.brand is not None:
                total[self.brands.among({boost.brand})] += boost.add
        return total
