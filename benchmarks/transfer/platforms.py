"""The study's platforms, loaded once, and the audiences that every method is judged on."""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.transfer.study import PlatformEntry, Study
from clients.data.split import Part, Split
from clients.memory import Memory
from clients.platform import HashableSite, Platform, prepare_platform
from clients.site import ComputeSettings, SiteSettings
from shared_model.errors import BadInputError
from simulations.folder import cache_folder


@dataclass(frozen=True)
class Audience:
    """Who is recommended to, and how many of their own shoppers the platform may learn from.

    Attributes
    ----------
    platform : whoever is `judged` is so whatever `shots` is, so audiences can be compared.
    shots : how many shoppers the platform has to learn from, whatever it learns: training, choices, popularity, which
        items follow each other. None is all of them. 0 is nothing, but for popularity, which counts all histories. A
        judged shopper's own history is always known when it is served.
    most : at most so many test shoppers are judged; None for all.
    """

    platform: Platform
    shots: int | None
    most: int | None = None

    @property
    def label(self) -> str:
        """The shots as a word."""
        return label_of(self.shots)

    @property
    def judged(self) -> NDArray[np.int64]:
        """The positions of the test shoppers that are ranked, drawn once: the same for every method and seed."""
        users = self.platform.test_users
        if self.most is None or self.most >= len(users):
            return users
        return np.sort(np.random.default_rng(0).permutation(users)[: self.most])

    def own(self, seed: int) -> Platform:
        """Return the platform as far as it may learn from itself; another draw of shoppers for another seed."""
        if self.shots is None or self.shots >= len(self.platform):
            return self.platform
        chosen = np.random.default_rng([seed, self.shots]).choice(
            len(self.platform), self.shots, replace=False
        )
        return with_shoppers(self.platform, np.sort(chosen))

    def served(self, own: Platform) -> Platform:
        """Return the platform that is judged when only `own` was learned from."""
        if own is self.platform or self.shots == 0:
            return self.platform
        whole = {field.name: getattr(self.platform, field.name) for field in fields(Platform)}
        return FewShotPlatform(**whole, few=own)


@dataclass(frozen=True, eq=False)
class FewShotPlatform(Platform):
    """All shoppers of a platform, served with what few of them taught it.

    Everything that is a function of all shoppers is a function of `few` here; a test holds this against the
    recommender: no other shopper's events change what a shopper gets.
    """

    few: Platform

    def popularity(self, which: Part) -> torch.Tensor:
        """Return (I,): how many of the few have each item."""
        return self.few.popularity(which)

    def memory(self, which: Part) -> Memory:
        """Return what the few did."""
        return self.few.memory(which)


def with_shoppers(platform: Platform, positions: NDArray[np.int64]) -> Platform:
    """Return the platform with the shoppers at these positions only; the catalogue stays whole."""
    split = platform.split
    sequences = split.sequences.take(positions)
    shift = sequences.offsets[:-1] - split.sequences.offsets[:-1][positions]
    return replace(
        platform,
        split=Split(
            sequences,
            split.train_end[positions] + shift,
            split.valid_end[positions] + shift,
            split.valid_target[positions],
            split.test_target[positions],
        ),
    )


@dataclass(frozen=True)
class Platforms:
    """The platforms of a study, read from a data folder."""

    study: Study
    data: Path

    @cached_property
    def loaded(self) -> dict[str, Platform]:
        """Every platform by its name, members first."""
        entries = [*self.study.members, *(p for p in self.study.platform if p.name == self.study.newcomer)]
        return {entry.name: self._load(entry) for entry in entries}

    @property
    def audiences(self) -> list[Audience]:
        """Every member with all of its shoppers; the newcomer with none, with few and with all."""
        newcomer = self.loaded[self.study.newcomer]
        members = [Audience(self.loaded[p.name], None, self.study.judged_members) for p in self.study.members]
        return members + [Audience(newcomer, shots) for shots in (0, *self.study.shots, None)]

    def _load(self, entry: PlatformEntry) -> Platform:
        folder = self.data / entry.folder
        events = folder / "interactions.parquet"
        if not events.exists():
            raise BadInputError(
                f"{events}: there is no such file. --data (or FEDCART_DATA) must name a folder that holds "
                f"{entry.folder}/interactions.parquet and items.parquet; --quick needs no data."
            )
        site = SiteSettings(
            name=entry.name,
            events=events,
            items=folder / "items.parquet",
            columns=entry.columns,
            task=self.study.task,
            population_size=entry.population_size,
            epsilon_cap=1.0,
            ledger="none",
            work=cache_folder(),
            cache=cache_folder() / "features",
            compute=ComputeSettings(scoring=self.study.scoring),
        )
        features = self.study.features
        return prepare_platform(HashableSite(site), tuple(features.encoders), features.history_length)


def label_of(shots: int | None) -> str:
    """Return an audience's label.

    >>> label_of(0), label_of(100), label_of(None)
    ('zero-shot', '100-shot', 'all')
    """
    return {None: "all", 0: "zero-shot"}.get(shots, f"{shots}-shot")


def fingerprint(platform: Platform) -> str:
    """Return what identifies a platform's data after cleaning: events, then catalogue."""
    return f"{platform.fingerprint[:16]}:{platform.catalogue.fingerprint[:16]}"
