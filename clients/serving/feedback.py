"""From the messages of RecordFeedback to the events of `clients.feedback`, which are stored durably."""

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from clients.errors import StoreError
from clients.feedback import FeedbackEvent, Impression, Interaction, Kind, Recorded
from clients.serving.bounds import EVENTS
from clients.serving.errors import AskError
from clients.serving.v1 import serving_pb2 as messages

_KINDS = {
    messages.Interaction.CLICK: Kind.CLICK,
    messages.Interaction.CART: Kind.CART,
    messages.Interaction.PURCHASE: Kind.PURCHASE,
}


class FeedbackSink(Protocol):
    """Where feedback goes: a `FeedbackStore`, or what stands in for it."""

    def record(self, batch: Sequence[FeedbackEvent]) -> Recorded:
        """Store a batch durably, each event once; raise StoreError and store nothing if that fails."""
        ...


class NoFeedback:
    """A service without a store: says so, and never pretends."""

    def record(self, batch: Sequence[FeedbackEvent]) -> Recorded:
        """Raise StoreError."""
        raise StoreError("this service stores no feedback: nothing was taken.")


def read_feedback(request: messages.RecordFeedbackRequest, clock: Callable[[], float]) -> list[FeedbackEvent]:
    """Return the events; raise AskError, or FeedbackError for one that cannot be stored. `clock`: unix seconds."""
    events = len(request.impressions) + len(request.interactions)
    if events > EVENTS:
        raise AskError(
            f"impressions and interactions: are {events:,} together, and at most {EVENTS:,} are taken. Send fewer."
        )
    shown = [
        Impression(
            event_id=event.event_id,
            request_id=event.request_id,
            shopper=event.shopper_id,
            items=tuple(event.item_ids),
            time=event.time_ms / 1000 if event.time_ms else clock(),
            session=event.session_id,
            model_version=event.model_version,
            arm=event.arm,
            item_arms=tuple(event.item_arms),
        )
        for event in request.impressions
    ]
    done = [_interaction(event, clock) for event in request.interactions]
    return [*shown, *done]


def _interaction(event: messages.Interaction, clock: Callable[[], float]) -> Interaction:
    if event.kind not in _KINDS:
        raise AskError(
            f"interaction {event.event_id[:128]!r}: kind = {event.kind}: use CLICK, CART or PURCHASE."
        )
    if not math.isfinite(event.value):
        raise AskError(f"interaction {event.event_id[:128]!r}: value = {event.value}: give a finite number.")
    return Interaction(
        event_id=event.event_id,
        shopper=event.shopper_id,
        item=event.item_id,
        kind=_KINDS[event.kind],
        time=event.time_ms / 1000 if event.time_ms else clock(),
        request_id=event.request_id,
        session=event.session_id,
        value=event.value if event.HasField("value") else None,
    )
