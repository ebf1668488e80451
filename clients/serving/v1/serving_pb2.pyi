from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Header(_message.Message):
    __slots__ = ("request_id", "model_version", "arm")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model_version: str
    arm: str
    def __init__(self, request_id: _Optional[str] = ..., model_version: _Optional[str] = ..., arm: _Optional[str] = ...) -> None: ...

class Who(_message.Message):
    __slots__ = ("shopper_id", "session_id", "item_ids", "texts")
    SHOPPER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    shopper_id: str
    session_id: str
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, shopper_id: _Optional[str] = ..., session_id: _Optional[str] = ..., item_ids: _Optional[_Iterable[str]] = ..., texts: _Optional[_Iterable[str]] = ...) -> None: ...

class Filters(_message.Message):
    __slots__ = ("stock", "categories", "brands", "min_price", "max_price", "seen", "exclude_item_ids")
    class Stock(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        IN_STOCK: _ClassVar[Filters.Stock]
        ANY: _ClassVar[Filters.Stock]
    IN_STOCK: Filters.Stock
    ANY: Filters.Stock
    class Seen(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SITE: _ClassVar[Filters.Seen]
        LEAVE_OUT: _ClassVar[Filters.Seen]
        KEEP: _ClassVar[Filters.Seen]
    SITE: Filters.Seen
    LEAVE_OUT: Filters.Seen
    KEEP: Filters.Seen
    STOCK_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    BRANDS_FIELD_NUMBER: _ClassVar[int]
    MIN_PRICE_FIELD_NUMBER: _ClassVar[int]
    MAX_PRICE_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    stock: Filters.Stock
    categories: _containers.RepeatedScalarFieldContainer[str]
    brands: _containers.RepeatedScalarFieldContainer[str]
    min_price: float
    max_price: float
    seen: Filters.Seen
    exclude_item_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, stock: _Optional[_Union[Filters.Stock, str]] = ..., categories: _Optional[_Iterable[str]] = ..., brands: _Optional[_Iterable[str]] = ..., min_price: _Optional[float] = ..., max_price: _Optional[float] = ..., seen: _Optional[_Union[Filters.Seen, str]] = ..., exclude_item_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class Boost(_message.Message):
    __slots__ = ("item_id", "category", "brand", "add")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    BRAND_FIELD_NUMBER: _ClassVar[int]
    ADD_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    category: str
    brand: str
    add: float
    def __init__(self, item_id: _Optional[str] = ..., category: _Optional[str] = ..., brand: _Optional[str] = ..., add: _Optional[float] = ...) -> None: ...

class ScoredItem(_message.Message):
    __slots__ = ("item_id", "score", "title", "arm")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    score: float
    title: str
    arm: str
    def __init__(self, item_id: _Optional[str] = ..., score: _Optional[float] = ..., title: _Optional[str] = ..., arm: _Optional[str] = ...) -> None: ...

class RecommendRequest(_message.Message):
    __slots__ = ("who", "count", "filters", "diversity", "boosts", "request_id")
    WHO_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    DIVERSITY_FIELD_NUMBER: _ClassVar[int]
    BOOSTS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    who: Who
    count: int
    filters: Filters
    diversity: float
    boosts: _containers.RepeatedCompositeFieldContainer[Boost]
    request_id: str
    def __init__(self, who: _Optional[_Union[Who, _Mapping]] = ..., count: _Optional[int] = ..., filters: _Optional[_Union[Filters, _Mapping]] = ..., diversity: _Optional[float] = ..., boosts: _Optional[_Iterable[_Union[Boost, _Mapping]]] = ..., request_id: _Optional[str] = ...) -> None: ...

class RecommendResponse(_message.Message):
    __slots__ = ("header", "items", "cold", "unknown_item_ids")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    COLD_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    header: Header
    items: _containers.RepeatedCompositeFieldContainer[ScoredItem]
    cold: bool
    unknown_item_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, header: _Optional[_Union[Header, _Mapping]] = ..., items: _Optional[_Iterable[_Union[ScoredItem, _Mapping]]] = ..., cold: _Optional[bool] = ..., unknown_item_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class RankRequest(_message.Message):
    __slots__ = ("who", "candidate_ids", "boosts", "request_id")
    WHO_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_IDS_FIELD_NUMBER: _ClassVar[int]
    BOOSTS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    who: Who
    candidate_ids: _containers.RepeatedScalarFieldContainer[str]
    boosts: _containers.RepeatedCompositeFieldContainer[Boost]
    request_id: str
    def __init__(self, who: _Optional[_Union[Who, _Mapping]] = ..., candidate_ids: _Optional[_Iterable[str]] = ..., boosts: _Optional[_Iterable[_Union[Boost, _Mapping]]] = ..., request_id: _Optional[str] = ...) -> None: ...

class RankResponse(_message.Message):
    __slots__ = ("header", "items", "cold", "unknown_item_ids")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    COLD_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    header: Header
    items: _containers.RepeatedCompositeFieldContainer[ScoredItem]
    cold: bool
    unknown_item_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, header: _Optional[_Union[Header, _Mapping]] = ..., items: _Optional[_Iterable[_Union[ScoredItem, _Mapping]]] = ..., cold: _Optional[bool] = ..., unknown_item_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class SimilarItemsRequest(_message.Message):
    __slots__ = ("item_id", "count", "filters", "request_id")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    count: int
    filters: Filters
    request_id: str
    def __init__(self, item_id: _Optional[str] = ..., count: _Optional[int] = ..., filters: _Optional[_Union[Filters, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class SimilarItemsResponse(_message.Message):
    __slots__ = ("header", "items")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    header: Header
    items: _containers.RepeatedCompositeFieldContainer[ScoredItem]
    def __init__(self, header: _Optional[_Union[Header, _Mapping]] = ..., items: _Optional[_Iterable[_Union[ScoredItem, _Mapping]]] = ...) -> None: ...

class AudienceRequest(_message.Message):
    __slots__ = ("item_id", "count", "leave_out_owners", "request_id")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    LEAVE_OUT_OWNERS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    count: int
    leave_out_owners: bool
    request_id: str
    def __init__(self, item_id: _Optional[str] = ..., count: _Optional[int] = ..., leave_out_owners: _Optional[bool] = ..., request_id: _Optional[str] = ...) -> None: ...

class ScoredShopper(_message.Message):
    __slots__ = ("shopper_id", "score")
    SHOPPER_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    shopper_id: str
    score: float
    def __init__(self, shopper_id: _Optional[str] = ..., score: _Optional[float] = ...) -> None: ...

class AudienceResponse(_message.Message):
    __slots__ = ("header", "shoppers")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    SHOPPERS_FIELD_NUMBER: _ClassVar[int]
    header: Header
    shoppers: _containers.RepeatedCompositeFieldContainer[ScoredShopper]
    def __init__(self, header: _Optional[_Union[Header, _Mapping]] = ..., shoppers: _Optional[_Iterable[_Union[ScoredShopper, _Mapping]]] = ...) -> None: ...

class ProfileRequest(_message.Message):
    __slots__ = ("shopper_id", "request_id")
    SHOPPER_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    shopper_id: str
    request_id: str
    def __init__(self, shopper_id: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class Interest(_message.Message):
    __slots__ = ("name", "share")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    name: str
    share: float
    def __init__(self, name: _Optional[str] = ..., share: _Optional[float] = ...) -> None: ...

class ProfileResponse(_message.Message):
    __slots__ = ("header", "events", "categories", "brands", "words", "price_low", "price_median", "price_high")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    BRANDS_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    PRICE_LOW_FIELD_NUMBER: _ClassVar[int]
    PRICE_MEDIAN_FIELD_NUMBER: _ClassVar[int]
    PRICE_HIGH_FIELD_NUMBER: _ClassVar[int]
    header: Header
    events: int
    categories: _containers.RepeatedCompositeFieldContainer[Interest]
    brands: _containers.RepeatedCompositeFieldContainer[Interest]
    words: _containers.RepeatedCompositeFieldContainer[Interest]
    price_low: float
    price_median: float
    price_high: float
    def __init__(self, header: _Optional[_Union[Header, _Mapping]] = ..., events: _Optional[int] = ..., categories: _Optional[_Iterable[_Union[Interest, _Mapping]]] = ..., brands: _Optional[_Iterable[_Union[Interest, _Mapping]]] = ..., words: _Optional[_Iterable[_Union[Interest, _Mapping]]] = ..., price_low: _Optional[float] = ..., price_median: _Optional[float] = ..., price_high: _Optional[float] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("who", "item_id", "boosts", "request_id")
    WHO_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    BOOSTS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    who: Who
    item_id: str
    boosts: _containers.RepeatedCompositeFieldContainer[Boost]
    request_id: str
    def __init__(self, who: _Optional[_Union[Who, _Mapping]] = ..., item_id: _Optional[str] = ..., boosts: _Optional[_Iterable[_Union[Boost, _Mapping]]] = ..., request_id: _Optional[str] = ...) -> None: ...

class Contribution(_message.Message):
    __slots__ = ("past_item_id", "text", "taken_after_item_id", "popularity", "boost", "amount", "others")
    PAST_ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TAKEN_AFTER_ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    POPULARITY_FIELD_NUMBER: _ClassVar[int]
    BOOST_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    past_item_id: str
    text: str
    taken_after_item_id: str
    popularity: bool
    boost: bool
    amount: float
    others: bool
    def __init__(self, past_item_id: _Optional[str] = ..., text: _Optional[str] = ..., taken_after_item_id: _Optional[str] = ..., popularity: _Optional[bool] = ..., boost: _Optional[bool] = ..., amount: _Optional[float] = ..., others: _Optional[bool] = ...) -> None: ...

class WordContribution(_message.Message):
    __slots__ = ("word", "amount")
    WORD_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    word: str
    amount: float
    def __init__(self, word: _Optional[str] = ..., amount: _Optional[float] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("header", "score", "contributions", "words")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    header: Header
    score: float
    contributions: _containers.RepeatedCompositeFieldContainer[Contribution]
    words: _containers.RepeatedCompositeFieldContainer[WordContribution]
    def __init__(self, header: _Optional[_Union[Header, _Mapping]] = ..., score: _Optional[float] = ..., contributions: _Optional[_Iterable[_Union[Contribution, _Mapping]]] = ..., words: _Optional[_Iterable[_Union[WordContribution, _Mapping]]] = ...) -> None: ...

class Impression(_message.Message):
    __slots__ = ("event_id", "shopper_id", "session_id", "request_id", "model_version", "arm", "item_ids", "time_ms", "item_arms")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    SHOPPER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    ITEM_ARMS_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    shopper_id: str
    session_id: str
    request_id: str
    model_version: str
    arm: str
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    time_ms: int
    item_arms: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, event_id: _Optional[str] = ..., shopper_id: _Optional[str] = ..., session_id: _Optional[str] = ..., request_id: _Optional[str] = ..., model_version: _Optional[str] = ..., arm: _Optional[str] = ..., item_ids: _Optional[_Iterable[str]] = ..., time_ms: _Optional[int] = ..., item_arms: _Optional[_Iterable[str]] = ...) -> None: ...

class Interaction(_message.Message):
    __slots__ = ("event_id", "shopper_id", "session_id", "request_id", "kind", "item_id", "value", "time_ms")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSET: _ClassVar[Interaction.Kind]
        CLICK: _ClassVar[Interaction.Kind]
        CART: _ClassVar[Interaction.Kind]
        PURCHASE: _ClassVar[Interaction.Kind]
    KIND_UNSET: Interaction.Kind
    CLICK: Interaction.Kind
    CART: Interaction.Kind
    PURCHASE: Interaction.Kind
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    SHOPPER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    shopper_id: str
    session_id: str
    request_id: str
    kind: Interaction.Kind
    item_id: str
    value: float
    time_ms: int
    def __init__(self, event_id: _Optional[str] = ..., shopper_id: _Optional[str] = ..., session_id: _Optional[str] = ..., request_id: _Optional[str] = ..., kind: _Optional[_Union[Interaction.Kind, str]] = ..., item_id: _Optional[str] = ..., value: _Optional[float] = ..., time_ms: _Optional[int] = ...) -> None: ...

class RecordFeedbackRequest(_message.Message):
    __slots__ = ("impressions", "interactions", "request_id")
    IMPRESSIONS_FIELD_NUMBER: _ClassVar[int]
    INTERACTIONS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    impressions: _containers.RepeatedCompositeFieldContainer[Impression]
    interactions: _containers.RepeatedCompositeFieldContainer[Interaction]
    request_id: str
    def __init__(self, impressions: _Optional[_Iterable[_Union[Impression, _Mapping]]] = ..., interactions: _Optional[_Iterable[_Union[Interaction, _Mapping]]] = ..., request_id: _Optional[str] = ...) -> None: ...

class RecordFeedbackResponse(_message.Message):
    __slots__ = ("header", "recorded", "repeated_before")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    REPEATED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    header: Header
    recorded: int
    repeated_before: int
    def __init__(self, header: _Optional[_Union[Header, _Mapping]] = ..., recorded: _Optional[int] = ..., repeated_before: _Optional[int] = ...) -> None: ...

class StreamRequest(_message.Message):
    __slots__ = ("open", "item_id", "text")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    open: RecommendRequest
    item_id: str
    text: str
    def __init__(self, open: _Optional[_Union[RecommendRequest, _Mapping]] = ..., item_id: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class StreamResponse(_message.Message):
    __slots__ = ("list",)
    LIST_FIELD_NUMBER: _ClassVar[int]
    list: RecommendResponse
    def __init__(self, list: _Optional[_Union[RecommendResponse, _Mapping]] = ...) -> None: ...
