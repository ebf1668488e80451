"""From the messages of RecordFeedback to the platform's durable store of feedback."""

from dataclasses import dataclass
from time import time
from typing import Any, Protocol

from clients.serving.asks import at_most
from clients.serving.errors import AskError
from clients.serving.v1 import serving_pb2 as messages
from shared_model.errors import FedcartError

FEEDBACK_LIMIT = 1_000


class FeedbackError(FedcartError):
    """Feedback could not be stored; nothing of it was taken."""

    exit_code = 4
    code = "serving.feedback"


@dataclass(frozen=True)
class Recorded:
    """How many events were stored for the first time, and how many were there before."""

    recorded: int
    repeated: int


class FeedbackSink(Protocol):
    """Where feedback goes."""

    def record(self, batch: Any) -> Recorded:
        """Store a batch durably, each event_id once; raise FeedbackError and store nothing if that fails."""
        ...


@dataclass(frozen=True)
class NoFeedback:
    """A service without a store: says so, and never pretends."""

    def record(self, batch: Any) -> Recorded:
        """Raise FeedbackError."""
        raise FeedbackError("this service stores no feedback: nothing was taken.")


def read_feedback(request: messages.RecordFeedbackRequest) -> Any:
    """Return the events; raise AskError for one that cannot be used."""
    both = [*request.impressions, *request.interactions]
    at_most("impressions and interactions", len(both), FEEDBACK_LIMIT)
    for event in both:
        if not event.event_id or len(event.event_id) > 128:
            raise AskError("event_id: give each event 1 to 128 characters that no other event has.")
        if not (event.shopper_id or event.session_id):
            raise AskError(f"event {event.event_id}: needs a shopper_id or a session_id.")
    for event in request.interactions:
        if event.kind not in (1, 2, 3) or not event.item_id:
            raise AskError(
                f"interaction {event.event_id}: needs an item_id, and a kind CLICK, CART or PURCHASE."
            )
    return request, time()
