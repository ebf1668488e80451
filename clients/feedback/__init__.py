"""What was shown to shoppers and what came of it. It stays on the platform.

`store` keeps it durably, `assignment` says who sees what, `metrics` and `report` say how it went.
"""

from clients.feedback.assignment import assign_arm
from clients.feedback.events import FeedbackEvent, Impression, Interaction, Kind
from clients.feedback.store import FeedbackStore, Recorded

__all__ = [
    "FeedbackEvent",
    "FeedbackStore",
    "Impression",
    "Interaction",
    "Kind",
    "Recorded",
    "assign_arm",
]
