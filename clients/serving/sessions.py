"""What happened since the data was read, in memory: counts at once, is bounded, and forgets.

The durable record is `clients.feedback`; this is only what makes the next list know of the last click.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from sys import getsizeof
from time import monotonic

from clients.serving.asks import Who

_EMPTY = 700
"""Bytes that a session takes beside its words: key, tuples, its place among the others."""


@dataclass(frozen=True)
class SessionLimits:
    """At most `sessions` are kept, each with its last `events`, and of all together at most `bytes` of memory; the one
    that rested longest goes first, and one that rested for `seconds` is forgotten."""

    sessions: int = 100_000
    events: int = 50
    bytes: int = 64 * 2**20
    seconds: float = 7200.0


@dataclass(frozen=True, slots=True)
class _Session:
    """`shopper`: who was named last, if anybody. `used`: when. `size`: bytes of memory."""

    shopper: str
    items: tuple[str, ...]
    used: float
    size: int


class Sessions:
    """Events by session, or by shopper where no session is named. Safe to use from several threads."""

    def __init__(
        self, limits: SessionLimits = SessionLimits(), clock: Callable[[], float] = monotonic
    ) -> None:
        self._limits, self._clock = limits, clock
        self._kept: OrderedDict[tuple[str, str], _Session] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def add(self, shopper: str, session: str, item: str) -> None:
        """Keep an event; without shopper and session it plays no part."""
        if not (shopper or session):
            return
        with self._lock:
            key = _key(shopper, session)
            before = self._drop(key)
            items = (*(before.items if before else ()), item)[-self._limits.events :]
            whose = shopper or (before.shopper if before else "")
            size = _EMPTY + sum(map(getsizeof, (*key, whose, *items)))
            self._kept[key] = _Session(whose, items, self._clock(), size)
            self._bytes += size
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
                    self._drop(key)

    def end(self, session: str) -> None:
        """Forget one session."""
        with self._lock:
            self._drop(_key("", session))

    def rest(self) -> None:
        """Forget what rested for too long, though nobody asks."""
        with self._lock:
            self._forget()

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
            first, kept = next(iter(self._kept.items()))
            few = len(self._kept) <= self._limits.sessions and self._bytes <= self._limits.bytes
            if few and kept.used >= latest:
                return
            self._drop(first)

    def _drop(self, key: tuple[str, str]) -> _Session | None:
        """Take a session out, if it is there."""
        kept = self._kept.pop(key, None)
        self._bytes -= kept.size if kept else 0
        return kept


def _key(shopper: str, session: str) -> tuple[str, str]:
    return ("", session) if session else (shopper, "")
