"""Calls that show a token."""

from collections.abc import Callable
from typing import Any

import grpc
from grpc import ClientCallDetails


class _Details(ClientCallDetails):
    def __init__(self, details: ClientCallDetails, metadata: list) -> None:
        self.method, self.timeout, self.credentials = details.method, details.timeout, details.credentials
        self.wait_for_ready, self.compression = details.wait_for_ready, details.compression
        self.metadata = metadata


class Showing(
    grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamStreamClientInterceptor
):
    """Shows a token with every call of a channel: `grpc.intercept_channel(channel, Showing(token))`."""

    def __init__(self, token: str) -> None:
        self._shown = ("authorization", f"Bearer {token}")

    def _show(self, call: Callable, details: ClientCallDetails, request: Any) -> Any:
        return call(_Details(details, [*(details.metadata or ()), self._shown]), request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_stream = _show
