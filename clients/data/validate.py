"""Judge each row by itself: all faults are found, each rejected row gets one reason."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from clients.data.table import Table
from clients.data.wanted import TEXT_COLUMNS

DAY = 86_400.0


@dataclass(frozen=True)
class Rule:
    """Why rows are rejected, and what tells the good ones of a frame: (rows,) booleans, each from its own row."""

    reason: str
    good: Callable[[pd.DataFrame], pd.Series]


def interaction_rules(table: Table, *, now: float | None) -> tuple[Rule, ...]:
    """The rules of an interactions table; `now` in unix seconds (`None`: the future is not judged).

    A missing `value` is allowed; an unreadable or infinite one is not.
    """
    rules = [
        Rule("missing_user_id", lambda frame: frame["user_id"].notna()),
        Rule("missing_item_id", lambda frame: frame["item_id"].notna()),
        Rule(f"bad_{table.order_kind}", lambda frame: frame["order"].notna()),
    ]
    if table.order_kind == "time":
        rules.append(Rule("negative_time", lambda frame: ~(frame["order"] < 0)))
        if now is not None:
            latest = now + DAY
            rules.append(Rule("future_time", lambda frame: ~(frame["order"] > latest)))
    if "value" in table.frame:
        rules.append(Rule("bad_value", lambda frame: frame["value"].abs() != np.inf))
    return tuple(rules)


def item_rules(*, require_text: bool) -> tuple[Rule, ...]:
    """The rules of an items table: an id and, with `require_text`, something that says what the item is."""

    def has_text(frame: pd.DataFrame) -> pd.Series:
        return frame[[name for name in TEXT_COLUMNS if name in frame]].notna().any(axis=1)

    has_id = Rule("missing_item_id", lambda frame: frame["item_id"].notna())
    return (has_id, Rule("no_text", has_text)) if require_text else (has_id,)


def rejected_rows(frame: pd.DataFrame, rules: Sequence[Rule]) -> pd.Series:
    """Index label of each rejected row → its reason (the first in the order of the rules), in row order."""
    first = np.full(len(frame), len(rules))
    for number, rule in reversed(list(enumerate(rules))):
        first[~rule.good(frame).to_numpy(dtype=bool)] = number
    bad = np.flatnonzero(first < len(rules))
    reasons = np.array([rule.reason for rule in rules], dtype=object)[first[bad]]
    return pd.Series(reasons, index=frame.index[bad], dtype="str")
