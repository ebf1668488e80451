"""Lists that two arms make together, item by item, so that each shopper compares them.

Team draft (Radlinski, Kurup, Joachims, "How does clickthrough data reflect retrieval quality?", CIKM 2008, section
3.2): the arm with fewer items in the list adds its best item that is not in it yet; where both have as many, a coin
decides. Each item belongs to the arm that added it, and a click counts for that arm. If the arms' lists were alike,
either would get as many clicks, wherever in the list shoppers click.

| case                                         | what happens                                             |
|----------------------------------------------|----------------------------------------------------------|
| an arm has no item left that is not in it    | the other's items fill the list; they belong to nobody   |
| one arm only (no model was adopted yet)      | its list                                                 |
| one arm's list failed                        | its error                                                |
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace

from clients.serving import engine
from clients.serving.asks import ItemList, RecommendAsk, ScoredItem
from clients.serving.snapshot import Snapshot
from shared_model.errors import FedcartError

INTERLEAVED = "interleaved"
"""The arm of a list that several made."""
Coin = Callable[[], bool]


def recommend(snapshot: Snapshot, asks: Sequence[RecommendAsk]) -> list[ItemList | FedcartError]:
    """Return the list of each question, or why it has none: each from its own arm, or from both."""
    if not snapshot.interleaved:
        return engine.recommend(snapshot, asks)
    first, second = (engine.recommend(snapshot.only(name), asks) for name in snapshot.arms)
    return [_mixed(one, other, ask.count) for one, other, ask in zip(first, second, asks, strict=True)]


def _mixed(
    one: ItemList | FedcartError, other: ItemList | FedcartError, count: int
) -> ItemList | FedcartError:
    if isinstance(one, FedcartError):
        return one
    if isinstance(other, FedcartError):
        return other
    teams = team_draft(_of(one), _of(other), count, lambda: bool(secrets.randbits(1)))
    return replace(one, arm=INTERLEAVED, items=teams)


def _of(found: ItemList) -> list[ScoredItem]:
    return [replace(item, arm=found.arm) for item in found.items]


def team_draft(
    first: Sequence[ScoredItem], second: Sequence[ScoredItem], count: int, coin: Coin
) -> tuple[ScoredItem, ...]:
    """Return at most `count` items of two rankings, each with the arm that added it, or "" (see above).

    coin : whether the first adds where both have added as many.
    """
    picked: list[ScoredItem] = []
    there: set[str] = set()
    places, added = [0, 0], [0, 0]
    rankings = (first, second)
    while len(picked) < count:
        for team, ranking in enumerate(rankings):
            while places[team] < len(ranking) and ranking[places[team]].item in there:
                places[team] += 1
        left = [team for team in (0, 1) if places[team] < len(rankings[team])]
        if len(left) < 2:
            rest = [
                item for team in left for item in rankings[team][places[team] :] if item.item not in there
            ]
            return (*picked, *(replace(item, arm="") for item in rest[: count - len(picked)]))
        even = added[0] == added[1]
        team = (0 if coin() else 1) if even else int(added[1] < added[0])
        chosen = rankings[team][places[team]]
        picked.append(chosen)
        there.add(chosen.item)
        added[team] += 1
    return tuple(picked)
