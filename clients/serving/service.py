"""The gRPC service of `clients/serving/v1/serving.proto`: time limit and status codes; the engine does the rest.

Who may call, and how much a message may hold, is looked at before (`federation.rpc.guard`).
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

import grpc
import structlog
from grpc.aio import ServicerContext

from clients.errors import FeedbackError, StoreError
from clients.serving.asks import Who
from clients.serving.current import Current
from clients.serving.desk import Desk, FullError
from clients.serving.engine import audience, rank, similar
from clients.serving.errors import AskError, StoppedError, UnknownIdError
from clients.serving.explain import explain, profile
from clients.serving.feedback import read_feedback
from clients.serving.messages import (
    explained,
    header,
    profiled,
    read_boost,
    read_filters,
    read_recommend,
    read_who,
    recommended,
    scored_items,
)
from clients.serving.v1 import serving_pb2 as messages
from clients.serving.v1.serving_pb2_grpc import RecommenderServicer

_log = structlog.get_logger("fedcart.serving")
T = TypeVar("T")


_CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (UnknownIdError, grpc.StatusCode.NOT_FOUND),
    (AskError, grpc.StatusCode.INVALID_ARGUMENT),
    (FeedbackError, grpc.StatusCode.INVALID_ARGUMENT),
    (FullError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (StoreError, grpc.StatusCode.UNAVAILABLE),
    (StoppedError, grpc.StatusCode.CANCELLED),
)


class RecommenderService(RecommenderServicer):
    """One instance serves all calls, in one event loop. `seconds`: how long a question may take."""

    def __init__(self, current: Current, desk: Desk, seconds: float) -> None:
        self._current, self._desk, self._seconds = current, desk, seconds

    async def Recommend(
        self, request: messages.RecommendRequest, context: ServicerContext
    ) -> messages.RecommendResponse:
        """Answer with a list."""
        work = partial(self._list, request, read_who(request.who))
        return await self._answer(context, request.request_id, work)

    async def Rank(self, request: messages.RankRequest, context: ServicerContext) -> messages.RankResponse:
        """Answer with the candidates in order."""

        async def work(name: str) -> messages.RankResponse:
            who = self._current.joined(read_who(request.who))
            boosts = tuple(map(read_boost, request.boosts))
            found = await self._desk.other(lambda s, _: rank(s, who, request.candidate_ids, boosts))
            return messages.RankResponse(
                header=header(name, found),
                items=scored_items(found),
                cold=found.cold,
                unknown_item_ids=found.unknown,
            )

        return await self._answer(context, request.request_id, work)

    async def SimilarItems(
        self, request: messages.SimilarItemsRequest, context: ServicerContext
    ) -> messages.SimilarItemsResponse:
        """Answer with the nearest items."""

        async def work(name: str) -> messages.SimilarItemsResponse:
            filters = read_filters(request.filters, leave_out_seen=False)
            found = await self._desk.other(
                lambda s, _: similar(s, request.item_id, request.count or 10, filters)
            )
            return messages.SimilarItemsResponse(header=header(name, found), items=scored_items(found))

        return await self._answer(context, request.request_id, work)

    async def Audience(
        self, request: messages.AudienceRequest, context: ServicerContext
    ) -> messages.AudienceResponse:
        """Answer with shoppers."""

        async def work(name: str) -> messages.AudienceResponse:
            found = await self._desk.other(
                lambda s, stopped: audience(
                    s,
                    request.item_id,
                    request.count or 100,
                    leave_out_owners=request.leave_out_owners,
                    stopped=stopped,
                )
            )
            shoppers = [messages.ScoredShopper(shopper_id=who, score=score) for who, score in found.shoppers]
            return messages.AudienceResponse(header=header(name, found), shoppers=shoppers)

        return await self._answer(context, request.request_id, work)

    async def Profile(
        self, request: messages.ProfileRequest, context: ServicerContext
    ) -> messages.ProfileResponse:
        """Answer with a shopper's interests."""

        async def work(name: str) -> messages.ProfileResponse:
            return profiled(name, await self._desk.other(lambda s, _: profile(s, request.shopper_id)))

        return await self._answer(context, request.request_id, work)

    async def Explain(
        self, request: messages.ExplainRequest, context: ServicerContext
    ) -> messages.ExplainResponse:
        """Answer with contributions."""

        async def work(name: str) -> messages.ExplainResponse:
            who = self._current.joined(read_who(request.who))
            boosts = tuple(map(read_boost, request.boosts))
            found = await self._desk.other(lambda s, _: explain(s, who, request.item_id, boosts))
            return explained(name, found)

        return await self._answer(context, request.request_id, work)

    async def RecordFeedback(
        self, request: messages.RecordFeedbackRequest, context: ServicerContext
    ) -> messages.RecordFeedbackResponse:
        """Store feedback durably, then answer; its events count in their sessions from now on."""

        async def work(name: str) -> messages.RecordFeedbackResponse:
            batch = read_feedback(request, time.time)
            done = await self._desk.store(batch)
            for event in request.interactions:
                self._current.add(event.shopper_id, event.session_id, event.item_id)
            snapshot = self._current.snapshot
            return messages.RecordFeedbackResponse(
                header=messages.Header(request_id=name, model_version=snapshot.version),
                recorded=done.accepted,
                repeated_before=done.duplicates,
            )

        return await self._answer(context, request.request_id, work)

    async def Stream(
        self, requests: AsyncIterator[messages.StreamRequest], context: ServicerContext
    ) -> AsyncIterator[messages.StreamResponse]:
        """Answer each event of a session with a fresh list."""
        only_here = f"stream-{uuid.uuid4().hex}"
        opened: messages.RecommendRequest | None = None
        try:
            async for request in requests:
                if request.HasField("open") != (opened is None):
                    wrong = (
                        "belongs into the first message only"
                        if opened
                        else "the first message of a Stream needs it"
                    )
                    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"open: {wrong}")
                if opened is None:
                    opened, who = request.open, read_who(request.open.who)
                    who = replace(who, session=who.session or only_here)
                if request.item_id:
                    self._current.add(who.shopper, who.session, request.item_id)
                if request.text:
                    who = replace(who, texts=(*who.texts, request.text)[-10:])
                work = partial(self._list, opened, who)
                yield messages.StreamResponse(list=await self._answer(context, "", work))
        finally:
            self._current.sessions.end(only_here)

    async def _list(
        self, request: messages.RecommendRequest, who: Who, request_id: str
    ) -> messages.RecommendResponse:
        known, site = self._current.joined(who), self._current.snapshot
        ask = read_recommend(request, known, leave_out_seen=site.leave_out_seen)
        return recommended(request_id, await self._desk.recommend(ask))

    async def _answer(
        self, context: ServicerContext, request_id: str, work: Callable[[str], Awaitable[T]]
    ) -> T:
        """Return what `work` makes, given the request's id; end the call with the code of what goes wrong."""
        try:
            async with asyncio.timeout(self._seconds):
                return await work(request_id or uuid.uuid4().hex)
        except TimeoutError:
            await context.abort(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"took longer than {self._seconds:g} s; the work was stopped",
            )
        except tuple(kind for kind, _ in _CODES) as error:
            code = next(code for kind, code in _CODES if isinstance(error, kind))
            if (
                code is grpc.StatusCode.UNAVAILABLE
            ):  # a database's own words may quote a value: neither answer nor log
                _log.error("feedback-not-stored", code=getattr(error, "code", "store"))
                await context.abort(
                    code, "feedback could not be stored, and nothing of it was taken: send it again"
                )
            await context.abort(code, str(error))
        raise AssertionError("abort does not return")
