"""The events of the feedback loop: a list that was shown, and what a shopper did."""

import math
from dataclasses import dataclass
from enum import StrEnum

from clients.data.ids import has_lost_digits, one_spelling
from clients.errors import FeedbackError

ID_LENGTH = 128
"""The most characters of an id, a version or an arm."""
LIST_LENGTH = 1000
"""The most items of one list."""
ADDED_BY = "//"
"""Stands in the store between the arm of a list and the arm that added the item."""
_LATEST = 253_402_300_800.0  # the year 10000


class Kind(StrEnum):
    """What a shopper did with an item."""

    CLICK = "click"
    CART = "cart"
    PURCHASE = "purchase"


@dataclass(frozen=True)
class Impression:
    """One list that one shopper saw.

    event_id : the caller's; the same one twice counts once. request_id : of the answer that made the list.
    shopper, session : at least one. model_version, arm : what made the list; may be empty. items : what was
    shown, the first place first; position 0 is the first. time : unix seconds. item_arms : of a list that several arms
    made, the arm that added each item, or ""; empty otherwise.
    """

    event_id: str
    request_id: str
    shopper: str
    items: tuple[str, ...]
    time: float
    session: str = ""
    model_version: str = ""
    arm: str = ""
    item_arms: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _spell(self, "shopper", "session", "items")
        _require_ids(self, "event_id", "request_id")
        _require_optional(self, "shopper", "session", "model_version", "arm")
        _require_who(self.shopper, self.session)
        _require_time(self.time)
        if not 1 <= len(self.items) <= LIST_LENGTH:
            raise FeedbackError(
                f"items: an impression shows 1 to {LIST_LENGTH:,} items, not {len(self.items):,}."
            )
        for item in self.items:
            _require_id("items", item)
        if len(self.item_arms) not in {0, len(self.items)}:
            raise FeedbackError(
                f"item_arms: {len(self.item_arms):,} for {len(self.items):,} items: give one for each, or none."
            )
        for arm in {self.arm, *self.item_arms}:
            _require_short("arm", f"{self.arm}{ADDED_BY}{arm}" if self.item_arms else arm)
            if ADDED_BY in arm:
                raise FeedbackError(
                    f"arm: {arm!r} has {ADDED_BY!r}, which stands between a list's arm and an item's."
                )


@dataclass(frozen=True)
class Interaction:
    """One thing that one shopper did.

    request_id : of the list that led here; empty for none. value : a price or amount, or None. time : unix seconds.
    """

    event_id: str
    shopper: str
    item: str
    kind: Kind
    time: float
    request_id: str = ""
    session: str = ""
    value: float | None = None

    def __post_init__(self) -> None:
        _spell(self, "shopper", "session", "item")
        _require_ids(self, "event_id", "item")
        _require_optional(self, "shopper", "session", "request_id")
        _require_who(self.shopper, self.session)
        _require_time(self.time)
        if not isinstance(self.kind, Kind):
            raise FeedbackError(f"kind: {self.kind!r} is none of {', '.join(Kind)}.")
        if self.value is not None and not math.isfinite(self.value):
            raise FeedbackError(f"value: {self.value!r} is no finite number.")


FeedbackEvent = Impression | Interaction


def _spell(event: FeedbackEvent, *names: str) -> None:
    """Give ids their one spelling: what is stored is found again, and erased, by any certain one."""
    for name in names:
        value = getattr(event, name)
        one = _spelled(name, value) if isinstance(value, str) else tuple(_spelled(name, v) for v in value)
        object.__setattr__(event, name, one)


def _spelled(name: str, text: str) -> str:
    if has_lost_digits(text):
        raise FeedbackError(
            f"{name}: {text[:ID_LENGTH]!r} was written from a float that does not hold so many digits; send ids as text "
            "or integers."
        )
    return one_spelling(text)


def _require_ids(event: FeedbackEvent, *names: str) -> None:
    for name in names:
        _require_id(name, getattr(event, name))


def _require_id(name: str, text: str) -> None:
    if not text:
        raise FeedbackError(f"{name}: is missing.")
    _require_short(name, text)


def _require_optional(event: FeedbackEvent, *names: str) -> None:
    for name in names:
        _require_short(name, getattr(event, name))


def _require_short(name: str, text: str) -> None:
    if len(text) > ID_LENGTH:
        raise FeedbackError(f"{name}: {len(text):,} characters, at most {ID_LENGTH} are stored.")
    if not text.isprintable() or text != text.strip():
        raise FeedbackError(
            f"{name}: {text!r} has characters that cannot be seen, or space at an end; leave them out."
        )


def _require_who(shopper: str, session: str) -> None:
    if not (shopper or session):
        raise FeedbackError("shopper, session: at least one says whose event it is.")


def _require_time(time: float) -> None:
    if not 0 <= time < _LATEST:  # also refuses NaN
        raise FeedbackError(f"time: {time!r} is no unix time in seconds.")
