"""What happened since the data was read, in memory: counts at once, is bounded, and forgets.

The durable record is `clients.feedback`; this is only what makes the next list know of the last click.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from clients.serving.asks import Who


@dataclass(frozen=True)
class SessionLimits:
    """At most `sessions` are kept, each with its last `events`; one that rested for `seconds` is forgotten."""

    sessions: int = 100_000
    events: int = 50
    seconds: float = 7200.0


class _Session:
    """The shopper that was named last, if any, and the items."""

    def __init__(self, events: int) -> None:
        self.shopper = ""
        self.items: deque[str] = deque(maxlen=events)
        self.used = 0.0


class Sessions:
    """Events by session, or by shopper where no session is named. Safe to use from several threads."""

    def __init__(
        self, limits: SessionLimits = SessionLimits(), clock: Callable[[], float] = monotonic
    ) -> None:
        self._limits, self._clock = limits, clock
        self._kept: OrderedDict[tuple[str, str], _Session] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, shopper: str, session: str, item: str) -> None:
        """Keep an event; without shopper and session it plays no part."""
        if not (shopper or session):
            return
        with self._lock:
            key = _key(shopper, session)
            kept = self._kept.pop(key, None) or _Session(self._limits.events)
            kept.shopper, kept.used = shopper or kept.shopper, self._clock()
            kept.items.append(item)
            self._kept[key] = kept
            self._forget()

    def joined(self, who: Who) -> Who:
        """Return who asks, with the events of the session before those of the question."""
        if not (who.shopper or who.session):
            return who
        with self._lock:
            self._forget()
            kept = self._kept.get(_key(who.shopper, who.session))
            if kept is None or (who.shopper and kept.shopper and kept.shopper != who.shopper):
                return who
            return Who(who.shopper, who.session, (*kept.items, *who.items)[-200:], who.texts)

    def erase(self, shoppers: frozenset[str], sessions: frozenset[str] = frozenset()) -> None:
        """Forget all sessions of some shoppers, and some sessions."""
        with self._lock:
            for key, kept in list(self._kept.items()):
                if kept.shopper in shoppers or key[0] in shoppers or key[1] in sessions:
                    del self._kept[key]

    def shoppers(self) -> list[str]:
        """Return the shoppers of whom something is kept."""
        with self._lock:
            return sorted({kept.shopper for kept in self._kept.values() if kept.shopper})

    def names(self) -> list[str]:
        """Return the sessions of which something is kept."""
        with self._lock:
            return [session for _, session in self._kept if session]

    def __len__(self) -> int:
        return len(self._kept)

    def _forget(self) -> None:
        """Drop the oldest beyond the limits; the first is the one that rested longest."""
        latest = self._clock() - self._limits.seconds
        while self._kept:
            first = next(iter(self._kept))
            if len(self._kept) <= self._limits.sessions and self._kept[first].used >= latest:
                return
            del self._kept[first]


def _key(shopper: str, session: str) -> tuple[str, str]:
    return ("", session) if session else (shopper, "")
