"""Bytes that are no message end with INVALID_ARGUMENT; gRPC alone would log a traceback and say UNKNOWN."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc.aio import ServerInterceptor, ServicerContext

_SAYS = "the request is no message of fedcart.serving.v1: use the .proto of this version"


class _Malformed:
    """Stands in the place of a message that could not be read."""


class ReadableOnly(ServerInterceptor):
    """Ends calls whose message cannot be read."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Return the method's handler with the check in front of it."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        read = _reader(handler.request_deserializer)
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                _checked(handler.unary_unary), read, handler.response_serializer
            )
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                _checked_stream(handler.stream_stream), read, handler.response_serializer
            )
        return handler


def _reader(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _Malformed()

    return read


def _checked(answer: Callable[[Any, ServicerContext], Awaitable[Any]]) -> Callable:
    async def checked(request: Any, context: ServicerContext) -> Any:
        if isinstance(request, _Malformed):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, _SAYS)
        return await answer(request, context)

    return checked


def _checked_stream(answer: Callable[[AsyncIterator[Any], ServicerContext], AsyncIterator[Any]]) -> Callable:
    async def checked(requests: AsyncIterator[Any], context: ServicerContext) -> AsyncIterator[Any]:
        async def readable() -> AsyncIterator[Any]:
            async for request in requests:
                if isinstance(request, _Malformed):
                    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, _SAYS)
                yield request

        async for response in answer(readable(), context):
            yield response

    return checked
