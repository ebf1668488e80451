"""Between the messages of `serving.proto` and the engine's types."""

from clients.serving.asks import ItemList, RecommendAsk, ShopperList, Who
from clients.serving.errors import AskError
from clients.serving.explain import (
    Boosted,
    Explanation,
    InterestSummary,
    PastItem,
    Popularity,
    Reason,
    TakenAfter,
    Typed,
)
from clients.serving.shelf import Boost, Filters
from clients.serving.v1 import serving_pb2 as messages


def read_who(message: messages.Who) -> Who:
    """Return who asks."""
    return Who(message.shopper_id, message.session_id, tuple(message.item_ids), tuple(message.texts))


def read_filters(message: messages.Filters, *, leave_out_seen: bool) -> Filters:
    """Return filters; `leave_out_seen` is the site's own choice."""
    seen = {
        messages.Filters.SITE: leave_out_seen,
        messages.Filters.LEAVE_OUT: True,
        messages.Filters.KEEP: False,
    }
    stock = {messages.Filters.IN_STOCK: True, messages.Filters.ANY: False}
    if message.seen not in seen or message.stock not in stock:
        raise AskError(
            f"filters: seen = {message.seen} and stock = {message.stock}: use the values of the .proto."
        )
    return Filters(
        in_stock=stock[message.stock],
        categories=frozenset(message.categories),
        brands=frozenset(message.brands),
        min_price=message.min_price if message.HasField("min_price") else None,
        max_price=message.max_price if message.HasField("max_price") else None,
        leave_out_seen=seen[message.seen],
        exclude=frozenset(message.exclude_item_ids),
    )


def read_boost(message: messages.Boost) -> Boost:
    """Return a boost; raise AskError."""
    chosen = message.WhichOneof("of")
    return Boost(
        message.add,
        item=message.item_id if chosen == "item_id" else None,
        category=message.category if chosen == "category" else None,
        brand=message.brand if chosen == "brand" else None,
    )


def read_recommend(message: messages.RecommendRequest, who: Who, *, leave_out_seen: bool) -> RecommendAsk:
    """Return the question of `who`; raise AskError."""
    return RecommendAsk(
        who=who,
        count=message.count or 10,
        filters=read_filters(message.filters, leave_out_seen=leave_out_seen),
        diversity=message.diversity,
        boosts=tuple(map(read_boost, message.boosts)),
    )


def header(
    request_id: str, answer: ItemList | ShopperList | Explanation | InterestSummary
) -> messages.Header:
    """Return an answer's header."""
    return messages.Header(request_id=request_id, model_version=answer.version, arm=answer.arm)


def scored_items(answer: ItemList) -> list[messages.ScoredItem]:
    """Return a list's items."""
    return [
        messages.ScoredItem(item_id=i.item, score=i.score, title=i.title, arm=i.arm) for i in answer.items
    ]


def recommended(request_id: str, answer: ItemList) -> messages.RecommendResponse:
    """Return the answer to Recommend."""
    return messages.RecommendResponse(
        header=header(request_id, answer),
        items=scored_items(answer),
        cold=answer.cold,
        unknown_item_ids=answer.unknown,
    )


def profiled(request_id: str, answer: InterestSummary) -> messages.ProfileResponse:
    """Return the answer to Profile."""
    message = messages.ProfileResponse(header=header(request_id, answer), events=answer.events)
    for name in ("categories", "brands", "words"):
        shares = [messages.Interest(name=label, share=share) for label, share in getattr(answer, name)]
        getattr(message, name).extend(shares)
    if answer.prices is not None:
        message.price_low, message.price_median, message.price_high = answer.prices
    return message


def explained(request_id: str, answer: Explanation) -> messages.ExplainResponse:
    """Return the answer to Explain."""
    return messages.ExplainResponse(
        header=header(request_id, answer),
        score=answer.score,
        contributions=[contribution(reason, amount) for reason, amount in answer.reasons],
        words=[messages.WordContribution(word=word, amount=amount) for word, amount in answer.words],
    )


def contribution(reason: Reason, amount: float) -> messages.Contribution:
    """Return one contribution."""
    match reason:
        case PastItem(item):
            return messages.Contribution(past_item_id=item, amount=amount)
        case TakenAfter(item):
            return messages.Contribution(taken_after_item_id=item, amount=amount)
        case Typed(text):
            return messages.Contribution(text=text, amount=amount)
        case Popularity():
            return messages.Contribution(popularity=True, amount=amount)
        case Boosted():
            return messages.Contribution(boost=True, amount=amount)
