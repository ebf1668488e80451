"""What is asked and what is answered, in plain types: the same for gRPC, the shell and tests."""

from collections.abc import Callable
from dataclasses import dataclass, field

from clients.data.ids import one_spelling
from clients.serving.errors import AskError
from clients.serving.shelf import Boost, Filters

COUNT_LIMIT, AUDIENCE_LIMIT = 500, 10_000


def require_count(count: int, limit: int = COUNT_LIMIT) -> None:
    """Raise AskError unless 1 ≤ count ≤ limit."""
    if not 1 <= count <= limit:
        raise AskError(f"count = {count}: ask for 1 to {limit}.")


@dataclass(frozen=True)
class Who:
    """Who is asking: a shopper, a session's items (the oldest first) and texts; each may be left out.

    Shopper and session have their one spelling here, however they were sent.
    """

    shopper: str = ""
    session: str = ""
    items: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("shopper", "session"):
            object.__setattr__(self, name, one_spelling(getattr(self, name)))

    @property
    def unit(self) -> str:
        """What an experiment divides: the shopper, else the session."""
        return self.shopper or self.session


@dataclass(frozen=True)
class RecommendAsk:
    """See `RecommendRequest` in the .proto."""

    who: Who
    count: int = 10
    filters: Filters = field(default_factory=Filters)
    diversity: float = 0.0
    boosts: tuple[Boost, ...] = ()
    stopped: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        require_count(self.count)
        if not 0 <= self.diversity <= 1:
            raise AskError(f"diversity = {self.diversity}: give a number from 0 (off) to 1.")


@dataclass(frozen=True)
class ScoredItem:
    """An item of a list. `arm`: in a list that two arms made, the one that added it; else empty."""

    item: str
    score: float
    title: str
    arm: str = ""


@dataclass(frozen=True)
class ItemList:
    """A list, best first. `unknown`: ids of the question that the catalogue does not have."""

    version: str
    arm: str
    items: tuple[ScoredItem, ...]
    cold: bool = False
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShopperList:
    """Shoppers, best first, as (id, score)."""

    version: str
    arm: str
    shoppers: tuple[tuple[str, float], ...]
