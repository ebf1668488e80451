"""All that answers are made of, at one moment: never changed, replaced whole."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from clients.feedback import assign_arm
from clients.serving.history import Shoppers
from clients.serving.index import NearIndex
from clients.serving.scoring import Scoring
from clients.serving.shelf import Shelf
from shared_model.encoders import Encode


@dataclass(frozen=True, eq=False)
class Arm:
    """One way of making lists: its scoring, and its index where the catalogue is large."""

    scoring: Scoring
    index: NearIndex | None = None


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One platform's model, catalogue and shoppers.

    version : the model's (SHA-256 of its card), or "prior". number : the version's number; 0 for "prior".
    shares : arm → its part of the shoppers. encode : typed text → (n, F) features.
    leave_out_seen, one_basket : what the site's task says. interleaved : both arms make each list (`interleave`).
    """

    platform: str
    version: str
    number: int
    shelf: Shelf
    shoppers: Shoppers
    arms: Mapping[str, Arm]
    shares: Mapping[str, float]
    encode: Encode
    leave_out_seen: bool
    one_basket: bool
    interleaved: bool = False

    def arm_of(self, unit: str) -> str:
        """Return the arm of a shopper or session."""
        return assign_arm(unit, self.shares, self.platform.encode())

    def only(self, arm: str) -> "Snapshot":
        """Return the same with everybody in one arm."""
        return replace(self, shares={arm: 1.0})

    def without(self, shoppers: frozenset[str]) -> "Snapshot":
        """Return the same without some shoppers: they are unknown from then on."""
        return replace(self, shoppers=self.shoppers.without(shoppers))
