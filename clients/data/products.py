"""A platform's items as products that other platforms know: by code, else by title and brand, else by text.

Public item data alone: nothing here looks at an event. So what is published of a catalogue (`published`), and which
item is which product (`products_of`), is the same whoever bought what.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from clients.data.catalogue import Catalogue
from shared_model.encoders import Encoder, identities_to_json
from shared_model.features import FeatureCache
from shared_model.public_text import public_texts
from shared_model.vocabulary import TEXT_MATCH, PublicCatalogue, Vocabulary

_EXACT = 2**24
"""Products that the cache's 32-bit numbers tell apart."""


def published(catalogue: Catalogue) -> PublicCatalogue:
    """Return what of a catalogue the federation would see: key, title, brand and category of each of its products.

    In the order of keys, so that it does not tell in which order the platform lists its items. Items without a key
    are left out; of several items with one key, the first describes it.
    """
    return PublicCatalogue.of(catalogue.keys.texts, catalogue.titles, catalogue.brands, catalogue.categories)


def products_of(
    catalogue: Catalogue,
    vocabulary: Vocabulary,
    encoders: Sequence[Encoder],
    cache: FeatureCache | None = None,
) -> npt.NDArray[np.int64]:
    """Return (I,) each item's product in a vocabulary, −1 where it has none: by key, else by the nearest text.

    Items with one key are one product, which stands here once for each. cache : where it is kept, for texts are
    compared with every product's.
    """
    texts = public_texts(catalogue.titles, catalogue.brands, catalogue.categories)

    def find() -> npt.NDArray[np.int64]:
        return vocabulary.products_by_text(catalogue.keys.texts, texts, encoders)

    if cache is None or len(vocabulary) > _EXACT:
        return find()
    known = hashlib.sha256(f"products 1 {vocabulary.digest} {TEXT_MATCH}\n".encode())
    for part in (identities_to_json([e.identity for e in encoders]), *catalogue.keys.texts, *texts):
        known.update(part.encode() + b"\n")  # none of them has a line break
    return cache.kept(known.hexdigest(), (len(catalogue),), lambda: find().astype(np.float32)).astype(
        np.int64
    )


@dataclass(frozen=True)
class CodeReport:
    """What a catalogue's product codes are worth, for the platform's own people.

    items : in the catalogue. with_code : of them with anything in the column of codes. valid : with a code that is
    their key. keyed : with any key. shared : with the key of another item, which is then the same product. faults :
    why codes are not used → items. overused : key that too many items have to be a product's → items. known : with a
    product of the vocabulary by key; None without one.
    """

    items: int
    with_code: int
    valid: int
    keyed: int
    shared: int
    faults: Mapping[str, int]
    overused: Mapping[str, int]
    known: int | None

    @classmethod
    def of(cls, catalogue: Catalogue, vocabulary: Vocabulary | None = None) -> Self:
        """Return the report of a catalogue, against a vocabulary where there is one."""
        keys = catalogue.keys
        return cls(
            items=len(catalogue),
            with_code=keys.with_code,
            valid=keys.coded,
            keyed=sum(keys.sizes.values()),
            shared=keys.shared,
            faults={fault.value: count for fault, count in keys.faults.items()},
            overused=keys.overused,
            known=None if vocabulary is None else int((vocabulary.products(keys.texts) >= 0).sum()),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report for a person, one line each."""
        if not self.with_code:
            out = [
                "no item has a product code, so its title and brand are its key: a product is shared with another shop "
                "only where both spell it alike. Set columns.code if there are GTINs, ISBNs or manufacturers' numbers"
            ]
        else:
            out = [f"items with a valid product code: {self.valid:,} of {self.items:,}"]
        out += [f"codes not used, {why}: {count:,}" for why, count in self.faults.items()]
        if "wrong check digit" in self.faults:
            out.append("(numbers of your trade with 8, 10, 12, 13 or 14 digits need letters before them)")
        out += [f"key not used, for {count:,} items have it: {key}" for key, count in self.overused.items()]
        if self.shared:
            out.append(f"items whose product is another item's as well: {self.shared:,}")
        if self.keyed < self.items:
            out.append(
                f"items without code and title, which no other shop can know: {self.items - self.keyed:,}"
            )
        if self.known is not None:
            out.append(f"items whose key is in the federation's vocabulary: {self.known:,} of {self.items:,}")
        return out
