"""One interceptor in front of all methods of a server, so that none can be added without it.

| a call                                                | ends with                                             |
|-------------------------------------------------------|-------------------------------------------------------|
| of somebody who may not                               | as `admit` ends it, before anything of it is read     |
| of somebody with `calls` open calls of the method     | RESOURCE_EXHAUSTED, before anything of it is read     |
| a message that is none, or above its bounds           | INVALID_ARGUMENT, naming field, size and bound        |
| a message that does not come, an answer that is not   | DEADLINE_EXCEEDED after `message` seconds; between    |
| taken                                                 | two messages of a stream, after `idle` seconds        |
| that lasts longer than `whole` seconds                | DEADLINE_EXCEEDED                                     |
| an error that the method did not mean                 | INTERNAL; the log says where, and nothing of the data |

gRPC's own handlers of single messages read the message before any of this and send the answer after it, for as long as
the caller likes; so here every method is a stream for gRPC, which callers cannot tell.
"""

import asyncio
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import structlog
from grpc.aio import EOF, AbortError, ServerInterceptor, ServicerContext

from federation.rpc.bounds import Bounds, Unreadable

_log = structlog.get_logger("fedcart.rpc")
T = TypeVar("T")
Admit = Callable[[str, ServicerContext], Awaitable[str]]
"""(method, call) → who calls; "" for nobody in particular. Ends the call of who may not."""


@dataclass(frozen=True)
class CallLimits:
    """How many open calls of one method a caller may have, and for how many seconds one waits (see above)."""

    calls: int
    message: float = 30.0
    idle: float = 600.0
    whole: float = 3600.0


class Call:
    """What a method gets as its context: gRPC's, the caller's name, and an end to waiting."""

    def __init__(self, context: ServicerContext, caller: str, limits: CallLimits) -> None:
        self.caller, self._context, self._limits = caller, context, limits
        self.ended = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def abort(self, code: grpc.StatusCode, why: str) -> None:
        """End the call; raises AbortError."""
        self.ended = True
        await self._context.abort(code, why)

    async def read(self, seconds: float) -> Any:
        """Return the next message, or EOF; end the call if none comes, or one that is not taken."""
        message = await self.within(seconds, self._context.read(), "no message came")
        if isinstance(message, Unreadable):
            await self.abort(grpc.StatusCode.INVALID_ARGUMENT, message.why)
        return message

    async def messages(self) -> AsyncIterator[Any]:
        """Yield the messages of a stream."""
        while (message := await self.read(self._limits.idle)) is not EOF:
            yield message

    async def single(self) -> Any:
        """Return the only message of a call."""
        message = await self.read(self._limits.message)
        if message is EOF:
            await self.abort(grpc.StatusCode.INVALID_ARGUMENT, "the call has no message")
        return message

    async def write(self, answer: Any) -> None:
        """Send an answer; end the call if it is not taken."""
        await self.within(self._limits.message, self._context.write(answer), "the answer was not taken")

    async def within(self, seconds: float, work: Awaitable[T], otherwise: str) -> T:
        """Return what comes of `work` within some seconds, or end the call."""
        try:
            async with asyncio.timeout(seconds) as limit:
                return await work
        except TimeoutError:
            if not limit.expired():
                raise
            await self.abort(
                grpc.StatusCode.DEADLINE_EXCEEDED, f"{otherwise} within {seconds:g} s; call again"
            )
        raise AssertionError("abort does not return")


class Guard(ServerInterceptor):
    """Stands in front of every method of a server: the first interceptor, and the only one that is needed."""

    def __init__(self, bounds: Bounds, limits: CallLimits, admit: Admit) -> None:
        self._bounds, self._limits, self._admit = bounds, limits, admit
        self._open: Counter[tuple[str, str]] = Counter()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Return the method's handler behind all that is said above; None for a method that is not there."""
        handler, method = await continuation(handler_call_details), handler_call_details.method
        if handler is None:
            return None

        async def guarded(_: AsyncIterator[Any], context: ServicerContext) -> None:
            caller = await self._admit(method, context)
            if self._open[method, caller] >= self._limits.calls:
                await context.abort(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"{self._limits.calls:,} calls of {method} are open already: end one, or try again in a moment",
                )
            call = Call(context, caller, self._limits)
            with self._place(method, caller):
                await call.within(self._limits.whole, _run(handler, call), "the call did not end")

        return grpc.stream_stream_rpc_method_handler(
            guarded, self._bounds.reader(handler.request_deserializer), handler.response_serializer
        )

    @contextmanager
    def _place(self, method: str, caller: str) -> Iterator[None]:
        self._open[method, caller] += 1
        try:
            yield
        finally:
            self._open[method, caller] -= 1
            if not self._open[method, caller]:
                del self._open[method, caller]


async def _run(handler: grpc.RpcMethodHandler, call: Call) -> None:
    """Run a method; an error that it did not mean is logged without a value, and ends the call."""
    try:
        await _through(handler, call)
    except AbortError:
        raise
    except Exception as error:
        if call.ended:  # what went wrong after it is of no use to anybody
            raise AbortError from None
        _log.error("internal", kind=type(error).__name__, at=_place_of(error))
        await call.abort(grpc.StatusCode.INTERNAL, "a bug of the service; its log says more")


async def _through(handler: grpc.RpcMethodHandler, call: Call) -> None:
    """Take messages to a method, and its answers back."""
    work = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    answers = work(call.messages() if handler.request_streaming else await call.single(), call)
    if not handler.response_streaming:
        await call.write(await answers)
    elif hasattr(answers, "__aiter__"):
        async with aclosing(answers):
            async for answer in answers:
                await call.write(answer)
    else:
        await answers  # it writes by itself


def _place_of(error: BaseException) -> str:
    """Return file and line where an error was raised: a log holds no value, and a message may."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "unknown"
