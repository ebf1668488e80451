"""One platform, ready to train and to recommend: catalogue, features, split, popularity."""

from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Self

import numpy as np
import torch
from scipy import sparse

from clients.data import PlatformData, load_platform, load_store
from clients.data.catalogue import Catalogue, build_catalogue
from clients.data.columns import split_columns
from clients.data.images import read_images
from clients.data.read import read_items
from clients.data.report import CleaningReport
from clients.data.sequences import Ints
from clients.data.split import Part, Split, leave_one_out
from clients.data.store import open_store
from clients.data.views import first_purchases, single_events
from clients.errors import DataError, NoShopperError
from clients.site import SiteSettings
from clients.transitions import transitions
from shared_model.device import resolve_device, to_device
from shared_model.encoders import EncoderIdentity, require_same_identity
from shared_model.features import FeatureCache, catalogue_isolation, encode_catalogue, make_encoders
from shared_model.model import ModelSpec, block_norms


@dataclass(frozen=True, eq=False)
class Platform:
    """Everything a platform's client works on; private but for the catalogue and its features.

    features : (I, F) float32, norms : (I, E), isolation : (I,); all on the site's device. scoring : the precision of
    `table`. nobody : why there is no shopper, where there is none.
    """

    name: str
    catalogue: Catalogue
    split: Split
    spec: ModelSpec
    features: torch.Tensor
    norms: torch.Tensor
    isolation: torch.Tensor
    filter_seen: bool
    reports: tuple[CleaningReport, CleaningReport]
    fingerprint: str
    scoring: torch.dtype
    nobody: NoShopperError | None = field(default=None, kw_only=True)

    def require_shoppers(self) -> Self:
        """Return itself; raise NoShopperError, which says why, if it has no shopper."""
        if self.nobody is not None:
            raise self.nobody
        return self

    def __len__(self) -> int:
        return len(self.split.sequences)

    @property
    def device(self) -> torch.device:
        """Where features are and scores are computed."""
        return self.features.device

    @cached_property
    def table(self) -> torch.Tensor:
        """The (I, F) features that queries are multiplied with, in the precision that the site asks for."""
        return self.features.to(self.scoring)

    def popularity(self, which: Part) -> torch.Tensor:
        """Return (I,) float32: how many shoppers have each item before what `which` holds out (`Split.holders`).

        A function of all shoppers: it belongs to the local layer and never enters shared training.
        """
        return self._popularity_test if which == "test" else self._popularity_train

    def recent(self, which: Part) -> tuple[Ints, Ints]:
        """Return `split.padded(which, L)`, computed once: (U, L) items and ages."""
        return self._recent_test if which == "test" else self._recent_train

    def transitions(self, which: Part) -> sparse.csr_matrix:
        """Return `clients.transitions.transitions` (I, I), computed once: local, a function of all shoppers."""
        return self._transitions_test if which == "test" else self._transitions_train

    def seen(self, which: Part) -> tuple[Ints, Ints]:
        """Return `split.seen(which)`, computed once: the distinct items of each shopper's history as CSR."""
        return self._seen_test if which == "test" else self._seen_train

    @cached_property
    def _seen_train(self) -> tuple[Ints, Ints]:
        return self.split.seen("train")

    @cached_property
    def _seen_test(self) -> tuple[Ints, Ints]:
        return self.split.seen("test")

    @cached_property
    def _recent_train(self) -> tuple[Ints, Ints]:
        return self.split.padded("train", self.spec.history_length)

    @cached_property
    def _recent_test(self) -> tuple[Ints, Ints]:
        return self.split.padded("test", self.spec.history_length)

    @cached_property
    def _popularity_train(self) -> torch.Tensor:
        return self._holders("train")

    @cached_property
    def _popularity_test(self) -> torch.Tensor:
        return self._holders("test")

    def _holders(self, which: Part) -> torch.Tensor:
        return to_device(torch.from_numpy(self.split.holders(which, len(self.catalogue))), self.device)

    @cached_property
    def _transitions_train(self) -> sparse.csr_matrix:
        return transitions(self.split, "train", len(self.catalogue))

    @cached_property
    def _transitions_test(self) -> sparse.csr_matrix:
        return transitions(self.split, "test", len(self.catalogue))

    @cached_property
    def test_users(self) -> np.ndarray:
        """Positions of the shoppers who have a test target."""
        return np.flatnonzero(self.split.test_target >= 0)

    @cached_property
    def valid_users(self) -> np.ndarray:
        """Positions of the shoppers who have a validation target."""
        return np.flatnonzero(self.split.valid_target >= 0)


