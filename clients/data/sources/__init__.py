"""Where a platform keeps its data, read in chunks: databases, files, RecBole, Amazon reviews, feedback."""

from clients.data.sources.raw import Mark, Raw
from clients.data.sources.settings import (
    AmazonSource,
    EventSource,
    FeedbackSource,
    FilesSource,
    ItemSource,
    RecboleSource,
    SqlSource,
)

__all__ = [
    "AmazonSource",
    "EventSource",
    "FeedbackSource",
    "FilesSource",
    "ItemSource",
    "Mark",
    "Raw",
    "RecboleSource",
    "SqlSource",
]
