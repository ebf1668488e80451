"""The gRPC service of `clients/serving/v1/serving.proto`: token, time limit, status codes; the engine does the rest."""

import asyncio
import time
import traceback
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import grpc
import structlog
from grpc.aio import ServicerContext

from clients.errors import FeedbackError, StoreError
from clients.serving.asks import NAME_LIMIT, RecommendAsk, at_most
from clients.serving.current import Current
from clients.serving.desk import Desk, FullError
from clients.serving.door import Door
from clients.serving.engine import audience, rank, similar
from clients.serving.errors import AskError, StoppedError, UnknownIdError
from clients.serving.explain import explain, profile
from clients.serving.feedback import FeedbackSink, read_feedback
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

STREAM_SECONDS = 3600.0
"""A session in one call lasts so long at most."""
_log = structlog.get_logger("fedcart.serving")
T = TypeVar("T")


def _place(error: BaseException) -> str:
    """Return file and line where an error was raised: a log holds no value, and a message may."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "unknown"


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

    def __init__(
        self, current: Current, desk: Desk, door: Door, feedback: FeedbackSink, seconds: float
    ) -> None:
        self._current, self._desk, self._door = current, desk, door
        self._feedback, self._seconds = feedback, seconds

    async def Recommend(
        self, request: messages.RecommendRequest, context: ServicerContext
    ) -> messages.RecommendResponse:
        """Answer with a list."""

        async def work(name: str) -> messages.RecommendResponse:
            return recommended(name, await self._desk.recommend(self._read(request)))

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
            done = await asyncio.to_thread(self._feedback.record, batch)
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
        await self._door.require(context)
        opened: messages.RecommendRequest | None = None
        async for request in requests:
            if opened is None:
                if not request.HasField("open"):
                    await context.abort(
                        grpc.StatusCode.INVALID_ARGUMENT, "open: the first message of a Stream needs it"
                    )
                opened = request.open
                opened.who.session_id = opened.who.session_id or f"stream-{uuid.uuid4().hex}"
            elif request.HasField("open"):
                await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT, "open: belongs into the first message only"
                )
            if request.item_id:
                self._current.add(opened.who.shopper_id, opened.who.session_id, request.item_id)
            if request.text:
                texts = [*opened.who.texts, request.text][-10:]
                del opened.who.texts[:]
                opened.who.texts.extend(texts)
            question = opened

            async def work(name: str, question: messages.RecommendRequest = question) -> Any:
                return recommended(name, await self._desk.recommend(self._read(question)))

            yield messages.StreamResponse(list=await self._answer(context, "", work))

    def _read(self, request: messages.RecommendRequest) -> RecommendAsk:
        ask = read_recommend(request, leave_out_seen=self._current.snapshot.leave_out_seen)
        return replace(ask, who=self._current.joined(ask.who))

    async def _answer(
        self, context: ServicerContext, request_id: str, work: Callable[[str], Awaitable[T]]
    ) -> T:
        """Return what `work` makes, given the request's id; end the call with the code of what goes wrong."""
        await self._door.require(context)
        try:
            at_most("request_id (characters)", len(request_id), NAME_LIMIT)
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
        except (asyncio.CancelledError, grpc.aio.AbortError):
            raise
        except Exception as error:
            _log.error("internal", kind=type(error).__name__, at=_place(error))
            await context.abort(grpc.StatusCode.INTERNAL, "a bug of the service; its log says more")
        raise AssertionError("abort does not return")