@lru_cache(maxsize=32)
def prepare_platform(
    site: "HashableSite",
    encoder_names: tuple[str, ...],
    width: int,
    history_length: int,
) -> Platform:
    """Load a platform's data and features. Cached per process: a client is asked once a round.

    It may have no shopper: then training draws noise alone, and whoever needs one calls `require_shoppers`. Raises
    DataError for unusable files, EncoderError for unusable encoders, DeviceError for a device that is not there.
    """
    settings = site.settings
    device = resolve_device(settings.compute.device)
    data = read_data(settings, may_be_empty=True)
    sequences = data.sequences
    if settings.task.first_purchases:
        sequences = first_purchases(sequences)
    if settings.task.hold_out == "event":
        sequences = single_events(sequences)
    split = leave_one_out(sequences, first_time_only=settings.task.filter_seen, seed=settings.seed)
    encoders = make_encoders(encoder_names)
    spec = ModelSpec.of([e.identity for e in encoders], width, history_length)
    attributes = replace(
        data.catalogue.attributes(),
        images={
            model: read_images(file, data.catalogue.item_ids)
            for model, file in settings.images.items()
            if any(name.startswith(f"image:{model}:") for name in encoder_names)
        },
    )
    texts, cache = data.catalogue.texts(), FeatureCache(settings.cache)
    features = to_device(torch.from_numpy(encode_catalogue(encoders, texts, cache, attributes)), device)
    norms = block_norms(spec, features)
    return Platform(
        name=settings.name,
        catalogue=data.catalogue,
        split=split,
        spec=spec,
        features=features,
        norms=norms,
        isolation=catalogue_isolation(encoders, texts, spec, features, norms, cache),
        scoring=torch.bfloat16 if settings.compute.scoring == "bfloat16" else torch.float32,
        filter_seen=settings.task.filter_seen,
        reports=(data.items_report, data.events_report),
        fingerprint=data.sequences.fingerprint(),
        nobody=data.nobody,
    )


def read_data(settings: SiteSettings, *, may_be_empty: bool = False) -> PlatformData:
    """Read a platform's events from its store if it has sources, else from its file; raise DataError, StoreError.

    Without a shopper it raises NoShopperError, unless that may be.
    """
    name = f"{settings.name}: columns"
    if settings.sources:
        return load_store(
            open_store(settings.store),
            settings.items,
            settings.columns or None,
            seed=settings.seed,
            min_events=settings.task.min_events,
            may_be_empty=may_be_empty,
            name=name,
        )
    if settings.events is None or settings.items is None:
        raise DataError(f"{settings.name}: no events or no items are set.")
    return load_platform(
        settings.events,
        settings.items,
        settings.columns or None,
        seed=settings.seed,
        min_events=settings.task.min_events,
        k_core=settings.task.research_k_core,
        may_be_empty=may_be_empty,
        name=name,
    )


def read_catalogue(settings: SiteSettings) -> Catalogue:
    """Read a platform's catalogue alone, without any event; raise DataError, StoreError."""
    columns = split_columns(settings.columns or None, f"{settings.name}: columns")[1]
    if settings.sources:
        store = open_store(settings.store)
        made = store.manifest().items
        if made is not None:
            return build_catalogue(read_items(store.path / made))[0]
    if settings.items is None:
        raise DataError(
            f"{settings.name}: there is no catalogue yet. Set items, or [catalogue] and run: fedcart client ingest."
        )
    return build_catalogue(read_items(settings.items, columns))[0]


class HashableSite:
    """A site's settings as a cache key: equal when the settings and the files' sizes and times are."""

    def __init__(self, settings: SiteSettings) -> None:
        self.settings = settings
        manifest = settings.store / "manifest.json"
        files = (settings.events, settings.items, manifest, *settings.images.values())
        self._key = (settings.model_dump_json(), *map(_state, files))

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HashableSite) and self._key == other._key


def _state(path: Path | None) -> tuple[int, int]:
    if path is None:
        return (0, 0)
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_size, status.st_mtime_ns)


def check_encoders(names: tuple[str, ...], theirs: list[EncoderIdentity]) -> None:
    """Raise EncoderError unless the encoders here are exactly the ones that the federation agreed on."""
    require_same_identity([e.identity for e in make_encoders(names)], theirs)
