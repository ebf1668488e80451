"""Keep the interactions that can be used, count every other one by reason.

Every filter looks at one row, at one shopper or at the public catalogue; `research_k_core` alone looks at
all.
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from clients.data.busiest import Busiest
from clients.data.catalogue import Catalogue
from clients.data.distinct import as_codes, codes_of, repeated
from clients.data.report import CleaningReport
from clients.data.spellings import refusal, texts, two_spellings
from clients.data.table import Table
from clients.data.validate import interaction_rules, rejected_rows
from clients.errors import DataError, NoShopperError

# reason → the column to show, and the fix when the reason leaves nothing usable
_REASONS = {
    "missing_user_id": ("user_id", "Set columns.user to the column with the shopper's id."),
    "missing_item_id": ("item_id", "Set columns.item to the column with the item's id."),
    "bad_time": ("order", "Set columns.order to unix times or ISO 8601 datetimes."),
    "bad_position": ("order", "Set columns.order to numbers."),
    "negative_time": ("order", "Set columns.order to unix times, or columns.order_unit to 'position'."),
    "future_time": ("order", "Not in seconds? Set columns.order_unit to 'ms', 'us' or 'ns'."),
    "bad_value": ("value", "Set columns.value to numbers with a decimal point, or leave it out."),
    "other_event": ("event", "Set events to kinds that the file holds."),
    "duplicate": ("user_id", "Export the data again."),
    "unknown_item": ("item_id", "Use the same ids in both files (columns.item, columns.catalogue_item)."),
    "too_short": ("user_id", "Lower min_events."),
}


class _Sieve:
    """Drops rows step by step and remembers why."""

    def __init__(self, table: Table) -> None:
        self.table, self.frame = table, table.frame
        self.dropped: dict[str, int] = {}
        self.examples: dict[str, str] = {}

    def drop(self, reasons: pd.Series) -> None:
        """Drop the rows labelled in `reasons` (label → reason)."""
        for reason, count in reasons.value_counts(sort=False).items():
            name = str(reason)
            first = int(reasons.index[reasons == reason][0])
            self.dropped[name] = int(count)
            self.examples[name] = self.table.cell(first, _REASONS[name][0])
        if len(reasons):
            self.frame = self.frame.drop(index=reasons.index)

    def drop_where(self, unwanted: npt.NDArray[np.bool_], reason: str) -> None:
        """Drop the rows for which `unwanted` is true."""
        count = int(unwanted.sum())
        if count:
            first = int(self.frame.index[int(unwanted.argmax())])
            self.dropped[reason] = count
            self.examples[reason] = self.table.cell(first, _REASONS[reason][0])
            self.frame = self.frame[~unwanted]

    def report(self) -> CleaningReport:
        """The counts so far."""
        return CleaningReport(
            source=self.table.source,
            read=len(self.table.frame),
            kept=len(self.frame),
            dropped=self.dropped,
            users=int(self.frame["user_id"].nunique()),
            items=int(self.frame["item_id"].nunique()),
            examples=self.examples,
            busiest=Busiest.of(self.frame["user_id"]),
        )


def clean_interactions(
    table: Table,
    catalogue: Catalogue,
    *,
    events: Collection[str] | None = None,
    min_events: int = 3,
    now: float | None = None,
) -> tuple[Table, CleaningReport]:
    """Drop what `sift` drops; raise `NoShopperError` when nothing is left."""
    table, report = sift(table, catalogue, events=events, min_events=min_events, now=now)
    if not report.kept:
        raise nothing_usable(report)
    return table, report


def sift(
    table: Table,
    catalogue: Catalogue,
    *,
    events: Collection[str] | None = None,
    min_events: int = 3,
    now: float | None = None,
) -> tuple[Table, CleaningReport]:
    """Drop what cannot be used: bad rows, other events, exact duplicates, unknown items, short histories.

    `events`: kinds to keep (needs `columns.event`; `None`: all). `min_events`: fewest events of a kept
    shopper. `now`: unix seconds; events more than a day later are impossible. An exact duplicate equals an
    earlier row in every mapped column. Raises `DataError` for unusable options, and where two ids may be one.
    """
    if min_events < 1:
        raise DataError(f"min_events must be at least 1, not {min_events!r}.")
    if events is not None and "event" not in table.frame:
        raise DataError(
            f"{table.source}: events={sorted(events)} needs the column with the kind of event: "
            "set columns.event."
        )
    sieve = _Sieve(table)
    sieve.drop(rejected_rows(table.frame, interaction_rules(table, now=now)))
    if events is not None:
        sieve.drop_where(~sieve.frame["event"].isin(list(events)).to_numpy(dtype=bool), "other_event")
    sieve.frame = sieve.frame.assign(**{name: as_codes(sieve.frame[name]) for name in ("user_id", "item_id")})
    _require_one_spelling(table, sieve.frame, catalogue)
    sieve.drop_where(repeated(sieve.frame), "duplicate")
    sieve.drop_where(catalogue.index_of(sieve.frame["item_id"]) < 0, "unknown_item")
    users, _ = codes_of(sieve.frame["user_id"])
    sieve.drop_where(np.bincount(users)[users] < min_events, "too_short")
    return table.with_frame(sieve.frame), sieve.report()


def _require_one_spelling(table: Table, frame: pd.DataFrame, catalogue: Catalogue) -> None:
    """Refuse shoppers of whom two may be one, and items that the catalogue may have in another spelling."""

    def where(name: str, spelled: str) -> str:
        return table.cell(int(frame.index[int((frame[name] == spelled).to_numpy().argmax())]), name)

    two = two_spellings(texts(frame["user_id"].cat.categories))
    if two is not None:
        raise refusal(" and ".join(where("user_id", spelled) for spelled in two), *two)
    two = catalogue.listed.otherwise(texts(frame["item_id"].cat.categories))
    if two is not None:
        raise refusal(f"{where('item_id', two[0])}, and the catalogue", *two)


def nothing_usable(report: CleaningReport) -> NoShopperError:
    """The error that says why no row is left."""
    reason = max(report.dropped, key=lambda name: report.dropped[name])
    return NoShopperError(
        f"{report.source}: none of the {report.read:,} rows can be used; {report.dropped[reason]:,} of them: "
        f"{reason.replace('_', ' ')} (first: {report.examples[reason]}). {_REASONS[reason][1]}"
    )


def research_k_core(table: Table, report: CleaningReport, k: int) -> tuple[Table, CleaningReport]:
    """Repeat until stable: drop shoppers and items with fewer than `k` events. FOR RESEARCH WITHOUT PRIVACY.

    Whether a shopper's event stays depends on all other shoppers, which breaks the privacy contract: the
    report comes back with `tainted=True`, and no ε may be claimed for what is trained on the result. Raises
    `DataError` when nothing is left.
    """
    if k < 1:
        raise DataError(f"k must be at least 1, not {k!r}.")
    frame = table.frame
    while True:
        sizes = [frame.groupby(key, sort=False)["order"].transform("size") for key in ("user_id", "item_id")]
        stay = (sizes[0] >= k) & (sizes[1] >= k)
        if stay.all():
            break
        frame = frame[stay]
    if frame.empty:
        raise DataError(f"{table.source}: no {k}-core: nothing is left. Lower k.")
    lost = {"k_core": len(table.frame) - len(frame)}
    return table.with_frame(frame), replace(
        report,
        kept=len(frame),
        dropped={**report.dropped, **(lost if lost["k_core"] else {})},
        users=int(frame["user_id"].nunique()),
        items=int(frame["item_id"].nunique()),
        tainted=True,
        busiest=Busiest.of(frame["user_id"]),
    )
