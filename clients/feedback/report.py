"""How lists did, by model version and arm, over time: for the platform's own people, and never sent."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from clients.data.load import PlatformData
from clients.database import database_errors
from clients.feedback.estimate import Estimate, mean_over_lists
from clients.feedback.events import ADDED_BY, Kind
from clients.feedback.store import FeedbackStore
from clients.feedback.tables import IMPRESSIONS, INTERACTIONS

METRICS = ("click_through", "conversion", "diversity", "novelty")


class Period(StrEnum):
    """How time is cut."""

    all = "all"
    day = "day"
    week = "week"


@dataclass(frozen=True)
class Group:
    """The lists of one period, model version and arm.

    lists, shoppers : how many; an anonymous session counts as a shopper. coverage : share of the catalogue that was
    shown. metrics : an estimate for each of METRICS.
    """

    period: str
    model_version: str
    arm: str
    lists: int
    shoppers: int
    coverage: float
    metrics: dict[str, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        names = ("period", "model_version", "arm", "lists", "shoppers", "coverage")
        return {name: getattr(self, name) for name in names} | {
            name: estimate.to_dict() for name, estimate in self.metrics.items()
        }


@dataclass(frozen=True)
class Difference:
    """An arm against the first one: `metrics` are differences, of click-through and conversion."""

    arm: str
    against: str
    metrics: dict[str, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        differences = {name: estimate.to_dict() for name, estimate in self.metrics.items()}
        return {"arm": self.arm, "against": self.against} | differences


@dataclass(frozen=True)
class Preference:
    """An arm against another within the lists that both made, of one model version.

    wins : mean over the lists of +1 where more of the items that `arm` added were clicked than of those that `against`
    added, −1 where fewer, 0 where as many.
    """

    model_version: str
    arm: str
    against: str
    lists: int
    wins: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        names = ("model_version", "arm", "against", "lists")
        return {name: getattr(self, name) for name in names} | {"wins": self.wins.to_dict()}


@dataclass(frozen=True)
class FeedbackReport:
    """All groups, what arms differ by over the whole time, and which is preferred where both made lists together."""

    groups: tuple[Group, ...]
    differences: tuple[Difference, ...]
    preferences: tuple[Preference, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "groups": [group.to_dict() for group in self.groups],
            "differences": [difference.to_dict() for difference in self.differences],
            "preferences": [preference.to_dict() for preference in self.preferences],
        }


def feedback_report(store: FeedbackStore, data: PlatformData, period: Period = Period.all) -> FeedbackReport:
    """Join what was shown with what came of it. Needs memory for all impressions. Raises StoreError.

    A click or purchase belongs to the first list with its request id that shows its item. Click-through and
    conversion: share of lists with at least one. Diversity: share of a list's pairs of items that differ in category.
    Novelty: mean of −log2 of the share of shoppers (one added to both) who have the item.
    """
    shown, done = _read(store)
    if shown.empty:
        return FeedbackReport((), ())
    shown[["arm", "added_by"]] = shown["arm"].str.partition(ADDED_BY)[[0, 2]]
    shown = _with_outcomes(shown, done)
    shown["category"], shown["novelty"] = _of_items(data, shown["item"])
    lists = _lists(shown, period)
    groups = [
        _group(key, part, shown[shown["event_id"].isin(part.index)], len(data.catalogue))
        for key, part in lists.groupby(["period", "model_version", "arm"], sort=True)
    ]
    return FeedbackReport(tuple(groups), tuple(_differences(lists)), tuple(_preferences(shown, lists)))


def _read(store: FeedbackStore) -> tuple[pd.DataFrame, pd.DataFrame]:
    with database_errors(store.engine), store.engine.connect() as connection:
        shown = pd.DataFrame(
            connection.execute(sa.select(IMPRESSIONS).order_by(IMPRESSIONS.c.time)).mappings().all()
        )
        done = pd.DataFrame(
            connection.execute(sa.select(INTERACTIONS).where(INTERACTIONS.c.request_id != ""))
            .mappings()
            .all(),
            columns=[column.name for column in INTERACTIONS.columns],
        )
    return shown, done


def _with_outcomes(shown: pd.DataFrame, done: pd.DataFrame) -> pd.DataFrame:
    """Add `click` and `purchase` (bool) to each item that was shown."""
    first = ~shown.duplicated(["request_id", "item"])
    pairs = pd.MultiIndex.from_frame(shown[["request_id", "item"]])
    for kind in (Kind.CLICK, Kind.PURCHASE):
        made = pd.MultiIndex.from_frame(done.loc[done["kind"] == kind.value, ["request_id", "item"]])
        shown[kind.value] = pairs.isin(made) & first
    return shown


def _of_items(data: PlatformData, items: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Category (missing where unknown) and novelty (NaN for items that are not in the catalogue) of each item."""
    catalogue, sequences = data.catalogue, data.sequences
    pairs = np.unique(np.stack([sequences.event_users, sequences.items]), axis=1)
    having = np.bincount(pairs[1], minlength=len(catalogue))
    novelty = -np.log2((having + 1) / (len(sequences) + 1))
    rows = catalogue.index_of(items)
    known = rows >= 0
    category = pd.Series(None, index=items.index, dtype=object)
    if "category" in catalogue.frame:
        category[known] = catalogue.frame["category"].to_numpy(dtype=object)[rows[known]]
    return category, pd.Series(np.where(known, novelty[np.maximum(rows, 0)], np.nan), index=items.index)


