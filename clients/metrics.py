"""A platform's metrics: processes, rounds and the privacy budget, from its record and its ledger. No data."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from clients.folder import ClientFolder
from clients.own_ledger import open_ledger
from federation.metrics import process_families
from federation.supervise import read_record
from privacy.errors import PrivacyError
from privacy.ledger import NOTHING, Kind
from shared_model.errors import FedcartError


class ClientCollector(Collector):
    """Reads a platform's folder and ledger at every scrape."""

    def __init__(self, folder: ClientFolder) -> None:
        self._folder = folder

    def describe(self) -> list[Metric]:
        """Return nothing: what there is follows from the folder."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now; without a ledger that can be read, no budget, and `ledger_readable` 0."""
        yield from process_families(read_record(self._folder.node_record))
        readable = GaugeMetricFamily("fedcart_ledger_readable", "1 if the ledger is whole and can be read.")
        try:
            ledger = open_ledger(self._folder.site())
            budget, entries = ledger.budget(), ledger.history()
        except (FedcartError, PrivacyError):
            readable.add_metric([], 0.0)
            yield readable
            return
        readable.add_metric([], 1.0)
        yield readable
        said = list(entries)
        kinds = Counter(entry.kind for entry in said)
        lost = sum(e.kind is Kind.SETTLE and e.body["output"] == NOTHING for e in said)
        for count, name, text in (
            (kinds[Kind.RESERVE], "rounds_reserved", "Rounds for which budget was set aside."),
            (kinds[Kind.SETTLE], "rounds_settled", "Rounds that were charged and ended."),
            (lost, "rounds_lost", "Rounds that were charged and ended with nothing, by a crash."),
            (kinds[Kind.REFUSE], "budget_refused", "Requests that the ledger refused."),
        ):
            yield CounterMetricFamily(f"fedcart_{name}", text, value=count)
        for name, text, value in (
            ("epsilon_committed", "ε that is spent or reserved.", budget.committed),
            ("epsilon_left", "ε that is left.", budget.left),
            ("epsilon_cap", "The most ε that may ever be spent.", budget.cap),
        ):
            yield GaugeMetricFamily(f"fedcart_{name}", text, value=value)
