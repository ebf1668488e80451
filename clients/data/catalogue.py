"""The platform's catalogue: public information about its items, in file order."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from clients.data.distinct import codes_of
from clients.data.report import CleaningReport
from clients.data.spellings import Listed, refusal, texts, two_spellings
from clients.data.table import Table
from clients.data.validate import item_rules, rejected_rows
from clients.data.wanted import CODE, TEXT_COLUMNS
from clients.errors import DataError
from shared_model.attributes import Attributes
from shared_model.item_keys import ItemKeys, item_keys
from shared_model.public_text import public_text

_FEW = 4
"""Less than this part of the catalogue is few items to look up."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """`I` items. `item_ids` are unique and in file order; row `i` of `frame` describes `item_ids[i]`.

    `frame` holds those of `title, category, brand, description, text, product_code` (text or missing) and `price`
    (float64, NaN where unknown) that the file has, under a plain row index.
    """

    item_ids: tuple[str, ...]
    frame: pd.DataFrame

    def __len__(self) -> int:
        return len(self.item_ids)

    @cached_property
    def _index(self) -> "pd.Index[Any]":
        return pd.Index(self.item_ids, dtype="str")

    @cached_property
    def _ids(self) -> pa.Array:
        return pa.array(self.item_ids, pa.large_string())

    @cached_property
    def listed(self) -> Listed:
        """The ids, to find those of other tables that may be one of them in another spelling."""
        return Listed(self._ids)

    def index_of(self, ids: Iterable[str]) -> npt.NDArray[np.int64]:
        """Catalogue rows of `ids`, −1 for an id that is not in the catalogue."""
        if isinstance(ids, pd.Series):
            codes, names = codes_of(ids)
            return np.append(self.index_of(names), -1)[codes]
        wanted = ids if isinstance(ids, pd.Index) else pd.Index(list(ids), dtype="str")
        if len(wanted) * _FEW < len(self):
            return self._index.get_indexer(wanted).astype(np.int64)
        # Arrow looks up five times as fast, but hashes the whole catalogue each time.
        text = pa.array(wanted, pa.large_string())
        rows = pc.index_in(text, value_set=self._ids).fill_null(-1)
        return rows.to_numpy(zero_copy_only=False).astype(np.int64)

    def texts(self) -> list[str]:
        """One text per item: title, category, brand, description and text, joined, whitespace normalised."""
        return list(self._texts)

    @cached_property
    def _texts(self) -> tuple[str, ...]:
        columns = [self.frame[name].fillna("").tolist() for name in TEXT_COLUMNS if name in self.frame]
        return tuple(" ".join(" ".join(parts).split()) for parts in zip(*columns, strict=True))

    def column(self, name: str) -> list[str]:
        """One of the columns of text, "" where there is none."""
        return self.frame[name].fillna("").tolist() if name in self.frame else [""] * len(self)

    @cached_property
    def titles(self) -> tuple[str, ...]:
        """The title of each item, else its text, as it may be published."""
        pairs = zip(self.column("title"), self.column("text"), strict=True)
        return tuple(public_text(title or text) for title, text in pairs)

    @cached_property
    def brands(self) -> tuple[str, ...]:
        """The brand of each item as it may be published, "" where unknown."""
        return tuple(map(public_text, self.column("brand")))

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """The category of each item as it may be published, "" where unknown."""
        return tuple(map(public_text, self.column("category")))

    @cached_property
    def keys(self) -> ItemKeys:
        """The product key of each item: its code, else its title and brand."""
        codes = (
            self.frame[CODE].astype(object).where(self.frame[CODE].notna(), None)
            if CODE in self.frame
            else None
        )
        return item_keys(None if codes is None else codes.tolist(), self.titles, self.brands)

    def attributes(self) -> Attributes:
        """Brands, category paths and prices, as far as the file has the columns; no images."""
        return Attributes(
            brands=self.column("brand") if "brand" in self.frame else None,
            categories=self.column("category") if "category" in self.frame else None,
            prices=self.frame["price"].tolist() if "price" in self.frame else None,
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the ids and texts in order."""
        pairs = zip(self.item_ids, self._texts, strict=True)
        parts = [part.encode() for pair in pairs for part in pair]
        data = b"".join([len(part).to_bytes(8, "little") + part for part in parts])
        return hashlib.sha256(data).hexdigest()


def build_catalogue(table: Table, *, require_text: bool = True) -> tuple[Catalogue, CleaningReport]:
    """Build the catalogue from an items table.

    Dropped: rows without an id, without any text (unless `require_text=False`: such an item can only be
    ranked by what the platform itself learns), and later rows of an id (the first is kept). Kept but
    flagged: an item without a title that has other text, and an impossible price (which becomes NaN).
    Raises `DataError` when nothing is left, and where two ids may be one.
    """
    reasons = rejected_rows(table.frame, item_rules(require_text=require_text))
    frame = table.frame.drop(index=reasons.index)
    again = frame["item_id"].duplicated()
    reasons = pd.concat([reasons, pd.Series("duplicate_item_id", index=frame.index[again], dtype="str")])
    frame = frame[~again].copy()
    two = two_spellings(texts(frame["item_id"]))
    if two is not None:
        rows = [int(frame.index[frame["item_id"] == spelled][0]) for spelled in two]
        raise refusal(" and ".join(table.cell(row, "item_id") for row in rows), *two)
    dropped = {str(reason): int(count) for reason, count in reasons.value_counts(sort=False).items()}
    examples = {
        reason: table.cell(int(reasons.index[reasons == reason].min()), "item_id") for reason in dropped
    }
    if frame.empty:
        reason = max(dropped, key=lambda name: dropped[name])
        raise DataError(
            f"{table.source}: none of the {len(table.frame):,} items can be used: {reason.replace('_', ' ')} "
            f"(first: {examples[reason]}). Set columns.item and columns.title to the right columns."
        )
    flagged = {}
    described = frame[[name for name in TEXT_COLUMNS if name in frame]].notna().any(axis=1)
    if textless := int((~described).sum()):
        flagged["no_text"] = textless
    if "title" in frame and (untitled := int(frame["title"].isna().sum())):
        flagged["empty_title"] = untitled
    if "price" in frame:
        bad = np.isinf(frame["price"]) | (frame["price"] < 0)
        frame["price"] = frame["price"].mask(bad)
        flagged |= {"bad_price": int(bad.sum())} if bad.any() else {}
    catalogue = Catalogue(
        tuple(frame["item_id"].tolist()), frame.drop(columns="item_id").reset_index(drop=True)
    )
    report = CleaningReport(
        source=table.source,
        read=len(table.frame),
        kept=len(frame),
        dropped=dropped,
        flagged=flagged,
        items=len(frame),
        examples=examples,
    )
    return catalogue, report
