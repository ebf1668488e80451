"""The snapshot that answers now: exchanged whole, so a question sees the old or the new, never a mixture."""

import threading

from clients.data.ids import one_spelling
from clients.serving.asks import Who
from clients.serving.erased import Tombstones
from clients.serving.sessions import Sessions
from clients.serving.snapshot import Snapshot
from shared_model.errors import FedcartError


class TenantError(FedcartError):
    """A snapshot of another platform: one process serves one platform only."""

    exit_code = 70
    code = "serving.tenant"


class Current:
    """What is served: one platform's snapshot, its sessions, and who was erased since."""

    def __init__(
        self, snapshot: Snapshot, sessions: Sessions | None = None, erased: Tombstones | None = None
    ) -> None:
        self._snapshot, self._gone = snapshot, frozenset[str]()
        self._lock = threading.Lock()
        self.sessions, self._erased = sessions or Sessions(), erased

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot to answer the next question from."""
        return self._snapshot

    def swap(self, snapshot: Snapshot) -> None:
        """Serve another snapshot of the same platform; raise TenantError for another's."""
        with self._lock:
            if snapshot.platform != self._snapshot.platform:
                raise TenantError(
                    f"This process serves {self._snapshot.platform!r}, not {snapshot.platform!r}: start another."
                )
            self._snapshot = snapshot.without(self._gone)

    def erase(self, shoppers: frozenset[str], sessions: frozenset[str] = frozenset()) -> None:
        """Make shoppers unknown at once, in this and every later snapshot, and forget sessions."""
        with self._lock:
            self._gone |= shoppers
            self._snapshot = self._snapshot.without(self._gone)
        self.sessions.erase(shoppers, sessions)

    def add(self, shopper: str, session: str, item: str) -> None:
        """Keep an event in its session, unless it is of someone who was erased. Ids get their one spelling."""
        shopper, session, item = map(one_spelling, (shopper, session, item))
        if self._erased is not None and (
            self._erased.shoppers([shopper]) or self._erased.sessions([session])
        ):
            return
        self.sessions.add(shopper, session, item)

    def joined(self, who: Who) -> Who:
        """Return who asks with the events of the session."""
        return self.sessions.joined(who)
