"""The study's platforms, loaded once, and the audiences that every method is judged on."""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.transfer.study import PlatformEntry, Recipe, Study
from clients.data.split import Part, Split
from clients.platform import HashableSite, Platform, prepare_platform
from clients.site import ComputeSettings, SiteSettings
from shared_model.errors import BadInputError
from simulations.folder import cache_folder
from simulations.scenario import PlatformSection


@dataclass(frozen=True)
class Audience:
    """Who is recommended to, and how many of their own shoppers the platform may learn from.

    Attributes
    ----------
    platform : whoever is `judged` is so whatever `shots` is, so audiences can be compared.
    shots : how many shoppers the platform has to learn from, whatever it learns: training, choices, popularity, which
        items follow each other. None is all of them. 0 is nothing: the shared model is served as it is, and popularity
        counts all histories. A judged shopper's own history is always known when it is served.
    member : whether the platform trained the shared model; with 0 shots its audience is called "as-is".
    most : at most so many test shoppers are judged; None for all.
    """

    platform: Platform
    shots: int | None
    member: bool = False
    most: int | None = None

    @property
    def label(self) -> str:
        """The shots as a word."""
        return label_of(self.shots, member=self.member)

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

    def transitions(self, which: Part) -> sparse.csr_matrix:
        """Return (I, I): which items follow each other among the few."""
        return self.few.transitions(which)


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
    """The platforms of a study, read from a data folder with a recipe's features."""

    study: Study
    recipe: Recipe
    data: Path

    @cached_property
    def loaded(self) -> dict[str, Platform]:
        """Every platform by its name, members first."""
        entries = [*self.study.members, *(p for p in self.study.platform if p.name == self.study.newcomer)]
        return {entry.name: self._load(entry) for entry in entries}

    @property
    def members(self) -> list[Platform]:
        """The platforms that train together."""
        return [self.loaded[entry.name] for entry in self.study.members]

    @property
    def audiences(self) -> list[Audience]:
        """Every member with its own layer and without; the newcomer without, with few and with all of its shoppers."""
        newcomer = self.loaded[self.study.newcomer]
        most = self.study.judged_members
        members = [Audience(p, shots, member=True, most=most) for p in self.members for shots in (None, 0)]
        return members + [Audience(newcomer, shots) for shots in (0, *self.study.shots, None)]

    def section(self, entry: PlatformEntry) -> PlatformSection:
        """Return a platform as a simulation's scenario has it."""
        return PlatformSection(
            name=entry.name,
            role="newcomer" if entry.name == self.study.newcomer else "member",
            events=self.data / entry.folder / "interactions.parquet",
            items=self.data / entry.folder / "items.parquet",
            columns=entry.columns,
            population_size=entry.population_size,
        )

    def _load(self, entry: PlatformEntry) -> Platform:
        section = self.section(entry)
        if not section.events.exists():
            raise BadInputError(
                f"{section.events}: there is no such file. --data (or FEDCART_DATA) must name a folder that holds "
                f"{entry.folder}/interactions.parquet and items.parquet; --quick needs no data."
            )
        model = self.recipe.model
        site = SiteSettings(
            name=entry.name,
            events=section.events,
            items=section.items,
            columns=entry.columns,
            task=self.recipe.task,
            population_size=entry.population_size,
            epsilon_cap=1.0,
            ledger="none",
            work=cache_folder(),
            cache=cache_folder() / "features",
            compute=ComputeSettings(scoring=self.study.scoring),
        )
        return prepare_platform(HashableSite(site), tuple(model.encoders), model.width, model.history_length)


def label_of(shots: int | None, *, member: bool) -> str:
    """Return an audience's label.

    >>> label_of(0, member=True), label_of(0, member=False), label_of(100, member=False), label_of(None, member=True)
    ('as-is', 'zero-shot', '100-shot', 'all')
    """
    return {None: "all", 0: "as-is" if member else "zero-shot"}.get(shots, f"{shots}-shot")


def fingerprint(platform: Platform) -> str:
    """Return what identifies a platform's data after cleaning: events, then catalogue."""
    return f"{platform.fingerprint[:16]}:{platform.catalogue.fingerprint[:16]}"
