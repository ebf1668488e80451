"""OpenTelemetry traces, where the environment names an OTLP endpoint and the extra `telemetry` is installed; else none.

A span holds a run, a round, a platform, public codes and its times: never an error's words or a value of the data. The
trace of a run follows from its name, so the spans of a server and its platforms are one trace wherever they are sent to
one collector; nothing about tracing is sent between them.
"""

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import structlog

from privacy.errors import PrivacyError
from shared_model.errors import FedcartError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Tracer

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_log = structlog.get_logger("fedcart.telemetry")
_tracer: "ContextVar[Tracer | None]" = ContextVar("fedcart_tracer", default=None)

Fact = str | int | float


def is_asked_for() -> bool:
    """Whether the environment names an endpoint, and does not switch the SDK off."""
    off = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return not off and any(os.environ.get(name) for name in _ENDPOINTS)


@contextlib.contextmanager
def exporting(service: str, **facts: Fact) -> Iterator[None]:
    """Export the spans that this thread begins meanwhile, if asked for; what is left is sent at the end.

    `facts` are on every span. Errors of the exporter are logged by it, and change nothing else.
    """
    if not is_asked_for():
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        _log.warning("telemetry-not-installed", extra="fedcart[telemetry]")
        yield
        return
    with recording(BatchSpanProcessor(OTLPSpanExporter()), service, **facts):
        yield


@contextlib.contextmanager
def recording(processor: "SpanProcessor", service: str, **facts: Fact) -> Iterator[None]:
    """Give the spans that this thread begins meanwhile to a processor."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(
        resource=Resource.create({"service.name": service, **facts}), shutdown_on_exit=False
    )
    provider.add_span_processor(processor)
    before = _tracer.set(provider.get_tracer("fedcart"))
    try:
        yield
    finally:
        _tracer.reset(before)
        provider.shutdown()


class Span:
    """A span that is being recorded, or nothing."""

    def __init__(self, inner: Any = None) -> None:
        self._inner = inner

    def code(self, code: str) -> None:
        """Say with which public code it ends."""
        if self._inner is not None:
            from opentelemetry.trace import Status, StatusCode

            self._inner.set_attribute("code", code)
            self._inner.set_status(Status(StatusCode.ERROR))

    def tell(self, event: str, **facts: Fact) -> None:
        """Add an event to it."""
        if self._inner is not None:
            self._inner.add_event(event, facts)


@contextlib.contextmanager
def span(name: str, *, run: str | None = None, round: int | None = None) -> Iterator[Span]:
    """Record what is done meanwhile; an exception of fedcart's gives it its public code, any other "internal"."""
    tracer = _tracer.get()
    if tracer is None:
        yield Span()
        return
    facts = {key: value for key, value in (("run", run), ("round", round)) if value is not None}
    with tracer.start_as_current_span(
        name,
        context=_trace_of(run),
        attributes=facts,
        record_exception=False,  # its words may quote a value of the data
        set_status_on_exception=False,
    ) as inner:
        recorded = Span(inner)
        try:
            yield recorded
        except Exception as error:
            recorded.code(error.code if isinstance(error, FedcartError | PrivacyError) else "internal")
            raise


def _trace_of(run: str | None) -> "Context | None":
    """The context of a run's trace; None within a span, and for no run."""
    from opentelemetry import trace

    if run is None or trace.get_current_span().get_span_context().is_valid:
        return None
    name = sha256(f"fedcart run {run}".encode()).digest()
    parent = trace.SpanContext(
        int.from_bytes(name[:16], "big"),
        int.from_bytes(name[16:24], "big"),
        is_remote=True,
        trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(parent))
