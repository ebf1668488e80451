"""A platform's items as products of the federation's vocabulary."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients.data.catalogue import Catalogue
from clients.data.products import products_of
from clients.errors import SiteError
from clients.site import SiteSettings
from shared_model.features import FeatureCache, make_encoders
from shared_model.stages import TableShape
from shared_model.vocabulary import Vocabulary
from shared_model.vocabulary_file import load_vocabulary


@dataclass(frozen=True, eq=False)
class Products:
    """of_item : (I,) the product of each item of a platform's catalogue, −1 for none."""

    vocabulary: Vocabulary
    of_item: NDArray[np.int64]

    @classmethod
    def of(
        cls, vocabulary: Vocabulary, catalogue: Catalogue, encoder_names: tuple[str, ...], cache: Path | None
    ) -> "Products":
        """Find each item's product: by its key, else by its public text where that is nearly the same.

        cache : the folder of item features, where the answer is kept; None to keep nothing.
        """
        encoders, kept = make_encoders(encoder_names), None if cache is None else FeatureCache(cache)
        return cls(vocabulary, products_of(catalogue, vocabulary, encoders, kept))

    @property
    def shape(self) -> TableShape:
        """The shape of the vocabulary's tables."""
        return TableShape(len(self.vocabulary), len(self.vocabulary.edges))

    @property
    def known(self) -> int:
        """How many items are a product of the vocabulary."""
        return int((self.of_item >= 0).sum())


def site_vocabulary(site: SiteSettings) -> Vocabulary:
    """Return the vocabulary that a platform approved.

    Raises SiteError if there is none, CheckpointError if it is damaged.
    """
    if site.vocabulary is None:
        raise SiteError(
            f"{site.name}: has no vocabulary of the federation yet. Get its file from the operator: fedcart client "
            "vocabulary FILE."
        )
    state = site.vocabulary.stat() if site.vocabulary.exists() else None
    return _loaded(site.vocabulary, state and (state.st_size, state.st_mtime_ns))


def vocabulary_named(site: SiteSettings, digest: str) -> Vocabulary:
    """Return a version that the platform approved, now or earlier; raise SiteError if it never did, CheckpointError."""
    newest = site_vocabulary(site)
    if newest.digest == digest:
        return newest
    for older in older_vocabularies(site):
        if older.digest == digest:
            return older
    raise SiteError(
        f"{site.name}: vocabulary {digest[:16]} was never approved here; {newest.digest[:16]} is in force. Get that "
        "version's files from the operator: fedcart client vocabulary FILE."
    )


def older_vocabularies(site: SiteSettings) -> Iterator[Vocabulary]:
    """Return the versions that were approved before the one in force."""
    files = sorted(older_folder(site.vocabulary).glob("*.safetensors")) if site.vocabulary else []
    return map(load_vocabulary, files)


def older_folder(vocabulary: Path) -> Path:
    """Return where the versions before the one in a file are kept, each under its digest."""
    return vocabulary.with_name("vocabularies")


@lru_cache(maxsize=4)
def _loaded(path: Path, state: tuple[int, int] | None) -> Vocabulary:
    """Read a vocabulary once for each state of its file."""
    return load_vocabulary(path)