def _lists(shown: pd.DataFrame, period: Period) -> pd.DataFrame:
    """One row for each list."""
    by = shown.groupby("event_id", sort=False)
    lists = by[["model_version", "arm", "shopper", "session", "time"]].first()
    lists["click_through"] = by["click"].any().astype(float)
    lists["conversion"] = by["purchase"].any().astype(float)
    lists["novelty"] = by["novelty"].mean()
    lists["diversity"] = by["category"].agg(_different)
    unit = ("s:" + lists["shopper"]).where(lists["shopper"] != "", "a:" + lists["session"])
    lists["unit"] = pd.factorize(unit)[0]
    times = pd.to_datetime(lists["time"], unit="s", utc=True)
    week = times - pd.to_timedelta(times.dt.dayofweek, unit="D")
    cut = {Period.day: times, Period.week: week}.get(period)
    lists["period"] = "all" if cut is None else cut.dt.strftime("%Y-%m-%d")
    return lists


def _different(categories: pd.Series) -> float:
    """Share of pairs of known categories that differ; NaN for fewer than two."""
    counts = categories.dropna().value_counts().to_numpy()
    total = counts.sum()
    return float(1 - (counts * (counts - 1)).sum() / (total * (total - 1))) if total > 1 else float("nan")


def _estimates(lists: pd.DataFrame, names: Iterable[str]) -> dict[str, Estimate]:
    unit = lists["unit"].to_numpy()
    return {name: mean_over_lists(lists[name].to_numpy(dtype=np.float64), unit) for name in names}


def _group(key: Any, lists: pd.DataFrame, shown: pd.DataFrame, items: int) -> Group:
    period, version, arm = map(str, key)
    coverage = shown.loc[shown["novelty"].notna(), "item"].nunique() / items
    shoppers = int(lists["unit"].nunique())
    return Group(period, version, arm, len(lists), shoppers, coverage, _estimates(lists, METRICS))


def _differences(lists: pd.DataFrame) -> Iterable[Difference]:
    names = ("click_through", "conversion")
    arms = [(str(arm), _estimates(part, names)) for arm, part in lists.groupby("arm", sort=True)]
    for arm, found in arms[1:]:
        first, base = arms[0]
        yield Difference(arm, first, {name: found[name].minus(base[name]) for name in names})


def _preferences(shown: pd.DataFrame, lists: pd.DataFrame) -> Iterable[Preference]:
    """Compare the two arms that added items, by model version: clicks on their items, a list at a time."""
    drafted = shown[shown["added_by"] != ""]
    for version, part in drafted.groupby("model_version", sort=True):
        arms = sorted(part["added_by"].unique())
        if len(arms) != 2:
            continue
        clicks = part.pivot_table(
            index="event_id", columns="added_by", values="click", aggfunc="sum", fill_value=0
        )
        wins = np.sign(clicks[arms[0]].astype(int) - clicks[arms[1]].astype(int)).to_numpy(dtype=np.float64)
        unit = lists.loc[clicks.index, "unit"].to_numpy()
        yield Preference(str(version), arms[0], arms[1], len(clicks), mean_over_lists(wins, unit))
