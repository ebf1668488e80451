"""A collector of OTLP traces over HTTP, for tests: keeps what it gets, and hands it out as plain spans."""

import contextlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Seen:
    """A span, with the attributes of its process among its own."""

    name: str
    trace: bytes
    parent: bytes
    facts: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]


@dataclass
class Collector:
    """Where it listens, and the bodies it got."""

    endpoint: str
    bodies: list[bytes] = field(default_factory=list)

    def spans(self) -> list[Seen]:
        """Return all spans so far."""
        found = []
        for body in self.bodies:
            for process in ExportTraceServiceRequest.FromString(body).resource_spans:
                known = _facts(process.resource.attributes)
                for scope in process.scope_spans:
                    for span in scope.spans:
                        events = [(event.name, _facts(event.attributes)) for event in span.events]
                        facts = known | _facts(span.attributes)
                        found.append(Seen(span.name, span.trace_id, span.parent_span_id, facts, events))
        return found


def _facts(attributes: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """Listen on a free port of this machine."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Collector(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
