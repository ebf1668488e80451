"""Metrics for Prometheus, made of what lies in a folder at every scrape: no process has to report, nothing can be lost.

They hold names, codes, times and ε; never a count of shoppers or events, or any value of the data.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from federation.address import split_address
from shared_model.errors import BadInputError


@contextlib.contextmanager
def serving(address: str | None, collector: Collector) -> Iterator[None]:
    """Answer scrapes at `address`, host:port, meanwhile; None: nowhere. Raises BadInputError if it cannot be bound."""
    if address is None:
        yield
        return
    host, port = split_address(address)
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise BadInputError(f"[metrics] address = {address!r}: cannot be bound ({error.strerror}).") from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def process_families(
    states: Mapping[str, Mapping[str, Any]],
) -> list[CounterMetricFamily | GaugeMetricFamily]:
    """Return, for each supervised process, whether it runs and how often it was started again."""
    up = GaugeMetricFamily("fedcart_process_up", "1 while a supervised process runs.", labels=["process"])
    again = CounterMetricFamily(
        "fedcart_process_restarts", "Starts of a supervised process after its first.", labels=["process"]
    )
    for name, state in states.items():
        up.add_metric([name], float(state.get("state") == "running"))
        again.add_metric([name], max(0, int(state.get("starts", 0)) - 1))
    return [up, again]
