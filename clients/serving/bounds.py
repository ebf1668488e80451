"""How much a question may hold: the only place that says so. `docs/serving.md` and the `.proto` repeat it for callers."""

from clients.serving.v1 import serving_pb2
from federation.rpc.bounds import Bound, Bounds

SERVICE = serving_pb2.DESCRIPTOR.services_by_name["Recommender"]
MESSAGE_LIMIT = 262_144
"""Most bytes of a request; gRPC itself refuses a larger one."""
EVENTS = 1_000
"""Most impressions and interactions of one request, together."""
LABEL_SIZE, TEXT_SIZE = 2_048, 4_000
BOUNDS = Bounds(
    SERVICE,
    Bound(),
    {
        "request_id": Bound(size=128),
        "session_id": Bound(size=128),
        "Who.item_ids": Bound(entries=200),
        "Who.texts": Bound(TEXT_SIZE, entries=20),
        "StreamRequest.text": Bound(TEXT_SIZE),
        "Filters.categories": Bound(LABEL_SIZE, entries=1_000),
        "Filters.brands": Bound(LABEL_SIZE, entries=1_000),
        "Filters.exclude_item_ids": Bound(entries=5_000),
        "Boost.category": Bound(LABEL_SIZE),
        "Boost.brand": Bound(LABEL_SIZE),
        "RankRequest.candidate_ids": Bound(entries=2_000),
        "Impression.item_ids": Bound(entries=1_000),
        "Impression.item_arms": Bound(entries=1_000),
        "RecordFeedbackRequest.impressions": Bound(entries=EVENTS),
        "RecordFeedbackRequest.interactions": Bound(entries=EVENTS),
    },
)
