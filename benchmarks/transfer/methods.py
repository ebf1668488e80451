"""The methods, as small objects with one interface: fit once per seed, then serve any audience.

A new kind of model is one more object like these, listed in `run.lineup`.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.provenance import code_of
from benchmarks.transfer.platforms import Audience, Platforms
from clients.evaluation import Scorer, choose_local
from clients.recommender import PRIOR, Popularity, Recommender
from shared_model.errors import BadInputError

Say = Callable[[str], None]


@dataclass(frozen=True)
class Served:
    """What ranks for an audience, and how it came about."""

    scorer: Scorer
    notes: dict[str, Any]


Serve = Callable[[Audience], Served]


class UnavailableError(BadInputError):
    """A method cannot run on this machine; the message says what it needs."""


class Method(Protocol):
    """One method of the comparison."""

    @property
    def name(self) -> str:
        """The method's name in cells, reports and `--only`."""
        ...

    def inputs(self) -> dict[str, Any]:
        """Return all that decides the result besides audience and seed, as JSON: part of every cell's key."""
        ...

    def serves(self, audience: Audience) -> bool:
        """Say whether the method has anything to say there."""
        ...

    def varies(self, audience: Audience) -> bool:
        """Say whether another seed can give another result there."""
        ...

    def fit(self, seed: int, folder: Path, say: Say) -> Serve:
        """Train what all audiences share and return what serves each; take up again what is in `folder`."""
        ...


@dataclass(frozen=True)
class PopularityMethod:
    """The same list for everyone."""

    name: str = "popularity"

    def inputs(self) -> dict[str, Any]:
        """Nothing but the audience decides."""
        return {"code": code_of(__name__)}

    def serves(self, audience: Audience) -> bool:
        """Everyone."""
        return True

    def varies(self, audience: Audience) -> bool:
        """Only the draw of few shoppers."""
        return audience.shots not in {0, None}

    def fit(self, seed: int, folder: Path, say: Say) -> Serve:
        """Nothing to train."""
        return lambda audience: Served(Popularity(audience.served(audience.own(seed))), {})


@dataclass(frozen=True)
class Prior:
    """Text alone: nothing is learned."""

    platforms: Platforms
    name: str = "prior"

    def inputs(self) -> dict[str, Any]:
        """The features decide."""
        return _of_features(self.platforms)

    def serves(self, audience: Audience) -> bool:
        """Everyone."""
        return True

    def varies(self, audience: Audience) -> bool:
        """Never."""
        return False

    def fit(self, seed: int, folder: Path, say: Say) -> Serve:
        """Nothing to train."""
        return lambda audience: Served(Recommender(audience.platform, PRIOR), {})


@dataclass(frozen=True)
class OwnLayer:
    """Text and the platform's own memory, their weights chosen on its validation shoppers."""

    platforms: Platforms
    name: str = "own"

    def inputs(self) -> dict[str, Any]:
        """The features decide."""
        return _of_features(self.platforms)

    def serves(self, audience: Audience) -> bool:
        """Whoever has shoppers to learn from."""
        return audience.shots != 0

    def varies(self, audience: Audience) -> bool:
        """Only the draw of few shoppers."""
        return audience.shots is not None

    def fit(self, seed: int, folder: Path, say: Say) -> Serve:
        """Each audience chooses for itself."""

        def serve(audience: Audience) -> Served:
            own = audience.own(seed)
            layer = choose_local(own)
            return Served(Recommender(audience.served(own), layer), {"local_layer": asdict(layer)})

        return serve


def _of_features(platforms: Platforms) -> dict[str, Any]:
    return {"features": platforms.study.features.model_dump(mode="json"), "code": code_of(__name__)}
