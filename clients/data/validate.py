"""Judge each row by itself with pandera, lazily: all faults are found, each rejected row gets one reason."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from clients.data.table import Table
from clients.data.wanted import TEXT_COLUMNS

if TYPE_CHECKING:
    from pandera.pandas import DataFrameSchema

DAY = 86_400.0
_Rule = tuple[str, str, Callable[[pd.Series], pd.Series]]


def interaction_schema(table: Table, *, now: float | None) -> "DataFrameSchema":
    """The schema of an interactions table; `now` in unix seconds (`None`: the future is not judged).

    A missing `value` is allowed; an unreadable or infinite one is not.
    """
    rules: list[_Rule] = [
        ("user_id", "missing_user_id", pd.Series.notna),
        ("item_id", "missing_item_id", pd.Series.notna),
        ("order", f"bad_{table.order_kind}", pd.Series.notna),
    ]
    if table.order_kind == "time":
        rules.append(("order", "negative_time", lambda times: ~(times < 0)))
        if now is not None:
            latest = now + DAY
            rules.append(("order", "future_time", lambda times: ~(times > latest)))
    if "value" in table.frame:
        rules.append(("value", "bad_value", lambda values: values.abs() != np.inf))
    return _schema(rules)


def item_schema(*, require_text: bool) -> "DataFrameSchema":
    """The schema of an items table: an id and, with `require_text`, something that says what the item is."""
    import pandera.pandas as pa

    def has_text(frame: pd.DataFrame) -> pd.Series:
        return frame[[name for name in TEXT_COLUMNS if name in frame]].notna().any(axis=1)

    ids = pa.Check(pd.Series.notna, name="missing_item_id", error="missing_item_id", ignore_na=False)
    text = pa.Check(has_text, name="no_text", error="no_text", ignore_na=False)
    columns = {"item_id": pa.Column(nullable=True, checks=ids)}
    return pa.DataFrameSchema(columns, checks=text if require_text else None)


def _schema(rules: list[_Rule]) -> "DataFrameSchema":
    import pandera.pandas as pa

    columns: dict[str, pa.Column] = {}
    for column in dict.fromkeys(rule[0] for rule in rules):
        checks = [
            pa.Check(judge, name=reason, error=reason, ignore_na=False)
            for name, reason, judge in rules
            if name == column
        ]
        columns[column] = pa.Column(nullable=True, checks=checks)
    return pa.DataFrameSchema(columns)


def rejected_rows(frame: pd.DataFrame, schema: "DataFrameSchema") -> pd.Series:
    """Index label of each rejected row → its reason (the first, in the schema's order), in row order."""
    from pandera.errors import SchemaErrors

    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as errors:
        cases = errors.failure_cases
        if cases["index"].isna().any():  # a check itself failed, which says nothing about the rows
            raise
        reasons = pd.Series(cases["check"].to_numpy(), index=cases["index"].to_numpy(dtype=np.int64))
        return reasons[~reasons.index.duplicated()].sort_index()
    return pd.Series([], index=pd.Index([], dtype=np.int64), dtype="str")
