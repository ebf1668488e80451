"""Who of a run's members is online: by their nodes' registered names, which simulated nodes have not."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flwr.serverapp import Grid

Observer = Callable[[str, Mapping[str, Any]], None]
_POLL = 2.0


@dataclass(frozen=True)
class Present:
    """Node → the member's registered name, empty in simulations."""

    names: Mapping[int, str]

    def name(self, node: int) -> str:
        """What to call a node."""
        return self.names.get(node) or f"node {node}"


class Presence:
    """Waits for members, `limit` seconds at most; who was away for so long is waited for again only once seen."""

    def __init__(self, grid: Grid, members: Collection[str], limit: float, observe: Observer) -> None:
        self._grid, self._members, self._limit, self._observe = grid, frozenset(members), limit, observe
        self._given_up: frozenset[str] = frozenset()

    def gather(self, number: int, needed: int) -> Present:
        """Return who is online for round `number`, once that is everybody expected, or the limit is over.

        Only members are returned: a node that joined the federation after the run began would be charged for nothing.
        """
        end, said = time.monotonic() + self._limit, False
        while True:
            present = self._look()
            here = frozenset(present.names.values())
            self._given_up -= here
            missing = sorted(self._members - here - self._given_up)
            everybody = not missing and len(here) >= needed
            if everybody or "" in here or time.monotonic() >= end:
                self._given_up |= frozenset(missing)
                if said and missing:
                    self._observe("absent", {"round": number, "platforms": missing})
                return present
            if not said:
                away = sorted(self._members - here)
                self._observe("waiting", {"round": number, "platforms": away, "limit_s": self._limit})
                said = True
            time.sleep(_POLL)

    def _look(self) -> Present:
        return Present(
            {
                n.node_id: n.name
                for n in _sorted(self._grid.get_nodes())
                if not n.name or n.name in self._members
            }
        )


def _sorted(nodes: Iterable[Any]) -> list[Any]:
    return sorted(nodes, key=lambda node: node.node_id)
